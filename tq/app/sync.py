"""`SyncClient`: adds tasks from code that has no event loop, such as a web request in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack

from tq.app.handler import TaskHandler
from tq.errors import ConfigurationError
from tq.model import FlowOptions, FlowStep, Join, Task, TaskStatus
from tq.runner.registry import TaskQueuesManager

__all__ = ["SyncClient"]

T = TypeVar("T")


class SyncClient:
    """A producer for synchronous code; may be used by many threads at once.

    An event loop of its own runs in one daemon thread. Nothing is executed here: tasks are run by workers.
    """

    def __init__(self, url: str, executors: TaskQueuesManager | None = None, **options: Any) -> None:
        """Open what `url` names; `options` are those of `TaskHandler.connect`."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tq-sync-client", daemon=True)
        self._thread.start()
        self._closed = False
        try:
            self._handler = self._call(self._open(url, executors, options))
        except BaseException:
            self._end_loop()
            raise

    async def _open(self, url: str, executors: TaskQueuesManager | None, options: dict[str, Any]) -> TaskHandler:
        return await TaskHandler.connect(url, executors, **options).__aenter__()

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        if self._closed:
            work.close()
            raise ConfigurationError("this SyncClient is closed")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

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
        if not self._closed:
            self._call(self._handler.close())
            self._end_loop()

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
