"""Shard leases, in the table `tq_shards`."""

from __future__ import annotations

from collections.abc import Sequence
from json import dumps, loads
from typing import Any

from tq.model import ShardLease
from tq.ports import Backend, ShardLeases

from .connection import Connection
from .database import Database
from .rows import Insert

__all__ = ["SqliteShardLeases"]

_COLUMNS = "stream, shard, parents, owner, counter, checkpoint, note"

_insert = Insert("tq_shards", _COLUMNS)


class SqliteShardLeases(ShardLeases):
    """Rows of one file, changed in one transaction per call."""

    name = "sqlite"

    def __init__(self, backend: Backend, database: Database) -> None:
        self.backend = backend
        self._database = database

    async def list(self, stream: str) -> Sequence[ShardLease]:
        sql = f"SELECT {_COLUMNS} FROM tq_shards WHERE stream = ? ORDER BY shard"
        return await self._database.read(lambda db: [_lease(row) for row in db.execute(sql, (stream,)).fetchall()])

    async def create(self, leases: Sequence[ShardLease]) -> None:
        await self._database.write(lambda db: _insert(db, [_row(lease) for lease in leases]))

    async def swap(self, changes: Sequence[tuple[ShardLease, ShardLease]]) -> Sequence[ShardLease | None]:
        return await self._database.write(lambda db: [_swap(db, seen, wanted) for seen, wanted in changes])

    async def drop(self, leases: Sequence[ShardLease]) -> None:
        sql = "DELETE FROM tq_shards WHERE stream = ? AND shard = ? AND owner = ? AND counter = ?"
        rows = [(lease.stream, lease.shard, lease.owner, lease.counter) for lease in leases]
        await self._database.write(lambda db: db.executemany(sql, rows))

    async def close(self) -> None:
        """Close the backend that this is a part of; may be called twice."""
        await self.backend.close()


def _swap(db: Connection, seen: ShardLease, wanted: ShardLease) -> ShardLease | None:
    wanted = wanted._replace(counter=seen.counter + 1)
    changed = db.execute(
        "UPDATE tq_shards SET parents = ?, owner = ?, counter = ?, checkpoint = ?, note = ?"
        " WHERE stream = ? AND shard = ? AND owner = ? AND counter = ?",
        (*_row(wanted)[2:], seen.stream, seen.shard, seen.owner, seen.counter),
    )
    if not changed.rowcount:
        row = db.execute(f"SELECT {_COLUMNS} FROM tq_shards WHERE stream = ? AND shard = ?", seen[:2]).fetchone()
        if row is None or _lease(row) != wanted:
            return None
    return wanted


def _row(lease: ShardLease) -> tuple[object, ...]:
    return (*lease[:2], dumps(lease.parents), *lease[3:])


def _lease(row: Sequence[Any]) -> ShardLease:
    stream, shard, parents, *rest = row
    return ShardLease(stream, shard, tuple(loads(parents)), *rest)
