"""Parts of different servers pass the suite of a backend, and several brokers that of a queue."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tq.app.routed import RoutedQueue
from tq.clock import Clock
from tq.memory import MemoryBackend, MemoryBarrier, MemoryProjections, MemoryQueue, MemoryStore
from tq.ports import Backend, MessageQueue
from tq.runner.composite import CompositeBackend
from tq.testing.contracts import BackendContract, QueueContract
from tq_sqlite import SqliteBackend, SqliteSettings


class TestPartsOfFourMemories(BackendContract):
    atomic = False

    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncGenerator[Backend, None]:
        parts = MemoryQueue(clock=clock), MemoryStore(clock=clock), MemoryBarrier(clock=clock)
        backend = CompositeBackend(*parts, MemoryProjections(clock=clock), clock=clock, near=5 * self.beat)
        try:
            yield backend
        finally:  # a test that is skipped inside leaves by an exception
            await backend.close()


class TestPartsOfThreeMemoryBackends(BackendContract):
    atomic = False

    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncGenerator[Backend, None]:
        one, two, three = MemoryBackend(clock=clock), MemoryBackend(clock=clock), MemoryBackend(clock=clock)
        backend = CompositeBackend(one.queue, two.store, three.barrier, clock=clock, near=5 * self.beat)
        try:
            yield backend
        finally:  # a test that is skipped inside leaves by an exception
            await backend.close()


class TestQueueAndStoreOfOneMemory(BackendContract):
    """Only the flows are elsewhere."""

    atomic = False

    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncGenerator[Backend, None]:
        one, two = MemoryBackend(clock=clock), MemoryBackend(clock=clock)
        backend = CompositeBackend(one.queue, one.store, two.barrier, one.projections, clock=clock, near=5 * self.beat)
        try:
            yield backend
        finally:  # a test that is skipped inside leaves by an exception
            await backend.close()


class OnFiles:
    """Gives each test a folder for its databases."""

    folder: Path

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def database(self, name: str, clock: Clock) -> SqliteBackend:
        return SqliteBackend(SqliteSettings(path=str(self.folder / name), synchronous="NORMAL"), clock)


class TestMemoryQueueAndSqliteStore(OnFiles, BackendContract):
    atomic = False

    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncGenerator[Backend, None]:
        kept = self.database("kept.db", clock)
        backend = CompositeBackend(
            MemoryQueue(clock=clock), kept.store, kept.barrier, kept.projections, clock=clock, near=5 * self.beat
        )
        try:
            yield backend
        finally:  # a test that is skipped inside leaves by an exception
            await backend.close()


class TestTwoSqliteFiles(OnFiles, BackendContract):
    atomic = False

    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncGenerator[Backend, None]:
        soon, kept = self.database("soon.db", clock), self.database("kept.db", clock)
        backend = CompositeBackend(
            soon.queue, kept.store, kept.barrier, kept.projections, clock=clock, near=5 * self.beat
        )
        try:
            yield backend
        finally:  # a test that is skipped inside leaves by an exception
            await backend.close()


@pytest.mark.realtime
class TestTwoSqliteFilesInThreads(TestTwoSqliteFiles):
    beat = 0.5


class TestTwoBrokers(QueueContract):
    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncGenerator[MessageQueue, None]:
        queue = RoutedQueue({"r": MemoryQueue(clock=clock), "*": MemoryQueue(clock=clock)})
        try:
            yield queue
        finally:  # a test that is skipped inside leaves by an exception
            await queue.close()


class TestBrokersOfTwoKinds(OnFiles, QueueContract):
    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncGenerator[MessageQueue, None]:
        async with AsyncExitStack() as stack:
            file = self.database("q.db", clock)
            stack.push_async_callback(file.close)
            yield RoutedQueue({"r": MemoryQueue(clock=clock), "*": file.queue})
