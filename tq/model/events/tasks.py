"""What observers are told of tasks, and of the groups that multi executors take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tq.model.task import MISSING

__all__ = [
    "TaskBatchCompleted",
    "TaskBatchStarted",
    "TaskCancelled",
    "TaskCompleted",
    "TaskContext",
    "TaskExhausted",
    "TaskFailed",
    "TaskScheduled",
    "TaskStarted",
    "TaskTiming",
]

_NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskContext:
    """Which task, and who runs it."""

    task_id: str
    task_type: str
    queue_id: str
    task_hash: str | None = None
    payload: Any = field(default_factory=lambda: _NOTHING)
    """An empty mapping unless payloads were asked for."""
    attempt: int = 1
    """1 for the first attempt."""
    max_retries: int = 0
    generation: int = 0
    scheduled_at: datetime | None = None
    """When the task was made."""
    worker_id: str = ""
    consumer_id: str = ""
    log_context: Mapping[str, str] = field(default_factory=lambda: _NOTHING)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskTiming:
    """Where a task's time went, in seconds; never negative."""

    queued_duration: float
    """From being made to the start of this attempt."""
    processing_duration: float
    total_duration: float
    """From being made until now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskScheduled(TaskContext):
    """A task was accepted (TLC-01)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskStarted(TaskContext):
    """An attempt is about to run (TLC-02)."""

    started_at: datetime
    queued_duration: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCompleted(TaskContext):
    """A task succeeded (TLC-03)."""

    timing: TaskTiming
    result: Any = MISSING
    """What the store keeps of the result; `MISSING` where none was given or it was dropped (RES-09, D-60)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFailed(TaskContext):
    """An attempt failed (TLC-04)."""

    timing: TaskTiming
    error: BaseException
    """What the executor raised; an `ExecutionError` with its words where it only said `fail(task, "words")`."""
    will_retry: bool
    next_attempt_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskExhausted(TaskContext):
    """A task failed for good (TLC-05); comes after the `TaskFailed` of the same attempt."""

    timing: TaskTiming
    error: BaseException
    total_attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCancelled(TaskContext):
    """A task was cancelled (TLC-06)."""

    timing: TaskTiming
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskBatchStarted:
    """A multi executor is about to run (BLC-01)."""

    task_type: str
    queue_id: str
    tasks: tuple[TaskContext, ...]
    worker_id: str
    consumer_id: str
    started_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskBatchCompleted:
    """A multi executor has run (BLC-02); each task has its own event as well (D-57)."""

    task_type: str
    queue_id: str
    tasks: tuple[TaskContext, ...]
    worker_id: str
    consumer_id: str
    succeeded: tuple[str, ...]
    """Ids of tasks."""
    failed: tuple[str, ...]
    duration: float
