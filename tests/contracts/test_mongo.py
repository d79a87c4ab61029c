"""MongoDB passes every suite on both drivers: by its own clock, as it is used; and in virtual time, inline.

Where there is no server, an emulator of its wire protocol stands in (`tests/mongo_emulator.py`).
"""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import cast

import pytest
from motor.motor_asyncio import AsyncIOMotorClient

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
from tq_mongo import MongoBackend, MongoProjections, MongoSettings, open_backend
from tq_mongo.client import Client

# The server keeps its own time, which cannot be moved: what is waited for is short.
SHORT = 0.5


class OnServer:
    """Gives each test a namespace."""

    url: str

    @pytest.fixture(autouse=True)
    def _namespace(self, mongo_url: str) -> None:
        self.url = mongo_url

    @asynccontextmanager
    async def backend(self, clock: Clock) -> AsyncGenerator[MongoBackend, None]:
        backend = open_backend(self.url, clock=clock)
        try:
            yield backend
        finally:
            await backend.close()


class WithMotor(OnServer):
    """The same, with a client of Motor that was passed in."""

    @asynccontextmanager
    async def backend(self, clock: Clock) -> AsyncGenerator[MongoBackend, None]:
        settings = MongoSettings.parse(self.url)
        client: AsyncIOMotorClient[dict[str, object]] = AsyncIOMotorClient(settings.uri, tz_aware=True)
        backend = MongoBackend(settings, clock, cast("Client", client))
        try:
            yield backend
        finally:
            await backend.close()
            client.close()


class TestMongoQueue(OnServer, QueueContract):
    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncGenerator[MessageQueue, None]:
        async with self.backend(clock) as backend:
            yield backend.queue

    def reopen(self, port: Custody, clock: Clock) -> AbstractAsyncContextManager[MessageQueue]:
        return self.open(clock)


@pytest.mark.realtime
class TestMongoQueueByItsOwnClock(TestMongoQueue):
    beat = SHORT


@pytest.mark.realtime
class TestMongoQueueWithMotor(WithMotor, TestMongoQueue):
    beat = SHORT


class TestMongoStore(OnServer, StoreContract):
    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncGenerator[TaskStore, None]:
        async with self.backend(clock) as backend:
            yield backend.store

    def reopen(self, port: Custody, clock: Clock) -> AbstractAsyncContextManager[TaskStore]:
        return self.open(clock)


@pytest.mark.realtime
class TestMongoStoreByItsOwnClock(TestMongoStore):
    beat = SHORT


@pytest.mark.realtime
class TestMongoStoreWithMotor(WithMotor, TestMongoStore):
    beat = SHORT


class TestMongoBarrier(OnServer, BarrierContract):
    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncGenerator[FlowBarrierProvider, None]:
        async with self.backend(clock) as backend:
            assert backend.barrier is not None
            yield backend.barrier

    def reopen(self, port: FlowBarrierProvider, clock: Clock) -> AbstractAsyncContextManager[FlowBarrierProvider]:
        return self.open(clock)


class Wide:
    """Leaves the widest flow to virtual time: once is enough, and the emulator takes its time."""

    @pytest.mark.skip(reason="was tried in virtual time")
    async def test_a_flow_may_have_a_hundred_thousand_members(self, clock: Clock) -> None: ...


@pytest.mark.realtime
class TestMongoBarrierByItsOwnClock(Wide, TestMongoBarrier):
    beat = SHORT


@pytest.mark.realtime
class TestMongoBarrierWithMotor(Wide, WithMotor, TestMongoBarrier):
    beat = SHORT


class TestMongoProjections(OnServer, ProjectionContract):
    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncGenerator[MongoProjections, None]:
        async with self.backend(clock) as backend:
            assert isinstance(backend.projections, MongoProjections)
            yield backend.projections

    def reopen(self, port: object, clock: Clock) -> AbstractAsyncContextManager[MongoProjections]:
        return self.open(clock)


@pytest.mark.realtime
class TestMongoProjectionsWithMotor(WithMotor, TestMongoProjections):
    beat = SHORT


class TestMongoShardLeases(OnServer, ShardLeasesContract):
    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncGenerator[ShardLeases, None]:
        async with self.backend(clock) as backend:
            yield backend.shards

    def reopen(self, port: ShardLeases, clock: Clock) -> AbstractAsyncContextManager[ShardLeases]:
        return self.open(clock)


@pytest.mark.realtime
class TestMongoShardLeasesWithMotor(WithMotor, TestMongoShardLeases):
    beat = SHORT


class TestMongoBackend(OnServer, BackendContract):
    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncGenerator[Backend, None]:
        async with self.backend(clock) as backend:
            yield backend

    def reopen(self, port: Backend, clock: Clock) -> AbstractAsyncContextManager[Backend]:
        return self.open(clock)


@pytest.mark.realtime
class TestMongoBackendByItsOwnClock(TestMongoBackend):
    beat = SHORT


@pytest.mark.realtime
class TestMongoBackendWithMotor(WithMotor, TestMongoBackend):
    beat = SHORT
