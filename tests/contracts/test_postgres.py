"""PostgreSQL passes every suite: by its own clock, as it is used; and in virtual time, inline."""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

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
from tq.testing.contracts.enlisting import Enlisting
from tq_postgres import PostgresBackend, PostgresProjections

# The server keeps its own time, which cannot be moved: what is waited for is short.
SHORT = 0.5


@asynccontextmanager
async def opened(url: str, clock: Clock) -> AsyncGenerator[PostgresBackend, None]:
    """Open a backend on this schema."""
    backend = PostgresBackend.open(url, clock=clock)
    try:
        await backend.database.open()  # now, so that it does not count into what a test waits for
        yield backend
    finally:
        await backend.close()


class OnServer:
    """Gives each test a schema; every opening of a test goes there."""

    url: str

    @pytest.fixture(autouse=True)
    def _schema(self, postgres_url: str) -> None:
        self.url = postgres_url


class TestPostgresQueue(OnServer, QueueContract):
    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncGenerator[MessageQueue, None]:
        async with opened(self.url, clock) as backend:
            yield backend.queue

    def reopen(self, port: Custody, clock: Clock) -> AbstractAsyncContextManager[MessageQueue]:
        return self.open(clock)


@pytest.mark.realtime
class TestPostgresQueueByItsOwnClock(TestPostgresQueue):
    beat = SHORT


class TestPostgresStore(OnServer, StoreContract):
    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncGenerator[TaskStore, None]:
        async with opened(self.url, clock) as backend:
            yield backend.store

    def reopen(self, port: Custody, clock: Clock) -> AbstractAsyncContextManager[TaskStore]:
        return self.open(clock)


class TestPostgresBarrier(OnServer, BarrierContract):
    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncGenerator[FlowBarrierProvider, None]:
        async with opened(self.url, clock) as backend:
            assert backend.barrier is not None
            yield backend.barrier

    def reopen(self, port: FlowBarrierProvider, clock: Clock) -> AbstractAsyncContextManager[FlowBarrierProvider]:
        return self.open(clock)


@pytest.mark.realtime
class TestPostgresBarrierByItsOwnClock(TestPostgresBarrier):
    beat = SHORT


class TestPostgresProjections(OnServer, ProjectionContract):
    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncGenerator[PostgresProjections, None]:
        async with opened(self.url, clock) as backend:
            assert isinstance(backend.projections, PostgresProjections)
            yield backend.projections

    def reopen(self, port: object, clock: Clock) -> AbstractAsyncContextManager[PostgresProjections]:
        return self.open(clock)


class TestPostgresShardLeases(OnServer, ShardLeasesContract):
    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncGenerator[ShardLeases, None]:
        async with opened(self.url, clock) as backend:
            yield backend.shards

    def reopen(self, port: ShardLeases, clock: Clock) -> AbstractAsyncContextManager[ShardLeases]:
        return self.open(clock)


@pytest.mark.realtime
class TestPostgresShardLeasesByItsOwnClock(TestPostgresShardLeases):
    beat = SHORT


class TestPostgresBackend(OnServer, BackendContract):
    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncGenerator[Backend, None]:
        async with opened(self.url, clock) as backend:
            yield backend

    def reopen(self, port: Backend, clock: Clock) -> AbstractAsyncContextManager[Backend]:
        return self.open(clock)


@pytest.mark.realtime
class TestPostgresBackendByItsOwnClock(TestPostgresBackend):
    beat = SHORT

    @asynccontextmanager
    async def transaction(self, backend: Backend) -> AsyncGenerator[object, None]:
        connection = await asyncpg.connect(self.url.partition("?")[0])
        try:
            async with connection.transaction():
                yield connection
        finally:
            await connection.close()


@pytest.mark.realtime
class TestSessionOfSqlalchemy(OnServer, Enlisting):
    beat = SHORT

    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncGenerator[Backend, None]:
        async with opened(self.url, clock) as backend:
            yield backend

    @asynccontextmanager
    async def transaction(self, backend: Backend) -> AsyncGenerator[object, None]:
        engine = create_async_engine(self.url.partition("?")[0].replace("://", "+asyncpg://"))
        try:
            async with AsyncSession(engine) as session, session.begin():
                yield session
        finally:
            await engine.dispose()
