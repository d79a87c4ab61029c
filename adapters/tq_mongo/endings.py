"""How tasks leave: at once, by one write each, or as the last step of an ending that was carried out."""

from __future__ import annotations

from collections.abc import Sequence

from tq.model import Hold, Rearm, Receipt, Record, Remove

from . import changes
from .database import Database
from .documents import LIVE, expiry_of, record_fields
from .driver import DeleteMany, UpdateOne
from .journal import Entry
from .lanes import Lanes
from .leases import by_token
from .swap import swap
from .table import Document, Write

__all__ = ["Endings", "is_own"]

_ALONE = {"lane": {"$exists": False}, "record": {"$exists": False}}
"""In no lane, whose turn would have to be passed on, and without a record of an earlier generation."""
_BARE = {"$unset": dict.fromkeys(LIVE, ""), "$inc": {"version": 1}}


def is_own(entry: Entry, record: Record) -> bool:
    """Tell whether a record is that of the very task that ends: it is then written with its end."""
    return entry.id == record.task_id and isinstance(entry.ending, Remove)


class Endings:
    """Lets tasks go."""

    def __init__(self, database: Database, lanes: Lanes) -> None:
        self._database = database
        self._tasks = database.tasks
        self._lanes = lanes

    async def leave(self, gone: Sequence[Receipt], kept: Sequence[tuple[Receipt, Record]]) -> list[Receipt]:
        """End deliveries that leave nothing, or their own record: each by one write, behind its lease.

        Returns those whose lease was lost since it was looked at.
        """
        writes: list[Write] = [
            DeleteMany({"_id": {"$in": ids}, "token": token, "state": "running", **_ALONE})
            for token, ids in by_token(gone).items()
        ]
        for receipt, record in kept:
            mine = {"_id": receipt.id, "token": receipt.token, "state": "running", **_ALONE}
            writes.append(UpdateOne(mine, _ended(record)))
        written = await self._tasks.write(writes)
        every = [*gone, *(receipt for receipt, _ in kept)]
        if written.matched + written.deleted == len(every):
            return []
        live = await self._tasks.find({"_id": {"$in": [it.id for it in every]}, "live": True}, fields={"live": 1})
        others = {it["_id"] for it in live}
        return [receipt for receipt in every if receipt.id in others]

    async def finish(self, entries: Sequence[Entry]) -> None:
        """Let tasks end as was decided, now that everything they bring is written."""
        if not entries:
            return
        plain: list[str] = []
        writes: list[Write] = []
        for entry in entries:
            own = [record for record in entry.effects.records if is_own(entry, record)]
            if not own and (entry.ending is None or isinstance(entry.ending, Remove)):
                plain.append(entry.key)
            elif len(own) == 1 and not entry.resolved:
                writes.append(UpdateOne({"_id": entry.id, **_mine(entry), **_ALONE}, _ended(own[0])))
        if plain:
            ids = [entry.id for entry in entries]
            writes.append(DeleteMany({"_id": {"$in": ids}, "ending.key": {"$in": plain}, **_ALONE}))
        written = await self._tasks.write(writes)
        if written.matched + written.deleted < len(entries):
            await self._finish_others(entries)

    async def _finish_others(self, entries: Sequence[Entry]) -> None:
        """Let those end that are in a lane, go on living, or take the body of their message with them."""
        by_id = {entry.id: entry for entry in entries}
        now = await self._database.now()
        lanes: set[str] = set()

        def leave_lane(document: Document) -> Document:
            entry = by_id[document["_id"]]
            if is_mine(document, entry) and isinstance(entry.ending, Remove) and "lane" in document:
                lanes.add(document["lane"])
                document["ending"] = document["ending"] | {"stage": "leaving"}
                document.pop("turn", None)
            return document

        def finish(document: Document) -> Document | None:
            entry = by_id[document["_id"]]
            return _finished(document, entry, now) if is_mine(document, entry) else document

        await swap(self._tasks, by_id, leave_lane, fields={"body": 0, "ending.effects": 0})
        await self._lanes.pass_on(lanes)
        await swap(self._tasks, by_id, finish, fields={"ending.effects": 0})


def _mine(entry: Entry) -> dict[str, str]:
    return {"token": entry.token, "ending.key": entry.key}


def is_mine(document: Document, entry: Entry) -> bool:
    """Tell whether a document still holds this ending, and nobody has taken it over."""
    ending = document.get("ending")
    return ending is not None and ending["key"] == entry.key and document["token"] == entry.token


def _ended(record: Record) -> dict[str, object]:
    fields = record_fields(record)
    return {**_BARE, "$set": {"state": "ended", "record": fields, "expires": expiry_of(fields)}}


def _finished(document: Document, entry: Entry, now: float) -> Document | None:
    document.pop("ending")
    match entry.ending:
        case None:
            return None
        case Rearm():
            changes.rearm(document, entry.ending, now)
            return document
        case Hold(flow_id):
            changes.hold(document, flow_id)
            return document
        case Remove():
            for record in entry.effects.records:
                if is_own(entry, record):
                    changes.keep(document, _with_body(document, record) if entry.resolved else record)
            return changes.end(document)


def _with_body(document: Document, record: Record) -> Record:
    """Return the record with the body of its message: who ended it did not have that, and it could not be replayed."""
    if not record.dead or record.body is not None:
        return record
    fence = max(record.fence, document.get("fence", 0))
    return record._replace(body=document["body"], fence=fence)
