"""Services: started, stopped, and entered with `async with`; the only place that spawns tasks."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Coroutine
from contextvars import Context
from types import TracebackType
from typing import Any, Self

from tq.clock import Clock
from tq.errors import ConfigurationError

__all__ = ["OneProcess", "Service", "Spawner"]

log = logging.getLogger("tq")


class _Caught:
    """Stands in for `loop.call_soon` while an asyncio task is made, and keeps what this wants called.

    It is told by its context. Whatever else is called meanwhile, by a finalizer perhaps, goes to the loop as ever.
    """

    __slots__ = ("context", "loop", "step")

    context: Context
    loop: asyncio.AbstractEventLoop
    step: Callable[[], object]

    def __call__(
        self, callback: Callable[..., object], *args: object, context: Context | None = None
    ) -> asyncio.Handle | None:
        if context is self.context:
            self.step = callback
            return None
        return type(self.loop).call_soon(self.loop, callback, *args, context=context)


if sys.version_info >= (3, 12):

    def _begun(
        work: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop, context: Context, _: _Caught
    ) -> asyncio.Task[None]:
        return asyncio.Task(work, loop=loop, name="tq", context=context, eager_start=True)
else:

    def _begun(
        work: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop, context: Context, caught: _Caught
    ) -> asyncio.Task[None]:
        """Take the first step from under the loop's nose: Python 3.11 knows no other way to begin at once."""
        caught.loop, caught.context = loop, context
        try:
            if "call_soon" in loop.__dict__:  # somebody watches it: not to be taken away from them
                return asyncio.Task(work, loop=loop, name="tq", context=context)
            loop.call_soon = caught  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue] -- put back below
        except AttributeError:  # a loop that is not written in Python: it begins the task itself, a little later
            return asyncio.Task(work, loop=loop, name="tq", context=context)
        try:
            task = asyncio.Task(work, loop=loop, name="tq", context=context)
        finally:
            del loop.call_soon
        context.run(caught.step)
        return task


class Spawner:
    """Owns background tasks: each is kept alive until it ends, its exception is never lost, none outlives `close`."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._first = _Caught()
        self.closed = False

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(
        self, work: Coroutine[Any, Any, Any], name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[Any]:
        """Run a coroutine in the background, in a copy of what surrounds the caller unless a `context` is given.

        An exception that nobody awaits is logged.
        """
        task = asyncio.create_task(work, name=name, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def begin(
        self, work: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop, context: Context
    ) -> asyncio.Task[None] | None:
        """Run a coroutine in an asyncio task of its own, up to where it first waits; return that, or None if it ended.

        To be called by the event loop, from no task: as a callback of `call_soon`. What never waits then costs half.
        """
        task = _begun(work, loop, context, self._first)
        if task.done():
            return None
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

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
        self.closed = True
        tasks = set(self._tasks) - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        return len((await asyncio.wait(tasks, timeout=timeout))[1]) if tasks else 0


class OneProcess:
    """The process in which something was opened. In a child of its fork, its threads and connections are of no use.

    Those connections are the parent's: a child that spoke through one, or closed it, would speak for the parent.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._pid = os.getpid()

    @property
    def here(self) -> bool:
        """Whether this is that process."""
        return os.getpid() == self._pid

    def check(self) -> None:
        """Refuse to work in another one.

        Raises:
            ConfigurationError: this is a child of its fork.
        """
        if not self.here:
            raise ConfigurationError(f"{self._what} was opened before the fork; open it in the child")


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

    async def ended(self) -> None:
        """Return when it has ended, by itself or by a stop."""
        if self._main_task is not None:
            await asyncio.wait([self._main_task])

    def failure(self) -> BaseException | None:
        """Return what ended it, if it was not a stop."""
        task = self._main_task
        return task.exception() if task is not None and task.done() and not task.cancelled() else None

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
