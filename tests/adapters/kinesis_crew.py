"""Workers on a stream in memory: started, killed, frozen, and watched."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Sequence
from typing import Any, cast

from tests.adapters.kinesis_double import KinesisDouble
from tq import TaskHandler, TaskQueuesManager
from tq.clock import Clock
from tq.memory import MemoryBarrier, MemoryShardLeases, MemoryStore
from tq.model import ShardLease
from tq_kinesis import Aimd, KinesisQueue
from tq_kinesis.position import ENDED, up_to

__all__ = ["Crew", "WatchedLeases", "Worker"]


class WatchedLeases(MemoryShardLeases):
    """Leases that note every change, and refuse a checkpoint that goes back."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock=clock)
        self.clock = clock
        self.owners: dict[str, list[tuple[float, str]]] = {}
        """Of each shard who came to own it, and when."""
        self.ownerless: dict[str, float] = {}
        """Of each shard the longest time for which nobody renewed it before somebody else came."""
        self.changed: dict[str, float] = {}

    async def create(self, leases: Sequence[ShardLease]) -> None:
        await super().create(leases)
        for lease in leases:
            self.changed.setdefault(lease.shard, self.clock.monotonic())

    async def swap(self, changes: Sequence[tuple[ShardLease, ShardLease]]) -> Sequence[ShardLease | None]:
        rows = await super().swap(changes)
        for (seen, _), row in zip(changes, rows, strict=True):
            if row is not None and "/" not in row.stream:
                self._note(seen, row)
        return rows

    def _note(self, seen: ShardLease, row: ShardLease) -> None:
        assert (
            row.checkpoint == seen.checkpoint or up_to(seen.checkpoint, row.checkpoint) or not seen.checkpoint.isdigit()
        )
        assert seen.checkpoint != ENDED or row.checkpoint == ENDED
        now = self.clock.monotonic()
        if row.owner and row.owner != seen.owner:
            gap = now - self.changed.get(row.shard, now)
            self.ownerless[row.shard] = max(gap, self.ownerless.get(row.shard, 0.0))
            self.owners.setdefault(row.shard, []).append((now, row.owner))
        self.changed[row.shard] = now


class Gated:
    """A port whose calls wait while the process stands still."""

    def __init__(self, port: object, gate: asyncio.Event) -> None:
        self._port = port
        self._gate = gate

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if not inspect.iscoroutinefunction(found):
            return found

        async def call(*args: Any, **named: Any) -> Any:
            await self._gate.wait()
            answer = await found(*args, **named)
            await self._gate.wait()
            return answer

        return call


class Worker:
    """One process."""

    def __init__(self, crew: Crew, executors: TaskQueuesManager, observer: Any = None, **options: Any) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        strategy = Aimd(crew.clock, base_delay=0.2)
        settings: dict[str, Any] = {"lease": crew.lease, "hand_over": 10.0} | options
        self.queue = KinesisQueue(
            "stream",
            leases=cast("Any", Gated(crew.leases, self.gate)),
            client=cast("Any", Gated(crew.double, self.gate)),
            clock=crew.clock,
            strategy=strategy,
            **settings,
        )
        self.handler = TaskHandler(
            queue=self.queue,
            store=cast("Any", Gated(crew.store, self.gate)),
            barrier=cast("Any", Gated(crew.barrier, self.gate)),
            executors=executors,
            clock=crew.clock,
            lease=10.0,
            grace_period=5.0,
            queue_lifecycle=observer,
        )

    async def start(self) -> Worker:
        await self.handler.start()
        return self

    async def stop(self) -> None:
        await self.handler.stop()
        await self.queue.close()

    async def kill(self) -> None:
        """End as kill -9 does: nothing is said, nothing given back."""
        await self.handler.kill()
        await self.queue.kill()

    def freeze(self) -> None:
        self.gate.clear()

    def thaw(self) -> None:
        self.gate.set()


class Crew:
    """What survives the processes."""

    def __init__(self, clock: Clock, shards: int = 1, lease: float = 10.0) -> None:
        self.clock = clock
        self.lease = lease
        self.double = KinesisDouble(clock, shards)
        self.leases = WatchedLeases(clock)
        self.store = MemoryStore(clock=clock)
        self.barrier = MemoryBarrier(clock=clock)

    async def worker(self, executors: TaskQueuesManager, **options: Any) -> Worker:
        return await Worker(self, executors, **options).start()

    async def rows(self) -> dict[str, ShardLease]:
        return {row.shard: row for row in await self.leases.list("tq:stream")}
