"""Endings that bring something: what is to be done is written first, by one write, behind the lease.

A settlement whose effects are more than its own document cannot be one write here. So it is two steps. The first puts
everything that it brings into the document of its task, where the token still is the lease's: from then on it counts,
whole, and nothing else can happen to the task. The second carries it out (`carry`), in writes that may each be made
again. Whoever dies in between leaves a document whose lease runs out, and the next claim goes on from there.

Effects that stand behind no lease have a document of their own for as long as they are being carried out. What is too
large for a document lies in `parts`, written before.

    running ──ending──▶ ending ──stage "written"──▶ gone, ended, waiting, held
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tq.model import Effects, Ending, Receipt, Remove

from .database import Database
from .driver import UpdateOne
from .table import Document, Write
from .wire import ending_from, ending_words, pack, unpack

__all__ = ["Entry", "Journal", "entry_for"]

LEASE = 30.0
"""Seconds that a worker has to carry an ending out, unless its claims say otherwise; then it may be taken over."""
INLINE = 4 << 20
"""Bytes of effects that stand in the document itself: beside a task's body they fit."""
PART = 8 << 20

_OWN = "\0"
"""First character of the ids of documents that are no task's."""


@dataclass(slots=True, eq=False)
class Entry:
    """An ending that counts, on its way."""

    id: str
    """The document that it stands in."""
    key: str
    """Names the ending: what it brings forth is marked with it until all is written."""
    ending: Ending | None
    """None for effects that stand behind no lease."""
    effects: Effects
    at: float
    """When it was decided."""
    data: bytes = b""
    """The effects as they are written down."""
    token: str = ""
    """By which it is ours to carry out: that of the lease, or of whoever took it over."""
    parts: int = 0
    again: bool = False
    """Whether somebody may have carried out a part of it before."""
    written: bool = False
    """Whether everything is written, and only to be let go."""
    resolved: bool = False
    """Whether it ends a task that was held."""


def entry_for(effects: Effects, now: float, id: str = "", ending: Ending | None = None) -> Entry:
    """Return an ending that is to count: of a task, or of nobody.

    Raises:
        UnicodeEncodeError, OverflowError, bson.errors.BSONError: something in it cannot be written down.
    """
    key = os.urandom(12).hex()
    return Entry(id or f"{_OWN}{key}", key, ending, effects, now, pack(effects))


class Journal:
    """Writes down what is to be carried out, and finds it again."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._tasks = database.tasks
        self.lease = LEASE

    async def settle(self, entries: Sequence[Entry], receipts: Sequence[Receipt]) -> tuple[list[Entry], list[Receipt]]:
        """Let endings count whose leases are held; return them, and the receipts of the others."""
        owners = [{"state": "running", "token": receipt.token} for receipt in receipts]
        begun = await self._begin(entries, owners, [receipt.token for receipt in receipts])
        if len(begun) == len(entries):
            return begun, []
        counted = {entry.id for entry in begun}
        others = [receipt for receipt in receipts if receipt.id not in counted]
        # Of those some may be ours after all: their first answer was lost.
        tokens = {receipt.token for receipt in others}
        found = await self._load({"_id": {"$in": [it.id for it in others]}, "ending.by": {"$in": list(tokens)}})
        mine = [entry for entry, by in found if Receipt(entry.id, by) in others]
        known = {entry.id for entry in mine}
        return begun + mine, [receipt for receipt in others if receipt.id not in known]

    async def resolve(self, parent: Entry) -> list[Entry]:
        """Let the tasks that end along with this one end, where their flow holds them; return those endings."""
        entries: list[Entry] = []
        owners: list[dict[str, Any]] = []
        for number, (task_id, flow_id, effects) in enumerate(parent.effects.resolves):
            if flow_id:
                key = f"{parent.key}.{number}"
                made = Entry(
                    task_id, key, Remove(), effects, parent.at, pack(effects), resolved=True, again=parent.again
                )
                entries.append(made)
                owners.append({"state": "held", "held_by": flow_id})
        tokens = [f"resolve:{entry.key}" for entry in entries]
        return await self._begin(entries, owners, tokens, repeated=parent.again) if entries else []

    async def note(self, entries: Sequence[Entry]) -> None:
        """Write down effects that stand behind no lease."""
        until = await self._database.now() + self.lease
        documents: list[Document] = []
        for entry in entries:
            entry.token = f"note:{entry.key}"
            ending = await self._ending(entry, entry.token)
            head = {"_id": entry.id, "version": 1, "state": "ending", "queue": "", "token": entry.token}
            documents.append({**head, "until": until, "ending": ending})
        await self._tasks.insert(documents)

    async def take_over(self, ids: Sequence[str], now: float) -> list[Entry]:
        """Go on with endings whose leases have run out."""
        token = f"redo:{os.urandom(12).hex()}"
        await self._tasks.update(
            {"_id": {"$in": list(ids)}, "state": "ending", "until": {"$lte": now}},
            {"$set": {"token": token, "until": now + self.lease}, "$inc": {"version": 1}},
        )
        return [entry for entry, _ in await self._load({"_id": {"$in": list(ids)}, "token": token})]

    async def steal(self, id: str, key: str) -> list[Entry]:
        """Go on with an ending that somebody waits for, whoever is at it; none where it is carried out already."""
        token = f"help:{os.urandom(12).hex()}"
        mine = {"_id": id, "ending.key": key}
        until = await self._database.now() + self.lease
        await self._tasks.update(mine, {"$set": {"token": token, "until": until}, "$inc": {"version": 1}})
        return [entry for entry, _ in await self._load({**mine, "token": token})]

    async def forget(self, entries: Sequence[Entry]) -> None:
        """Drop what lay in parts."""
        keys = [entry.key for entry in entries if entry.parts]
        if keys:
            await self._database.parts.delete({"entry": {"$in": keys}})

    async def sweep(self, before: float, limit: int) -> None:
        """Drop parts of endings that never came to count, their writers having died."""
        found = await self._database.parts.find({"at": {"$lt": before}}, fields={"entry": 1}, limit=limit)
        keys = {it["entry"] for it in found}
        if keys:
            there = await self._tasks.find(
                {"ending.key": {"$in": list(keys)}, "until": {"$gt": 0.0}}, fields={"ending.key": 1}
            )
            orphans = keys - {it["ending"]["key"] for it in there}
            await self._database.parts.delete({"entry": {"$in": list(orphans)}})

    # --- documents ------------------------------------------------------------------------------------------------

    async def _begin(
        self,
        entries: Sequence[Entry],
        owners: Sequence[dict[str, Any]],
        tokens: Sequence[str],
        *,
        repeated: bool = False,
    ) -> list[Entry]:
        until = await self._database.now() + self.lease
        writes: list[Write] = []
        for entry, owner, token in zip(entries, owners, tokens, strict=True):
            ending = await self._ending(entry, token)
            entry.token = token
            change = {"state": "ending", "token": token, "until": until, "ending": ending}
            writes.append(UpdateOne({"_id": entry.id, **owner}, {"$set": change, "$inc": {"version": 1}}))
        written = await self._tasks.write(writes)
        if written.matched == len(entries) and not repeated:
            return list(entries)
        keys = [entry.key for entry in entries]
        found = await self._tasks.find(
            {"_id": {"$in": [entry.id for entry in entries]}, "ending.key": {"$in": keys}},
            fields={"ending.key": 1, "ending.stage": 1},
        )
        stages = {it["ending"]["key"]: it["ending"].get("stage") for it in found}
        for entry in entries:
            entry.written = stages.get(entry.key) is not None
        return [entry for entry in entries if entry.key in stages]

    async def _ending(self, entry: Entry, token: str) -> Document:
        data = entry.data
        ending: Document = {"key": entry.key, "by": token, "at": entry.at, "resolved": entry.resolved}
        if entry.ending is not None:
            ending["words"] = ending_words(entry.ending)
        if len(data) <= INLINE:
            return ending | {"effects": data}
        pieces = [data[start : start + PART] for start in range(0, len(data), PART)]
        entry.parts = len(pieces)
        for number, piece in enumerate(pieces):
            row = {"_id": f"{entry.key}\0{number}", "entry": entry.key, "at": entry.at, "data": piece}
            await self._database.parts.insert([row])
        return ending | {"parts": len(pieces)}

    async def _load(self, query: dict[str, Any]) -> list[tuple[Entry, str]]:
        """Return endings that are being carried out, each with the token that it was settled by."""
        found = await self._tasks.find({**query, "state": "ending"}, fields={"ending": 1, "token": 1})
        return [(await self._entry(it), it["ending"]["by"]) for it in found]

    async def _entry(self, document: Document) -> Entry:
        ending = document["ending"]
        parts = ending.get("parts", 0)
        data = ending.get("effects", b"")
        if parts:
            ids = [f"{ending['key']}\0{number}" for number in range(parts)]
            rows = {it["_id"]: it["data"] for it in await self._database.parts.find({"_id": {"$in": ids}})}
            data = b"".join(rows[id] for id in ids)
        words = ending.get("words")
        return Entry(
            document["_id"],
            ending["key"],
            None if words is None else ending_from(words),
            unpack(data),
            ending["at"],
            data,
            document["token"],
            parts,
            again=True,
            written=ending.get("stage") is not None,
            resolved=ending.get("resolved", False),
        )
