"""What is kept besides live messages: records of endings, outcomes, chunks of plans, outgoing notes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from heapq import heappop, heappush, nlargest, nsmallest

from tq.model import Chunk, Message, Outgoing, Record, TaskStatus
from tq.ports import OutcomeKey, Stored

__all__ = ["Ledger"]


class Ledger:
    """Tables of a store. Whoever calls holds the server's lock; nothing in here waits."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self._expiries: list[tuple[float, str]] = []
        self._outcomes: dict[OutcomeKey, Stored] = {}
        self._uncarried: set[OutcomeKey] = set()
        self._chunks: dict[tuple[str, int], Chunk] = {}
        self._notes: dict[str, dict[str, Outgoing]] = {}
        self._noted = 0

    # --- records --------------------------------------------------------------------------------------------------

    def record(self, record: Record) -> None:
        """Insert; over a record of the same id only if the generation is larger."""
        old = self.records.get(record.task_id)
        if old is None or record.generation > old.generation:
            self.records[record.task_id] = record
            heappush(self._expiries, (record.expires_at, record.task_id))

    def list_records(
        self,
        *,
        dead: bool | None,
        status: TaskStatus | None,
        queue: str | None,
        type: str | None,
        after: tuple[float, str] | None,
        limit: int,
    ) -> list[Record]:
        """Return records, newest first."""
        fitting = (
            record
            for record in self.records.values()
            if (dead is None or record.dead is dead)
            and (status is None or record.status is status)
            and (queue is None or record.queue == queue)
            and (type is None or record.type == type)
            and (after is None or (record.at, record.task_id) < after)
        )
        return nlargest(limit, fitting, key=lambda record: (record.at, record.task_id))

    def revive(self, task_id: str, at: float, stats: bytes) -> Message | None:
        """Take a record away and return the message of its next generation; None where there is no body."""
        record = self.records.get(task_id)
        if record is None or record.body is None:
            return None
        del self.records[task_id]
        return Message(
            task_id,
            record.queue,
            record.type,
            record.body,
            at,
            record.generation + 1,
            stats=stats,
            fence=record.fence,
        )

    def forget(self, ids: Sequence[str]) -> list[str]:
        """Remove records; return the ids removed."""
        return [task_id for task_id in ids if self.records.pop(task_id, None) is not None]

    # --- outcomes -------------------------------------------------------------------------------------------------

    def put_outcomes(self, outcomes: Iterable[tuple[OutcomeKey, bytes]], at: float) -> dict[OutcomeKey, Stored]:
        """Record each unless its key has one; return those that were there."""
        before: dict[OutcomeKey, Stored] = {}
        for key, outcome in outcomes:
            stored = self._outcomes.get(key)
            if stored is None:
                self._outcomes[key] = Stored(key, outcome, carried=False, at=at)
                self._uncarried.add(key)
            else:
                before[key] = stored
        return before

    def outcomes(self, keys: Sequence[OutcomeKey]) -> dict[OutcomeKey, Stored]:
        """Return what is recorded."""
        return {key: self._outcomes[key] for key in keys if key in self._outcomes}

    def carried(self, keys: Sequence[OutcomeKey]) -> None:
        """Note that the effects of these are carried out."""
        for key in keys:
            stored = self._outcomes.get(key)
            if stored is not None:
                self._outcomes[key] = stored._replace(carried=True)
                self._uncarried.discard(key)

    def uncarried(self, after: OutcomeKey | None, limit: int) -> list[Stored]:
        """Return a page of those that are not noted as carried out, by key."""
        keys = [key for key in self._uncarried if after is None or key > after]
        return [self._outcomes[key] for key in nsmallest(limit, keys)]

    # --- chunks and notes -----------------------------------------------------------------------------------------

    def put_chunk(self, chunk: Chunk) -> None:
        """Write a part of a plan unless it is there."""
        self._chunks.setdefault((chunk.plan, chunk.number), chunk)

    def chunk(self, plan: str, number: int) -> Chunk | None:
        """Return a part of a plan."""
        return self._chunks.get((plan, number))

    def put_note(self, note: Outgoing) -> None:
        """Append a note unless it is there."""
        notes = self._notes.setdefault(note.topic, {})
        if note.id not in notes:
            self._noted += 1
            notes[note.id] = note._replace(seq=self._noted)

    def notes(self, topic: str, limit: int) -> list[Outgoing]:
        """Return the oldest notes of a topic."""
        return [note for note, _ in zip(self._notes.get(topic, {}).values(), range(limit), strict=False)]

    def sent(self, notes: Sequence[Outgoing]) -> None:
        """Remove notes that were handed over; one that was put again since has another number."""
        for note in notes:
            kept = self._notes.get(note.topic, {})
            if note.id in kept and kept[note.id].seq == note.seq:
                del kept[note.id]
                if not kept:
                    del self._notes[note.topic]

    # --- upkeep ---------------------------------------------------------------------------------------------------

    def purge(self, now: float, remember: float, limit: int) -> int:
        """Drop what retention allows; return how many rows."""
        gone = 0
        while self._expiries and self._expiries[0][0] <= now and gone < limit:
            expires_at, task_id = heappop(self._expiries)
            record = self.records.get(task_id)
            if record is not None and record.expires_at == expires_at:
                del self.records[task_id]
                gone += 1
        before = now - remember
        outcomes = [key for key, stored in self._outcomes.items() if stored.carried and stored.at < before]
        chunks = [key for key, chunk in self._chunks.items() if chunk.at < before]
        for key in outcomes[: limit - gone]:
            del self._outcomes[key]
            gone += 1
        for place in chunks[: limit - gone]:
            del self._chunks[place]
            gone += 1
        return gone

    def stats(self) -> Mapping[str, int]:
        """Return row counts by kind."""
        return {
            "records": len(self.records),
            "dead": sum(record.dead for record in self.records.values()),
            "outcomes": len(self._outcomes),
            "chunks": len(self._chunks),
            "outgoing": sum(len(notes) for notes in self._notes.values()),
        }
