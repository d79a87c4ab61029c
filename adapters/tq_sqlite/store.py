"""The task store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tq.model import Chunk, Message, Outgoing, Place, Record, TaskStatus
from tq.ports import OutcomeKey, Stored, TaskStore

from .chunks import purge_chunks, put_chunks, read_chunk
from .connection import Connection
from .messages import append, park, put, resolve
from .notes import put_outgoing, read_outgoing, sent
from .outcomes import carried, list_uncarried, purge_outcomes, put_outcomes, read_outcomes
from .queue import SqliteCustody
from .records import forget, list_records, purge_records, read_records, revive, write_records

__all__ = ["SqliteStore"]


class SqliteStore(SqliteCustody, TaskStore):
    """Durable: what was accepted is in the file until it is removed by name or by retention."""

    place = Place.STORE

    async def park(self, message: Message, token: str, lease: float) -> bool:
        return await self._database.write(lambda db: park(db, message, token, lease))

    async def put(self, messages: Sequence[tuple[Message, str]]) -> None:
        await self._database.write(lambda db: put(db, messages))

    async def resolve(self, task_id: str, flow_id: str) -> bool:
        return await self._database.write(lambda db: resolve(db, task_id, flow_id)) is not None

    async def append_if_parked(self, lane: str, messages: Sequence[Message]) -> bool:
        return await self._database.write(lambda db: append(db, lane, messages))

    async def record(self, records: Sequence[Record]) -> None:
        await self._database.write(lambda db: write_records(db, records))

    async def records(self, ids: Sequence[str]) -> dict[str, Record]:
        return await self._database.read(lambda db: read_records(db, ids))

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
        return await self._database.read(
            lambda db: list_records(db, dead=dead, status=status, queue=queue, type=type, after=after, limit=limit)
        )

    async def revive(self, ids: Sequence[str], at: float, stats: bytes = b"") -> list[str]:
        return await self._database.write(lambda db: revive(db, ids, at, stats))

    async def forget(self, ids: Sequence[str]) -> list[str]:
        return await self._database.write(lambda db: forget(db, ids))

    async def put_outcomes(self, outcomes: Sequence[tuple[OutcomeKey, bytes]], at: float) -> dict[OutcomeKey, Stored]:
        return await self._database.write(lambda db: put_outcomes(db, outcomes, at))

    async def outcomes(self, keys: Sequence[OutcomeKey]) -> dict[OutcomeKey, Stored]:
        return await self._database.read(lambda db: read_outcomes(db, keys))

    async def carried(self, keys: Sequence[OutcomeKey]) -> None:
        await self._database.write(lambda db: carried(db, keys))

    async def uncarried(self, after: OutcomeKey | None, limit: int) -> Sequence[Stored]:
        return await self._database.read(lambda db: list_uncarried(db, after, limit))

    async def put_chunks(self, chunks: Sequence[Chunk]) -> None:
        await self._database.write(lambda db: put_chunks(db, chunks))

    async def chunk(self, plan: str, number: int) -> Chunk | None:
        return await self._database.read(lambda db: read_chunk(db, plan, number))

    async def put_outgoing(self, notes: Sequence[Outgoing]) -> None:
        await self._database.write(lambda db: put_outgoing(db, notes))

    async def outgoing(self, topic: str, limit: int) -> Sequence[Outgoing]:
        return await self._database.read(lambda db: read_outgoing(db, topic, limit))

    async def sent(self, notes: Sequence[Outgoing]) -> None:
        await self._database.write(lambda db: sent(db, notes))

    async def purge(self, now: float, remember: float, limit: int) -> int:
        def drop(db: Connection) -> int:
            gone = purge_records(db, now, limit)
            gone += purge_outcomes(db, now - remember, max(limit - gone, 0))
            return gone + purge_chunks(db, now - remember, max(limit - gone, 0))

        return await self._database.write(drop)

    async def stats(self) -> Mapping[str, int]:
        return await self._database.read(_stats)


def _stats(db: Connection) -> Mapping[str, int]:
    tables = {"records": "", "dead": "records WHERE dead = 1", "outcomes": "", "chunks": "", "outgoing": ""}
    return {
        name: db.execute(f"SELECT count(*) FROM tq_{table or name}").fetchone()[0] for name, table in tables.items()
    }
