"""What a store keeps beside tasks: outcomes across servers, plans, and the outbox."""

from __future__ import annotations

from collections.abc import Sequence

from tq.model import Chunk, Outgoing
from tq.ports import OutcomeKey, Stored

from . import flows
from .database import Database
from .documents import id_of_two
from .driver import DeleteOne
from .swap import swap
from .table import Document, Table
from .wire import chunk_words, read_chunk

__all__ = ["Ledger"]


class Ledger:
    """Writes each once: what is there stays as it is."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._outcomes = database.outcomes
        self._chunks = database.chunks
        self._notes = database.notes

    # --- outcomes -------------------------------------------------------------------------------------------------

    async def put_outcomes(self, outcomes: Sequence[tuple[OutcomeKey, bytes]], at: float) -> dict[OutcomeKey, Stored]:
        """Record each unless its key has one; return those that were there."""
        rows = [{"_id": _name(key), "outcome": outcome, "carried": False, "at": at} for key, outcome in outcomes]
        taken = await self._outcomes.insert(rows)
        return await self.outcomes([outcomes[place][0] for place in taken]) if taken else {}

    async def outcomes(self, keys: Sequence[OutcomeKey]) -> dict[OutcomeKey, Stored]:
        """Return what is recorded."""
        names = {_name(key): key for key in keys}
        found = {it["_id"]: it for it in await self._outcomes.find({"_id": {"$in": list(names)}})}
        return {
            key: Stored(key, found[name]["outcome"], found[name]["carried"], found[name]["at"])
            for name, key in names.items()
            if name in found
        }

    async def carried(self, keys: Sequence[OutcomeKey]) -> None:
        """Note that the effects of these are carried out."""
        await self._outcomes.update({"_id": {"$in": [_name(key) for key in keys]}}, {"$set": {"carried": True}})

    async def uncarried(self, after: OutcomeKey | None, limit: int) -> list[Stored]:
        """Return a page of those that are not noted as carried out, by name."""
        if limit <= 0:
            return []
        beyond = {} if after is None else {"_id": {"$gt": _name(after)}}
        found = await self._outcomes.find({"carried": False, **beyond}, order=[("_id", 1)], limit=limit)
        return [Stored(_key(it["_id"]), it["outcome"], it["carried"], it["at"]) for it in found]

    # --- wide plans -----------------------------------------------------------------------------------------------

    async def put_chunks(self, chunks: Sequence[Chunk]) -> None:
        """Write parts of plans."""
        await self._chunks.insert(
            [{"_id": id_of_two(it.plan, it.number), "at": it.at, "chunk": chunk_words(it)} for it in chunks]
        )

    async def chunk(self, plan: str, number: int) -> Chunk | None:
        """Return a part of a plan."""
        found = await self._chunks.one(id_of_two(plan, number))
        return None if found is None else read_chunk(found["chunk"])

    async def spread(self, spreads: Sequence[tuple[str, int]]) -> None:
        """Note how far plans have become tasks; never back."""
        furthest: dict[str, int] = {}
        for flow_id, number in spreads:
            furthest[flow_id] = max(number, furthest.get(flow_id, 0))

        def change(document: Document) -> Document:
            flows.advance(document, furthest[document["_id"]], None)
            return document

        await swap(self._database.flows, furthest, change, fields={"members": 0})

    # --- notes ----------------------------------------------------------------------------------------------------

    async def put_outgoing(self, notes: Sequence[Outgoing]) -> None:
        """Append notes, numbering them."""
        if notes:
            first = await self._database.meta.reserve("notes", len(notes))
            rows = [
                {"_id": id_of_two(it.topic, it.id), "topic": it.topic, "id": it.id, "body": it.body, "seq": seq}
                for seq, it in enumerate(notes, first)
            ]
            await self._notes.insert(rows)

    async def outgoing(self, topic: str, limit: int) -> list[Outgoing]:
        """Return the oldest notes of a topic."""
        if limit <= 0:
            return []
        found = await self._notes.find({"topic": topic}, order=[("seq", 1)], limit=limit)
        return [Outgoing(it["topic"], it["id"], it["body"], it["seq"]) for it in found]

    async def sent(self, notes: Sequence[Outgoing]) -> None:
        """Remove notes that were handed over; one that was put again since has another number."""
        await self._notes.write([DeleteOne({"_id": id_of_two(it.topic, it.id), "seq": it.seq}) for it in notes])

    # --- upkeep ---------------------------------------------------------------------------------------------------

    async def purge(self, before: float, limit: int) -> int:
        """Drop carried outcomes and plans older than this; return how many."""
        gone = await _drop(self._outcomes, {"carried": True, "at": {"$lt": before}}, limit)
        return gone + await _drop(self._chunks, {"at": {"$lt": before}}, limit - gone)


async def _drop(table: Table, query: Document, limit: int) -> int:
    if limit <= 0:
        return 0
    ids = [it["_id"] for it in await table.find(query, fields={"at": 1}, limit=limit)]
    return await table.delete({**query, "_id": {"$in": ids}}) if ids else 0


def _name(key: OutcomeKey) -> str:
    return f"{key.task_id}\0{key.generation}\0{key.attempt}"


def _key(name: str) -> OutcomeKey:
    task_id, generation, attempt = name.rsplit("\0", 2)
    return OutcomeKey(task_id, int(generation), int(attempt))
