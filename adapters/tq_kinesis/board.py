"""What workers tell each other besides their shards: which queues they serve, and which are paused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from tq.clock import Clock
from tq.codec import dumps, loads
from tq.errors import ContentRefusedError, PayloadError, WireError
from tq.model import ShardLease
from tq.ports import ShardLeases

__all__ = ["Board"]

TRIES = 5


class Board:
    """Keeps both as rows beside the leases, where every worker finds them."""

    def __init__(self, root: str, leases: ShardLeases, clock: Clock) -> None:
        self._served = f"{root}/served"
        self._paused = f"{root}/paused"
        self._leases = leases
        self._clock = clock

    async def announce(self, worker: str, queues: Sequence[str], ttl: float) -> None:
        """Say what a worker serves, and until when that is to be believed."""
        try:
            note = dumps({"queues": list(queues), "until": self._clock.now() + ttl}).decode()
        except PayloadError as error:
            raise ContentRefusedError(f"the names of queues cannot be written: {error}") from error
        for _ in range(TRIES):
            rows = await self._leases.list(self._served)
            old = [row for row in rows if row.shard != worker and not self._names(row)]
            if old:
                await self._leases.drop(old)
            mine = next((row for row in rows if row.shard == worker), ShardLease(self._served, worker))
            if mine not in rows:
                await self._leases.create([mine])
            if (await self._leases.swap([(mine, mine._replace(note=note))])) != [None]:
                return

    async def announced(self) -> list[str]:
        """Return what is served, as far as it is to be believed."""
        return sorted({name for row in await self._leases.list(self._served) for name in self._names(row)})

    def _names(self, row: ShardLease) -> list[str]:
        try:
            said = cast("dict[str, Any]", loads(row.note.encode()))
            return list(said["queues"]) if said["until"] > self._clock.now() else []
        except (WireError, KeyError, TypeError):
            return []

    async def pause(self, queue: str, *, paused: bool) -> None:
        """Write down that a queue is paused, or that it is not."""
        if paused:
            await self._leases.create([ShardLease(self._paused, queue)])
        else:
            await self._leases.drop([row for row in await self._leases.list(self._paused) if row.shard == queue])

    async def paused(self) -> list[str]:
        """Return what is paused."""
        return sorted(row.shard for row in await self._leases.list(self._paused))
