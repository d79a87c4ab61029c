"""Redis passes every suite: by its own clock, as it is used; and in virtual time, inline."""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from tq.clock import Clock
from tq.ports import Backend, Custody, FlowBarrierProvider, MessageQueue, ShardLeases, TaskStore
from tq.testing.contracts import (
    BackendContract,
    BarrierContract,
    ProjectionContract,
    QueueContract,
    ShardLeasesContract,
    StoreContract,
)
from tq_redis import RedisBackend, RedisProjections, open_backend

# The server keeps its own time, which cannot be moved: what is waited for is short.
SHORT = 0.3


@asynccontextmanager
async def opened(url: str, clock: Clock) -> AsyncGenerator[RedisBackend, None]:
    backend = open_backend(url, clock=clock)
    try:
        yield backend
    finally:
        await backend.close()


class OnServer:
    """Gives each test a namespace."""

    url: str

    @pytest.fixture(autouse=True)
    def _namespace(self, redis_url: str) -> None:
        self.url = redis_url


class TestRedisQueue(OnServer, QueueContract):
    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncGenerator[MessageQueue, None]:
        async with opened(self.url, clock) as backend:
            yield backend.queue

    def reopen(self, port: Custody, clock: Clock) -> AbstractAsyncContextManager[MessageQueue]:
        return self.open(clock)


@pytest.mark.realtime
class TestRedisQueueByItsOwnClock(TestRedisQueue):
    beat = SHORT


class TestRedisStore(OnServer, StoreContract):
    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncGenerator[TaskStore, None]:
        async with opened(self.url, clock) as backend:
            yield backend.store

    def reopen(self, port: Custody, clock: Clock) -> AbstractAsyncContextManager[TaskStore]:
        return self.open(clock)


@pytest.mark.realtime
class TestRedisStoreByItsOwnClock(TestRedisStore):
    beat = SHORT


class TestRedisBarrier(OnServer, BarrierContract):
    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncGenerator[FlowBarrierProvider, None]:
        async with opened(self.url, clock) as backend:
            assert backend.barrier is not None
            yield backend.barrier

    def reopen(self, port: FlowBarrierProvider, clock: Clock) -> AbstractAsyncContextManager[FlowBarrierProvider]:
        return self.open(clock)


@pytest.mark.realtime
class TestRedisBarrierByItsOwnClock(TestRedisBarrier):
    beat = SHORT


class TestRedisProjections(OnServer, ProjectionContract):
    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncGenerator[RedisProjections, None]:
        async with opened(self.url, clock) as backend:
            assert isinstance(backend.projections, RedisProjections)
            yield backend.projections

    def reopen(self, port: object, clock: Clock) -> AbstractAsyncContextManager[RedisProjections]:
        return self.open(clock)


@pytest.mark.realtime
class TestRedisProjectionsByItsOwnClock(TestRedisProjections):
    beat = SHORT


class TestRedisShardLeases(OnServer, ShardLeasesContract):
    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncGenerator[ShardLeases, None]:
        async with opened(self.url, clock) as backend:
            yield backend.shards

    def reopen(self, port: ShardLeases, clock: Clock) -> AbstractAsyncContextManager[ShardLeases]:
        return self.open(clock)


@pytest.mark.realtime
class TestRedisShardLeasesByItsOwnClock(TestRedisShardLeases):
    beat = SHORT


class TestRedisBackend(OnServer, BackendContract):
    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncGenerator[Backend, None]:
        async with opened(self.url, clock) as backend:
            yield backend

    def reopen(self, port: Backend, clock: Clock) -> AbstractAsyncContextManager[Backend]:
        return self.open(clock)


@pytest.mark.realtime
class TestRedisBackendByItsOwnClock(TestRedisBackend):
    beat = SHORT
