"""What observers are told of a worker, its consumers and its batches."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

__all__ = [
    "BatchCompleted",
    "BatchStarted",
    "ConsumerStarted",
    "ConsumerStats",
    "ConsumerStopped",
    "WorkerHeartbeat",
    "WorkerInfo",
    "WorkerStarted",
    "WorkerStats",
    "WorkerStopped",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerInfo:
    """Which worker (WLC-06)."""

    worker_id: str
    hostname: str
    pid: int
    started_at: datetime
    enabled_queues: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStats:
    """What a worker has done since it started: attempts, not final outcomes."""

    tasks_processed: int = 0
    tasks_succeeded: int = 0
    tasks_failed: int = 0
    avg_processing: float = 0.0
    """Seconds: durations of batches in sum, by tasks."""
    current_task: str | None = None
    """Reserved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerStats:
    """What one consumer of a worker has done: attempts, not final outcomes (CLC-04)."""

    consumer_id: str
    queue_id: str
    tasks_processed: int = 0
    tasks_succeeded: int = 0
    tasks_failed: int = 0
    last_task_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStarted(WorkerInfo):
    """A worker runs (WLC-01)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerHeartbeat(WorkerInfo):
    """A worker is alive (WLC-02)."""

    stats: WorkerStats
    active_tasks: int
    """Tasks running at this moment."""
    active_consumers: tuple[ConsumerStats, ...]
    memory_usage_mb: float | None = None
    """Resident memory in MiB, None where the system does not tell."""
    cpu_percent: float | None = None
    """Reserved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStopped(WorkerInfo):
    """A worker has stopped (WLC-03); reasons are `shutdown`, `error` and `idle_timeout`."""

    reason: str
    final_stats: WorkerStats


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchStarted(WorkerInfo):
    """A batch came from a queue (WLC-04)."""

    queue_id: str
    consumer_id: str
    batch_size: int
    task_types: tuple[str, ...]
    """Each type once, in order of appearance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchCompleted(WorkerInfo):
    """A batch is done with (WLC-05)."""

    queue_id: str
    consumer_id: str
    batch_size: int
    succeeded: int
    failed: int
    duration: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerStarted:
    """A consumer has its first batch (CLC-01)."""

    consumer_id: str
    queue_id: str
    worker_id: str
    started_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerStopped:
    """A consumer has stopped (CLC-02)."""

    consumer_id: str
    queue_id: str
    worker_id: str
    reason: str
    stats: ConsumerStats
