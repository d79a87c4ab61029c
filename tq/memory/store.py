"""The store in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tq.model import Chunk, Effects, Message, Outgoing, Place, Record, TaskStatus
from tq.ports import OutcomeKey, Stored, TaskStore

from .content import check_effects, check_messages, check_text
from .custody import MemoryCustody

__all__ = ["MemoryStore"]


class MemoryStore(MemoryCustody, TaskStore):
    """Keeps what it accepted as long as the process lasts."""

    _place = Place.STORE

    # --- custody that comes over from a queue ---------------------------------------------------------------------

    async def park(self, message: Message, token: str, lease: float) -> bool:
        with self._enter():
            check_messages([message])
            now = self._now
            return self._messages.park(message, token, now + lease, now)

    async def put(self, messages: Sequence[tuple[Message, str]]) -> None:
        with self._enter():
            check_messages([message for message, _ in messages])
            now = self._now
            for message, flow_id in messages:
                self._messages.put(message, flow_id, now)
            self._ring()

    async def resolve(self, task_id: str, flow_id: str) -> bool:
        with self._enter():
            row = self._messages.held_by(task_id, flow_id)
            if row is None:
                return False
            self._messages.remove(row, self._now)
            self._ring()
            return True

    async def append_if_parked(self, lane: str, messages: Sequence[Message]) -> bool:
        with self._enter():
            check_messages(messages)
            appended = self._messages.append(lane, messages, self._now, self._ledger.records)
            self._ring()
            return appended

    # --- endings --------------------------------------------------------------------------------------------------

    async def record(self, records: Sequence[Record]) -> None:
        with self._enter():
            check_effects(Effects(records=tuple(records)))
            for record in records:
                self._ledger.record(record)

    async def records(self, ids: Sequence[str]) -> dict[str, Record]:
        with self._enter():
            records = self._ledger.records
            return {task_id: records[task_id] for task_id in ids if task_id in records}

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
        with self._enter():
            return self._ledger.list_records(dead=dead, status=status, queue=queue, type=type, after=after, limit=limit)

    async def revive(self, ids: Sequence[str], at: float, stats: bytes = b"") -> list[str]:
        with self._enter():
            now, revived = self._now, list[str]()
            for task_id in ids:
                message = None if task_id in self._messages.rows else self._ledger.revive(task_id, at, stats)
                if message is not None:
                    self._messages.insert(message, now, Place.STORE)
                    revived.append(task_id)
            self._ring()
            return revived

    async def forget(self, ids: Sequence[str]) -> list[str]:
        with self._enter():
            return self._ledger.forget(ids)

    # --- outcomes across servers ----------------------------------------------------------------------------------

    async def put_outcomes(self, outcomes: Sequence[tuple[OutcomeKey, bytes]], at: float) -> dict[OutcomeKey, Stored]:
        with self._enter():
            check_text(*[key.task_id for key, _ in outcomes])
            return self._ledger.put_outcomes(outcomes, at)

    async def outcomes(self, keys: Sequence[OutcomeKey]) -> dict[OutcomeKey, Stored]:
        with self._enter():
            return self._ledger.outcomes(keys)

    async def carried(self, keys: Sequence[OutcomeKey]) -> None:
        with self._enter():
            self._ledger.carried(keys)

    async def uncarried(self, after: OutcomeKey | None, limit: int) -> Sequence[Stored]:
        with self._enter():
            return self._ledger.uncarried(after, limit)

    # --- wide plans -----------------------------------------------------------------------------------------------

    async def put_chunks(self, chunks: Sequence[Chunk]) -> None:
        with self._enter():
            check_effects(Effects(chunks=tuple(chunks)))
            for chunk in chunks:
                self._ledger.put_chunk(chunk)

    async def chunk(self, plan: str, number: int) -> Chunk | None:
        with self._enter():
            return self._ledger.chunk(plan, number)

    # --- outgoing notes -------------------------------------------------------------------------------------------

    async def put_outgoing(self, notes: Sequence[Outgoing]) -> None:
        with self._enter():
            check_effects(Effects(outgoing=tuple(notes)))
            for note in notes:
                self._ledger.put_note(note)

    async def outgoing(self, topic: str, limit: int) -> Sequence[Outgoing]:
        with self._enter():
            return self._ledger.notes(topic, limit)

    async def sent(self, notes: Sequence[Outgoing]) -> None:
        with self._enter():
            self._ledger.sent(notes)

    # --- upkeep ---------------------------------------------------------------------------------------------------

    async def purge(self, now: float, remember: float, limit: int) -> int:
        with self._enter():
            return self._ledger.purge(now, remember, limit)

    async def stats(self) -> Mapping[str, int]:
        with self._enter():
            return self._ledger.stats()
