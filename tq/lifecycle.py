"""Services: started, stopped, and entered with `async with`; the only place that spawns tasks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self

from tq.clock import Clock

__all__ = ["Service", "Spawner"]

log = logging.getLogger("tq")


class Spawner:
    """Owns background tasks: each is kept alive until it ends, its exception is never lost, none outlives `close`."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, work: Coroutine[Any, Any, Any], name: str | None = None) -> asyncio.Task[Any]:
        """Run a coroutine in the background; an exception that nobody awaits is logged."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine that never raises and calls `ended` as its last deed.

        The way for tens of thousands a second: no callback, no name, half the cost of `spawn`.
        """
        task = asyncio.Task(work, loop=asyncio.get_running_loop(), name="tq")
        self._tasks.add(task)
        return task

    def ended(self, task: asyncio.Task[Any] | None) -> None:
        """Forget a task that was begun by `run`."""
        if task is not None:
            self._tasks.discard(task)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("background task %s failed", task.get_name(), exc_info=error)

    async def join(self, clock: Clock, timeout: float | None = None) -> bool:
        """Wait until every task has ended; False when `timeout` seconds were not enough."""
        try:
            async with clock.timeout(timeout):
                while self._tasks:
                    await asyncio.wait(set(self._tasks))
        except TimeoutError:
            return False
        return True

    async def close(self, timeout: float | None = None) -> int:
        """Cancel what still runs and wait for it to end; return how many have not, after `timeout` seconds."""
        tasks = set(self._tasks) - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        return len((await asyncio.wait(tasks, timeout=timeout))[1]) if tasks else 0


class Service:
    """Something that runs until it is stopped.

    `start` returns once it runs; `stop` may be called before start, twice, and from anywhere, and returns when all is
    quiet. Subclasses override `_main`, which ends by itself soon after `_stopping` is set, and may override `_cleanup`.
    """

    patience: float | None = None
    """Seconds for which a stop waits for `_main` before it is cancelled; None for as long as it takes."""

    def __init__(self) -> None:
        self._stopping = asyncio.Event()
        self._spawner = Spawner()
        self._main_task: asyncio.Task[Any] | None = None

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._main_task is not None and not self._main_task.done()

    async def start(self) -> None:
        """Begin; a second start does nothing."""
        if self._main_task is None:
            self._main_task = self._spawner.spawn(self._main(), type(self).__name__)

    async def stop(self) -> None:
        """Ask it to end and wait until it has."""
        self._stopping.set()
        if self._main_task is not None and self._main_task is not asyncio.current_task():
            await asyncio.wait([self._main_task], timeout=self.patience)
        await self._spawner.close()

    async def kill(self) -> None:
        """End without any last deed, as a crash would: for tests of what others then do."""
        self._stopping.set()
        await self._spawner.close()

    async def _main(self) -> None:
        await self._stopping.wait()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
