"""What the manager tells about itself."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["AsyncTaskMetrics", "ShutdownResult"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AsyncTaskMetrics:
    """The manager's figures at one instant (ATM-11); totals are since start, or since `reset_counters`."""

    active_task_count: int
    """Bodies that run, those that were ended and have not stopped yet included: each of them holds a slot."""
    ending_task_count: int
    """Those of them that were evicted or abandoned; above zero for long where bodies ignore being cancelled."""
    total_handed_off: int
    total_completed: int
    total_rejected: int
    total_timed_out: int
    oldest_task_age: float
    """Seconds; 0 when idle."""
    max_tasks: int
    utilization_percent: float
    """Active tasks in percent of `max_tasks`; 0 where that is 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShutdownResult:
    """How a shutdown went (ATM-15, ATM-16)."""

    completed_during_grace: int
    """Tasks that ended by themselves meanwhile, failed ones included."""
    abandoned_task_ids: tuple[str, ...]
    """Tasks that still ran when the grace period was over, by age."""
