"""The task store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tq.model import Chunk, Message, Outgoing, Place, Record, TaskStatus
from tq.ports import OutcomeKey, Stored, TaskStore

from .arguments import as_number, counted, message_arguments, record_arguments, texts
from .commit import chunk_arguments, note_arguments
from .packing import (
    chunk_key,
    outcome_key,
    pack_outcome,
    read_outcome_key,
    unpack_chunk,
    unpack_outcome,
    unpack_record,
)
from .queue import RedisCustody
from .server import Argument

__all__ = ["RedisStore"]

_LEAST_PAGE = 100
_KINDS = ("records", "dead", "outcomes", "chunks", "outgoing")


class RedisStore(RedisCustody, TaskStore):
    """Durable as far as the server is: what was accepted stays until it is removed by name or by retention."""

    place = Place.STORE

    async def park(self, message: Message, token: str, lease: float) -> bool:
        def arguments() -> Iterator[Argument]:
            yield from (*message_arguments([message]), token, as_number(lease))

        return bool(await self._server.write("park", arguments()))

    async def put(self, messages: Sequence[tuple[Message, str]]) -> None:
        def arguments() -> Iterator[Argument]:
            yield len(messages)
            for message, flow in messages:
                yield from (*message_arguments([message]), flow)

        await self._server.write("put", arguments())

    async def resolve(self, task_id: str, flow_id: str) -> bool:
        return bool(await self._server.write("resolve", (task_id, flow_id)))

    async def append_if_parked(self, lane: str, messages: Sequence[Message]) -> bool:
        def arguments() -> Iterator[Argument]:
            yield lane
            yield len(messages)
            yield from message_arguments(messages)

        return bool(await self._server.write("append", arguments()))

    # --- endings --------------------------------------------------------------------------------------------------

    async def record(self, records: Sequence[Record]) -> None:
        def arguments() -> Iterator[Argument]:
            yield from counted(record_arguments(records))

        await self._server.write("record", arguments())

    async def records(self, ids: Sequence[str]) -> dict[str, Record]:
        found = await self._server.look("records", counted(ids))
        return {id: unpack_record(id, data) for id, data in zip(ids, found, strict=True) if data is not None}

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
        found: list[Record] = []
        page = max(limit, _LEAST_PAGE)
        while len(found) < limit:
            # Pages are looked through here: no script runs longer because few records fit.
            at, id = ("", "") if after is None else (repr(after[0]), after[1])
            ids, values = await self._server.look("list_records", (int(dead is True), at, id, page))
            records = [unpack_record(id.decode(), data) for id, data in zip(ids, values, strict=True) if data]
            found += [
                record
                for record in records
                if (dead is None or record.dead is dead)
                and (status is None or record.status is status)
                and (queue is None or record.queue == queue)
                and (type is None or record.type == type)
            ]
            if len(ids) < page:
                break
            after = (records[-1].at, records[-1].task_id)
        return found[:limit]

    async def revive(self, ids: Sequence[str], at: float, stats: bytes = b"") -> list[str]:
        return texts(await self._server.write("revive", (*counted(ids), as_number(at), stats)))

    async def forget(self, ids: Sequence[str]) -> list[str]:
        return texts(await self._server.write("forget", counted(ids)))

    # --- outcomes across servers ----------------------------------------------------------------------------------

    async def put_outcomes(self, outcomes: Sequence[tuple[OutcomeKey, bytes]], at: float) -> dict[OutcomeKey, Stored]:
        def arguments() -> Iterator[Argument]:
            yield from counted([outcome_key(key) for key, _ in outcomes])
            yield from counted([pack_outcome(outcome, at) for _, outcome in outcomes])

        before = await self._server.write("put_outcomes", arguments())
        return _stored([key for key, _ in outcomes], before)

    async def outcomes(self, keys: Sequence[OutcomeKey]) -> dict[OutcomeKey, Stored]:
        def arguments() -> Iterator[Argument]:
            yield from counted([outcome_key(key) for key in keys])

        return _stored(keys, await self._server.look("outcomes", arguments()))

    async def carried(self, keys: Sequence[OutcomeKey]) -> None:
        def arguments() -> Iterator[Argument]:
            yield from counted([outcome_key(key) for key in keys])

        await self._server.write("carried", arguments())

    async def uncarried(self, after: OutcomeKey | None, limit: int) -> Sequence[Stored]:
        place = b"" if after is None else outcome_key(after)
        names, values = await self._server.look("uncarried", (place, limit))
        return list(_stored([read_outcome_key(name) for name in names], [(0, value) for value in values]).values())

    # --- wide plans and notes -------------------------------------------------------------------------------------

    async def put_chunks(self, chunks: Sequence[Chunk]) -> None:
        def arguments() -> Iterator[Argument]:
            yield len(chunks)
            for chunk in chunks:
                yield from chunk_arguments(chunk)

        await self._server.write("put_chunks", arguments())

    async def chunk(self, plan: str, number: int) -> Chunk | None:
        data = await self._server.look("chunk", (chunk_key(plan, number),))
        return None if data is None else unpack_chunk(plan, number, data)

    async def put_outgoing(self, notes: Sequence[Outgoing]) -> None:
        def arguments() -> Iterator[Argument]:
            yield 3 * len(notes)
            for note in notes:
                yield from note_arguments(note)

        await self._server.write("put_outgoing", arguments())

    async def outgoing(self, topic: str, limit: int) -> Sequence[Outgoing]:
        numbered, bodies = await self._server.look("outgoing", (topic, limit))
        return [
            Outgoing(topic, id.decode(), body, int(seq))
            for id, seq, body in zip(numbered[::2], numbered[1::2], bodies, strict=True)
        ]

    async def sent(self, notes: Sequence[Outgoing]) -> None:
        def arguments() -> Iterator[Argument]:
            yield len(notes)
            for note in notes:
                yield from (note.topic, note.id, note.seq)

        await self._server.write("sent", arguments())

    # --- upkeep ---------------------------------------------------------------------------------------------------

    async def purge(self, now: float, remember: float, limit: int) -> int:
        gone: int = await self._server.write("purge", (as_number(now), as_number(now - remember), limit))
        return gone

    async def stats(self) -> Mapping[str, int]:
        return dict(zip(_KINDS, await self._server.look("stats"), strict=True))


def _stored(keys: Sequence[OutcomeKey], found: Sequence[tuple[int, bytes] | None]) -> dict[OutcomeKey, Stored]:
    stored: dict[OutcomeKey, Stored] = {}
    for key, it in zip(keys, found, strict=True):
        if it is not None:
            outcome, at = unpack_outcome(it[1])
            stored[key] = Stored(key, outcome, it[0] == 1, at)
    return stored
