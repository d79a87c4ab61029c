"""`SyncClient`: adds tasks from code that has no event loop, such as a web request in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import CancelledError
from datetime import timedelta
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack

from tq.app.handler import TaskHandler
from tq.app.options import ConnectOptions
from tq.errors import ConfigurationError
from tq.model import FlowOptions, FlowStep, Join, Task, TaskStatus
from tq.runner.registry import TaskQueuesManager

__all__ = ["SyncClient"]

T = TypeVar("T")

LAST_CALLS = 1.0
"""Seconds for which closing lets calls of other threads come to their end."""


class SyncClient:
    """A producer for synchronous code; may be used by many threads at once.

    An event loop of its own runs in one daemon thread. Nothing is executed here: tasks are run by workers.
    """

    def __init__(self, url: str, executors: TaskQueuesManager | None = None, **options: Unpack[ConnectOptions]) -> None:
        """Open what `url` names; `options` are those of `TaskHandler.connect`."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tq-sync-client", daemon=True)
        self._thread.start()
        self._closed = False
        self._changing = threading.Lock()
        """Held while a call is handed to the loop, or the loop is ended: no call may be left on a loop that stands."""
        try:
            self._handler = self._call(self._open(url, executors, options))
        except BaseException:
            self._end_loop()
            raise

    async def _open(self, url: str, executors: TaskQueuesManager | None, options: ConnectOptions) -> TaskHandler:
        return await TaskHandler.connect(url, executors, **options).__aenter__()

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        with self._changing:
            if self._closed:
                work.close()
                raise ConfigurationError("this SyncClient is closed")
            answer = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return answer.result()
        except CancelledError as error:
            raise ConfigurationError("this SyncClient was closed while it waited") from error

    def add_tasks(self, tasks: Sequence[Task[Any]]) -> list[str]:
        """See `TaskHandler.add_tasks`."""
        return self._call(self._handler.add_tasks(tasks))

    def start_flow(
        self,
        steps: Sequence[FlowStep],
        *,
        join: Join,
        **options: Unpack[FlowOptions],
    ) -> str:
        """See `TaskHandler.start_flow`."""
        return self._call(self._handler.start_flow(steps, join=join, **options))

    def status(self, task_id: str) -> TaskStatus | Literal["unknown"]:
        """See `TaskHandle.status`."""
        return self._call(self._handler.task(task_id).status())

    def result(self, task_id: str, timeout: float | timedelta | None = None) -> Any:
        """See `TaskHandle.result`."""
        return self._call(self._handler.task(task_id).result(timeout))

    def close(self) -> None:
        """Close the connection and end the thread; may be called twice."""
        with self._changing:
            if self._closed:
                return
            self._closed = True
        try:
            asyncio.run_coroutine_threadsafe(self._leave(), self._loop).result()
        finally:
            self._end_loop()

    async def _leave(self) -> None:
        """Close, and end the calls of other threads: they wait for answers that nobody would give any more."""
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            _, waiting = await asyncio.wait(others, timeout=LAST_CALLS)
            for other in waiting:
                other.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        await self._handler.close()

    def _end_loop(self) -> None:
        self._closed = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
