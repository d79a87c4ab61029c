"""Ties the `AsyncTaskManager` to the worker: what the one tracks, the other settles."""

from __future__ import annotations

from collections.abc import Callable

from tq.errors import HungTaskError
from tq.manager import AsyncTaskManager, Slot
from tq.runner.execution import Execution, Interruption
from tq.runner.longruns import LongRuns, ReservedPlace

__all__ = ["ManagedRuns"]

Interrupt = Callable[[Execution, Interruption], None]


class ManagedRuns(LongRuns):
    """Long runs in the care of an `AsyncTaskManager`."""

    def __init__(self, manager: AsyncTaskManager, interrupt: Interrupt) -> None:
        self._manager = manager
        self._interrupt = interrupt

    def reserve(self, execution: Execution) -> ReservedPlace | None:
        limit = None if execution.registration is None else execution.registration.options.max_concurrent_async
        slot = self._manager.reserve(execution.task, limit=limit)
        return None if slot is None else ManagedPlace(self._manager, slot, execution, self._interrupt)


class ManagedPlace(ReservedPlace):
    """A slot of the manager's, for one execution."""

    def __init__(self, manager: AsyncTaskManager, slot: Slot, execution: Execution, interrupt: Interrupt) -> None:
        self._manager = manager
        self._slot = slot
        self._execution = execution
        self._interrupt = interrupt

    def occupy(self) -> None:
        execution = self._execution
        if execution.body_task is None or execution.registration is None:
            return
        self._manager.handoff_task(
            execution.task,
            execution.body_task,
            timeout=execution.registration.options.max_duration,
            evict=self._evict,
            abandon=self._abandon,
            slot=self._slot,
        )

    def _evict(self, _: HungTaskError) -> None:
        self._interrupt(self._execution, Interruption.HUNG)

    def _abandon(self) -> None:
        self._interrupt(self._execution, Interruption.SHUTDOWN)

    def release(self) -> None:
        self._slot.release()
