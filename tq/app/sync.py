"""`SyncClient`: adds tasks from code that has no event loop, such as a web request in a thread."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import CancelledError, Future
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack
from weakref import WeakMethod

from tq.app.handler import TaskHandler
from tq.app.options import ConnectOptions
from tq.errors import ConfigurationError
from tq.model import FlowOptions, FlowStep, Join, Task, TaskStatus
from tq.runner.registry import TaskQueuesManager

__all__ = ["SyncClient"]

T = TypeVar("T")

LAST_CALLS = 1.0
"""Seconds for which closing lets calls of other threads come to their end."""


class Home:
    """An event loop in a daemon thread, and the handler that lives there."""

    def __init__(self, connect: Callable[[], TaskHandler]) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="tq-sync-client", daemon=True)
        self._thread.start()
        try:
            self.handler = self.begin(self._open(connect)).result()
        except BaseException:
            self.end()
            raise

    async def _open(self, connect: Callable[[], TaskHandler]) -> TaskHandler:
        return await connect().__aenter__()

    def begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def end(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class SyncClient:
    """A producer for synchronous code; may be used by many threads at once, and in every child of a fork.

    An event loop of its own runs in one daemon thread. Nothing is executed here: tasks are run by workers.

    A child opens what it needs for itself, when it first needs it. What the parent has opened it leaves as it is.
    """

    def __init__(self, url: str, executors: TaskQueuesManager | None = None, **options: Unpack[ConnectOptions]) -> None:
        """Open what `url` names; `options` are those of `TaskHandler.connect`."""
        self._connect = partial(TaskHandler.connect, url, executors, **options)
        self._closed = False
        self._changing = threading.Lock()
        """Held while a call is handed to the loop, or the loop is ended: no call may be left on a loop that stands."""
        self._home: Home | None = Home(self._connect)
        self._left: list[Home] = []
        """What belongs to the parent: kept, for to let it go would be to close it."""
        if hasattr(os, "register_at_fork"):
            forked = WeakMethod(self._forked)
            os.register_at_fork(after_in_child=lambda: (told := forked()) and told())

    def _forked(self) -> None:
        self._changing = threading.Lock()  # the old one may be held by a thread that is not here
        if self._home is not None:
            self._left.append(self._home)
            self._home = None

    def _call(self, ask: Callable[[TaskHandler], Coroutine[Any, Any, T]]) -> T:
        with self._changing:
            if self._closed:
                raise ConfigurationError("this SyncClient is closed")
            if self._home is None:
                self._home = Home(self._connect)
            answer = self._home.begin(ask(self._home.handler))
        try:
            return answer.result()
        except CancelledError as error:
            raise ConfigurationError("this SyncClient was closed while it waited") from error

    def add_tasks(self, tasks: Sequence[Task[Any]]) -> list[str]:
        """See `TaskHandler.add_tasks`."""
        return self._call(lambda handler: handler.add_tasks(tasks))

    def start_flow(
        self,
        steps: Sequence[FlowStep],
        *,
        join: Join,
        **options: Unpack[FlowOptions],
    ) -> str:
        """See `TaskHandler.start_flow`."""
        return self._call(lambda handler: handler.start_flow(steps, join=join, **options))

    def status(self, task_id: str) -> TaskStatus | Literal["unknown"]:
        """See `TaskHandle.status`."""
        return self._call(lambda handler: handler.task(task_id).status())

    def result(self, task_id: str, timeout: float | timedelta | None = None) -> Any:
        """See `TaskHandle.result`."""
        return self._call(lambda handler: handler.task(task_id).result(timeout))

    def close(self) -> None:
        """Close the connection and end the thread; may be called twice."""
        with self._changing:
            if self._closed:
                return
            self._closed = True
        if self._home is not None:
            try:
                self._home.begin(self._leave(self._home.handler)).result()
            finally:
                self._home.end()

    async def _leave(self, handler: TaskHandler) -> None:
        """Close, and end the calls of other threads: they wait for answers that nobody would give any more."""
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            _, waiting = await asyncio.wait(others, timeout=LAST_CALLS)
            for other in waiting:
                other.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        await handler.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
