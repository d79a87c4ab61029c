"""Shard leases, in the table `tq_shards`."""

from __future__ import annotations

from collections.abc import Sequence

from tq.model import ShardLease
from tq.ports import Backend, ShardLeases

from .connection import Row
from .database import Database
from .shapes import columns

__all__ = ["PostgresShardLeases"]

_COLUMNS = "stream, shard, parents, owner, counter, checkpoint, note"


class PostgresShardLeases(ShardLeases):
    """Rows of one database, changed in one statement per call."""

    name = "postgres"

    def __init__(self, backend: Backend, database: Database) -> None:
        self.backend = backend
        self._database = database

    async def list(self, stream: str) -> Sequence[ShardLease]:
        sql = f"SELECT {_COLUMNS} FROM tq_shards WHERE stream = $1 ORDER BY shard"
        return [_lease(row) for row in await self._database.fetch(sql, stream)]

    async def create(self, leases: Sequence[ShardLease]) -> None:
        if leases:
            await self._database.call("create_shards", *_columns(leases))

    async def swap(self, changes: Sequence[tuple[ShardLease, ShardLease]]) -> Sequence[ShardLease | None]:
        if not changes:
            return []
        wanted = [wanted._replace(counter=seen.counter + 1) for seen, wanted in changes]
        owners, counters = columns([(seen.owner, seen.counter) for seen, _ in changes], 2)
        done: Sequence[int] | None = await self._database.call("swap_shards", owners, counters, *_columns(wanted))
        return [lease if place in (done or ()) else None for place, lease in enumerate(wanted, start=1)]

    async def drop(self, leases: Sequence[ShardLease]) -> None:
        if leases:
            rows = [(lease.stream, lease.shard, lease.owner, lease.counter) for lease in leases]
            await self._database.call("drop_shards", *columns(rows, 4))

    async def close(self) -> None:
        """Close the backend that this is a part of; may be called twice."""
        await self.backend.close()


def _columns(leases: Sequence[ShardLease]) -> Sequence[Sequence[object]]:
    """Return columns; parents go as one text each, for arrays of arrays must not differ in length."""
    return columns([(*lease[:2], "\n".join(lease.parents), *lease[3:]) for lease in leases], 7)


def _lease(row: Row) -> ShardLease:
    stream, shard, parents, *rest = row
    return ShardLease(stream, shard, tuple(parents.split("\n")) if parents else (), *rest)
