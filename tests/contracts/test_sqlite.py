"""SQLite passes every suite: on a file, as it is used; in virtual time, inline; and privately in memory."""

import sqlite3
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from pathlib import Path

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
from tq_sqlite import SqliteBackend, SqliteProjections, SqliteSettings

# On an ordinary loop transactions run in threads, and time cannot be moved: what is waited for is short.
SHORT = 0.3


@asynccontextmanager
async def opened(path: Path | None, clock: Clock) -> AsyncGenerator[SqliteBackend, None]:
    """Open a backend on this file, or a private one."""
    backend = SqliteBackend(SqliteSettings(path=str(path or ""), synchronous="NORMAL"), clock)
    try:
        yield backend
    finally:
        await backend.close()


class OnFile:
    """Gives each test a folder; every opening of a test gets a file of its own there."""

    path: Path

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.path = tmp_path / "tq.db"


class TestSqliteQueue(OnFile, QueueContract):
    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncGenerator[MessageQueue, None]:
        async with opened(self.path, clock) as backend:
            yield backend.queue

    def reopen(self, port: Custody, clock: Clock) -> AbstractAsyncContextManager[MessageQueue]:
        return self.open(clock)


@pytest.mark.realtime
class TestSqliteQueueInThreads(TestSqliteQueue):
    beat = SHORT


class TestPrivateSqliteQueue(QueueContract):
    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncGenerator[MessageQueue, None]:
        async with opened(None, clock) as backend:
            yield backend.queue


class TestSqliteStore(OnFile, StoreContract):
    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncGenerator[TaskStore, None]:
        async with opened(self.path, clock) as backend:
            yield backend.store

    def reopen(self, port: Custody, clock: Clock) -> AbstractAsyncContextManager[TaskStore]:
        return self.open(clock)


@pytest.mark.realtime
class TestSqliteStoreInThreads(TestSqliteStore):
    beat = SHORT


class TestPrivateSqliteStore(StoreContract):
    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncGenerator[TaskStore, None]:
        async with opened(None, clock) as backend:
            yield backend.store


class TestSqliteBarrier(OnFile, BarrierContract):
    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncGenerator[FlowBarrierProvider, None]:
        async with opened(self.path, clock) as backend:
            assert backend.barrier is not None
            yield backend.barrier

    def reopen(self, port: FlowBarrierProvider, clock: Clock) -> AbstractAsyncContextManager[FlowBarrierProvider]:
        return self.open(clock)


@pytest.mark.realtime
class TestSqliteBarrierInThreads(TestSqliteBarrier):
    beat = SHORT


class TestSqliteProjections(OnFile, ProjectionContract):
    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncGenerator[SqliteProjections, None]:
        async with opened(self.path, clock) as backend:
            assert isinstance(backend.projections, SqliteProjections)
            yield backend.projections


@pytest.mark.realtime
class TestSqliteProjectionsInThreads(TestSqliteProjections):
    beat = SHORT


class TestSqliteShardLeases(OnFile, ShardLeasesContract):
    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncGenerator[ShardLeases, None]:
        async with opened(self.path, clock) as backend:
            yield backend.shards

    def reopen(self, port: ShardLeases, clock: Clock) -> AbstractAsyncContextManager[ShardLeases]:
        return self.open(clock)


@pytest.mark.realtime
class TestSqliteShardLeasesInThreads(TestSqliteShardLeases):
    beat = SHORT


class TestSqliteBackend(OnFile, BackendContract):
    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncGenerator[Backend, None]:
        async with opened(self.path, clock) as backend:
            yield backend

    def reopen(self, port: Backend, clock: Clock) -> AbstractAsyncContextManager[Backend]:
        return self.open(clock)

    @asynccontextmanager
    async def transaction(self, backend: Backend) -> AsyncGenerator[object, None]:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute("BEGIN")
            yield connection


@pytest.mark.realtime
class TestSqliteBackendInThreads(TestSqliteBackend):
    beat = SHORT


class TestPrivateSqliteBackend(BackendContract):
    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncGenerator[Backend, None]:
        async with opened(None, clock) as backend:
            yield backend
