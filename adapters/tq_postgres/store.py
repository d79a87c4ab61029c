"""The task store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tq.model import Chunk, Message, Outgoing, Place, Record, TaskStatus
from tq.ports import OutcomeKey, Stored, TaskStore

from . import shapes
from .commit import chunk_columns
from .queue import PostgresCustody

__all__ = ["PostgresStore"]

_OUTCOMES = """
    SELECT o.task_id, o.generation, o.attempt, o.outcome, o.carried, o.at
    FROM unnest($1::text[], $2::int[], $3::int[]) u (task_id, generation, attempt)
    JOIN tq_outcomes o ON o.task_id = u.task_id AND o.generation = u.generation AND o.attempt = u.attempt"""

_STATS = """
    SELECT (SELECT count(*) FROM tq_records) AS records, (SELECT count(*) FROM tq_records WHERE dead) AS dead,
        (SELECT count(*) FROM tq_outcomes) AS outcomes, (SELECT count(*) FROM tq_chunks) AS chunks,
        (SELECT count(*) FROM tq_outgoing) AS outgoing"""


class PostgresStore(PostgresCustody, TaskStore):
    """Durable: what was accepted is in the database until it is removed by name or by retention."""

    place = Place.STORE

    async def park(self, message: Message, token: str, lease: float) -> bool:
        parked: bool = await self._database.call("park", *message, token, lease)
        return parked

    async def put(self, messages: Sequence[tuple[Message, str]]) -> None:
        if messages:
            given = shapes.columns([(*message, flow) for message, flow in messages], 11)
            await self._database.call("put", *given, wakes=True)

    async def resolve(self, task_id: str, flow_id: str) -> bool:
        return await self._database.call("resolve", [task_id], [flow_id], wakes=True) is None

    async def append_if_parked(self, lane: str, messages: Sequence[Message]) -> bool:
        added: bool = await self._database.call("append", lane, *shapes.message_columns(messages), wakes=True)
        return added

    async def record(self, records: Sequence[Record]) -> None:
        if records:
            await self._database.call("record", *shapes.record_columns(records))

    async def records(self, ids: Sequence[str]) -> dict[str, Record]:
        sql = f"SELECT {shapes.RECORD} FROM tq_records WHERE task_id = ANY ($1::text[])"
        return {row[0]: shapes.record(row) for row in await self._database.fetch(sql, list(ids))}

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
        where: list[str] = []
        values: list[object] = [limit]
        if dead is not None:
            where.append("dead" if dead else "NOT dead")  # not bound: the partial index must be seen to fit
        for column, value in (("status", status and str(status)), ("queue", queue), ("type", type)):
            if value is not None:
                values.append(value)
                where.append(f"{column} = ${len(values)}")
        if after is not None:
            values += after
            where.append(f"(at, task_id) < (${len(values) - 1}, ${len(values)})")
        sql = (
            f"SELECT {shapes.RECORD} FROM tq_records WHERE {' AND '.join(where) or 'true'}"
            " ORDER BY at DESC, task_id DESC LIMIT $1"
        )
        return [shapes.record(row) for row in await self._database.fetch(sql, *values)]

    async def revive(self, ids: Sequence[str], at: float, stats: bytes = b"") -> list[str]:
        return list(await self._database.call("revive", list(ids), at, stats, wakes=True))

    async def forget(self, ids: Sequence[str]) -> list[str]:
        gone: set[str] = set(await self._database.call("forget", list(ids)) or ())
        return [id for id in dict.fromkeys(ids) if id in gone]

    async def put_outcomes(self, outcomes: Sequence[tuple[OutcomeKey, bytes]], at: float) -> dict[OutcomeKey, Stored]:
        if not outcomes:
            return {}
        first: dict[OutcomeKey, bytes] = {}
        for key, outcome in outcomes:
            first.setdefault(key, outcome)
        given = [(*key, outcome) for key, outcome in first.items()]
        places = await self._database.call("put_outcomes", *shapes.columns(given, 4), at)
        return await self.outcomes(shapes.named(places, list(first)))

    async def outcomes(self, keys: Sequence[OutcomeKey]) -> dict[OutcomeKey, Stored]:
        if not keys:
            return {}
        found = await self._database.fetch(_OUTCOMES, *shapes.columns(keys, 3))
        return {(key := OutcomeKey(*row[:3])): Stored(key, *row[3:]) for row in found}

    async def carried(self, keys: Sequence[OutcomeKey]) -> None:
        if keys:
            await self._database.call("carry", *shapes.columns(keys, 3))

    async def uncarried(self, after: OutcomeKey | None, limit: int) -> Sequence[Stored]:
        where = "" if after is None else " AND (task_id, generation, attempt) > ($2, $3, $4)"
        sql = (
            f"SELECT task_id, generation, attempt, outcome, carried, at FROM tq_outcomes WHERE NOT carried{where}"
            " ORDER BY task_id, generation, attempt LIMIT $1"
        )
        found = await self._database.fetch(sql, limit, *(after or ()))
        return [Stored(OutcomeKey(*row[:3]), *row[3:]) for row in found]

    async def put_chunks(self, chunks: Sequence[Chunk]) -> None:
        if chunks:
            await self._database.call("put_chunks", *chunk_columns(chunks))

    async def chunk(self, plan: str, number: int) -> Chunk | None:
        sql = (
            f"SELECT c.at AS written, m.* FROM tq_chunks c LEFT JOIN (SELECT plan, number, place, {shapes.MESSAGE}"
            " FROM tq_chunk_messages) m USING (plan, number) WHERE c.plan = $1 AND c.number = $2 ORDER BY m.place"
        )
        found = await self._database.fetch(sql, plan, number)
        if not found:
            return None
        messages = [Message(*row[-10:]) for row in found if row["place"] is not None]
        return Chunk(plan, number, tuple(messages), found[0]["written"])

    async def put_outgoing(self, notes: Sequence[Outgoing]) -> None:
        if notes:
            await self._database.call("note", *shapes.columns([note[:3] for note in notes], 3))

    async def outgoing(self, topic: str, limit: int) -> Sequence[Outgoing]:
        sql = "SELECT topic, id, body, seq FROM tq_outgoing WHERE topic = $1 ORDER BY seq LIMIT $2"
        return [Outgoing(*row) for row in await self._database.fetch(sql, topic, limit)]

    async def sent(self, notes: Sequence[Outgoing]) -> None:
        sql = (
            "DELETE FROM tq_outgoing o USING unnest($1::bigint[], $2::text[], $3::text[]) u (seq, topic, id)"
            " WHERE o.seq = u.seq AND o.topic = u.topic AND o.id = u.id"
        )
        await self._database.fetch(sql, *shapes.columns([(note.seq, note.topic, note.id) for note in notes], 3))

    async def purge(self, now: float, remember: float, limit: int) -> int:
        gone: int = await self._database.call("purge", now, now - remember, limit)
        return gone

    async def stats(self) -> Mapping[str, int]:
        [row] = await self._database.fetch(_STATS)
        return dict(row)
