"""Memory is the reference: it passes every suite."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from tq.clock import Clock
from tq.memory import (
    MemoryBackend,
    MemoryBarrier,
    MemoryProjections,
    MemoryQueue,
    MemoryShardLeases,
    MemoryStore,
    open_backend,
)
from tq.ports import Backend, FlowBarrierProvider, MessageQueue, ShardLeases, TaskStore
from tq.testing.contracts import (
    BackendContract,
    BarrierContract,
    ProjectionContract,
    QueueContract,
    ShardLeasesContract,
    StoreContract,
)


class TestMemoryQueue(QueueContract):
    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncGenerator[MessageQueue, None]:
        queue = MemoryQueue(clock=clock)
        yield queue
        await queue.close()


@pytest.mark.spec("D-30")
class TestMemoryStore(StoreContract):
    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncGenerator[TaskStore, None]:
        store = MemoryStore(clock=clock)
        yield store
        await store.close()


class TestMemoryBarrier(BarrierContract):
    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncGenerator[FlowBarrierProvider, None]:
        yield MemoryBarrier(clock=clock)


class TestMemoryProjections(ProjectionContract):
    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncGenerator[MemoryProjections, None]:
        rows = MemoryProjections(clock=clock)
        yield rows
        await rows.close()


class TestMemoryShardLeases(ShardLeasesContract):
    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncGenerator[ShardLeases, None]:
        yield MemoryShardLeases(clock=clock)


class TestMemoryBackend(BackendContract):
    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncGenerator[Backend, None]:
        backend = open_backend("memory://", clock=clock)
        yield backend
        await backend.close()


class TestQueueOfABackend(QueueContract):
    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncGenerator[MessageQueue, None]:
        yield MemoryBackend(clock=clock).queue


class TestStoreOfABackend(StoreContract):
    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncGenerator[TaskStore, None]:
        yield MemoryBackend(clock=clock).store
