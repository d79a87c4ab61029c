"""Ties the `AsyncTaskManager` to the worker: what the one tracks, the other settles."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

from tq.errors import HungTaskError
from tq.manager import AsyncTaskManager
from tq.runner.execution import Execution, Interruption
from tq.runner.longruns import LongRuns

__all__ = ["ManagedRuns"]


class ManagedRuns(LongRuns):
    """Long runs in the care of an `AsyncTaskManager`."""

    def __init__(self, manager: AsyncTaskManager, interrupt: Callable[[Execution, Interruption], None]) -> None:
        self._manager = manager
        self._interrupt = interrupt

    @contextmanager
    def reserved(self, execution: Execution) -> Generator[bool]:
        limit = None if execution.registration is None else execution.registration.options.max_concurrent_async
        yield self._manager.can_accept_task(execution.delivery.message.type, limit)

    def took(self, execution: Execution) -> None:
        if execution.body_task is None or execution.registration is None:
            return
        options = execution.registration.options

        def evict(_: HungTaskError) -> None:
            self._interrupt(execution, Interruption.HUNG)

        def abandon() -> None:
            self._interrupt(execution, Interruption.SHUTDOWN)

        self._manager.handoff_task(
            execution.task,
            execution.body_task,
            timeout=options.max_duration,
            limit=options.max_concurrent_async,
            evict=evict,
            abandon=abandon,
        )

    def ended(self, execution: Execution) -> None:
        """The manager watches the body itself: nothing is to be told."""
