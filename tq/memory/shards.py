"""Shard leases in memory."""

from __future__ import annotations

from collections.abc import Sequence

from tq.clock import Clock
from tq.model import ShardLease
from tq.ports import ShardLeases

from .content import check_text
from .server import Part, Server

__all__ = ["MemoryShardLeases"]


class MemoryShardLeases(Part, ShardLeases):
    """Rows of one process, by (stream, shard)."""

    name = "memory"

    def __init__(self, *, clock: Clock | None = None, server: Server | None = None) -> None:
        super().__init__(server or Server(clock))
        self._rows: dict[tuple[str, str], ShardLease] = {}

    async def list(self, stream: str) -> Sequence[ShardLease]:
        with self._enter():
            return sorted(row for row in self._rows.values() if row.stream == stream)

    async def create(self, leases: Sequence[ShardLease]) -> None:
        with self._enter():
            for lease in leases:
                _check(lease)
            for lease in leases:
                self._rows.setdefault(lease[:2], lease)

    async def swap(self, changes: Sequence[tuple[ShardLease, ShardLease]]) -> Sequence[ShardLease | None]:
        with self._enter():
            for _, wanted in changes:
                _check(wanted)
            return [self._swap(seen, wanted._replace(counter=seen.counter + 1)) for seen, wanted in changes]

    def _swap(self, seen: ShardLease, wanted: ShardLease) -> ShardLease | None:
        row = self._rows.get(seen[:2])
        if row is not None and (row.owner, row.counter) == (seen.owner, seen.counter):
            self._rows[seen[:2]] = wanted
        elif row != wanted:
            return None
        return wanted

    async def drop(self, leases: Sequence[ShardLease]) -> None:
        with self._enter():
            for lease in leases:
                row = self._rows.get(lease[:2])
                if row is not None and (row.owner, row.counter) == (lease.owner, lease.counter):
                    del self._rows[lease[:2]]


def _check(lease: ShardLease) -> None:
    check_text(lease.stream, lease.shard, *lease.parents, lease.owner, lease.checkpoint, lease.note)
