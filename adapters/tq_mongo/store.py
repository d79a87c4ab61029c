"""The task store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tq.model import Chunk, Message, Outgoing, Place, Record, TaskStatus
from tq.ports import OutcomeKey, Stored, TaskStore

from . import changes, records
from .documents import new_task
from .queue import MongoCustody
from .records import keep
from .swap import swap
from .table import Document

__all__ = ["MongoStore"]

ORPHANED = 3600.0
"""Seconds after which what belongs to no ending any more is dropped: its writer died before it counted."""


class MongoStore(MongoCustody, TaskStore):
    """Durable as far as the server is: what was accepted stays until it is removed by name or by retention."""

    place = Place.STORE

    async def park(self, message: Message, token: str, lease: float) -> bool:
        until = await self._database.now() + lease
        [made] = await self.documents([message])
        changes.lease(made, token, until)
        made["fence"] = message.fence + 1
        parked = await self._put(message, made)
        await self._lanes.pass_on([message.lane])
        return parked

    async def put(self, messages: Sequence[tuple[Message, str]]) -> None:
        made = await self.documents([message for message, _ in messages])
        for document, (_, flow_id) in zip(made, messages, strict=True):
            if flow_id:
                changes.hold(document, flow_id)
        now = await self._database.now()
        for place in await self._tasks.insert(made):
            message, flow_id = messages[place]
            await self._put(message, made[place], later=(flow_id, now))
        await self._lanes.pass_on(message.lane for message, _ in messages)
        self._database.bell.ring()

    async def _put(self, message: Message, made: Document, later: tuple[str, float] | None = None) -> bool:
        """Insert a document beside the record of its id, if there is one; `later` lets it replace a live one.

        False where the id is live.
        """
        if later is None and not await self._tasks.insert([made]):
            return True
        put = False

        def change(document: Document) -> Document:
            nonlocal put
            put = not document.get("live")
            if put:
                return changes.reborn(document, made) | {"record": document["record"]}
            if later is not None and changes.replace(document, message, later[1]) and later[0]:
                changes.hold(document, later[0])
            return document

        await swap(self._tasks, [message.id], change)
        return put

    async def resolve(self, task_id: str, flow_id: str) -> bool:
        resolved = False
        lane = ""

        def change(document: Document) -> Document | None:
            nonlocal resolved, lane
            resolved = bool(flow_id) and document.get("held_by") == flow_id
            lane = document.get("lane", "")
            return changes.end(document) if resolved else document

        await swap(self._tasks, [task_id], change)
        await self._lanes.pass_on([lane])
        return resolved

    async def append_if_parked(self, lane: str, messages: Sequence[Message]) -> bool:
        """Add to a lane that had somebody in it when it was looked at: whoever has gone since, the order is kept."""
        for message in messages:  # refused before it is known whether there is a lane
            new_task(message, seq=0, place=self.place)
        if not await self._lanes.there(lane):
            return False
        await self.add(messages)
        return True

    # --- endings --------------------------------------------------------------------------------------------------

    async def record(self, records: Sequence[Record]) -> None:
        await keep(self._database, records)

    async def records(self, ids: Sequence[str]) -> dict[str, Record]:
        return await records.find(self._database, ids)

    async def list_records(
        self,
        *,
        dead: bool | None = None,
        status: TaskStatus | None = None,
        queue: str | None = None,
        type: str | None = None,
        after: tuple[float, str] | None = None,
        limit: int = 100,
    ) -> Sequence[Record]:
        return await records.page(
            self._database, dead=dead, status=status, queue=queue, type=type, after=after, limit=limit
        )

    async def revive(self, ids: Sequence[str], at: float, stats: bytes = b"") -> list[str]:
        revived = await records.revive(self._database, ids, at, stats, self.place)
        self._database.bell.ring()
        return revived

    async def forget(self, ids: Sequence[str]) -> list[str]:
        return await records.forget(self._database, ids)

    # --- outcomes, plans, notes -----------------------------------------------------------------------------------

    async def put_outcomes(self, outcomes: Sequence[tuple[OutcomeKey, bytes]], at: float) -> dict[OutcomeKey, Stored]:
        return await self.backend.ledger.put_outcomes(outcomes, at)

    async def outcomes(self, keys: Sequence[OutcomeKey]) -> dict[OutcomeKey, Stored]:
        return await self.backend.ledger.outcomes(keys)

    async def carried(self, keys: Sequence[OutcomeKey]) -> None:
        await self.backend.ledger.carried(keys)

    async def uncarried(self, after: OutcomeKey | None, limit: int) -> Sequence[Stored]:
        return await self.backend.ledger.uncarried(after, limit)

    async def put_chunks(self, chunks: Sequence[Chunk]) -> None:
        await self.backend.ledger.put_chunks(chunks)

    async def chunk(self, plan: str, number: int) -> Chunk | None:
        return await self.backend.ledger.chunk(plan, number)

    async def put_outgoing(self, notes: Sequence[Outgoing]) -> None:
        await self.backend.ledger.put_outgoing(notes)

    async def outgoing(self, topic: str, limit: int) -> Sequence[Outgoing]:
        return await self.backend.ledger.outgoing(topic, limit)

    async def sent(self, notes: Sequence[Outgoing]) -> None:
        await self.backend.ledger.sent(notes)

    # --- upkeep ---------------------------------------------------------------------------------------------------

    async def purge(self, now: float, remember: float, limit: int) -> int:
        gone = await records.drop_expired(self._database, now, limit)
        gone += await self.backend.ledger.purge(now - remember, limit - gone)
        await self._lanes.mend(limit)
        await self.backend.journal.sweep(await self._database.now() - ORPHANED, limit)
        return gone

    async def stats(self) -> Mapping[str, int]:
        database = self._database
        return {
            "records": await self._tasks.count({"record": {"$exists": True}}),
            "dead": await self._tasks.count({"record.dead": True}),
            "outcomes": await database.outcomes.count({}),
            "chunks": await database.chunks.count({}),
            "outgoing": await database.notes.count({}),
        }
