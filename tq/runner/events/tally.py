"""Counting outcomes: per consumer and worker for their statistics, per queue and hour for notifications."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from tq.clock import to_datetime
from tq.model.events import ConsumerStats, QueueStats, WorkerStats

__all__ = ["Discards", "QueueCount", "Work"]


class Work:
    """What a worker and its consumers have done since it started (WLC-06, CLC-04)."""

    def __init__(self) -> None:
        self._counts: dict[str, list[int]] = {}
        self._queues: dict[str, str] = {}
        self._last: dict[str, float] = {}
        self._busy = 0.0

    def count(self, queue: str, consumer_id: str, succeeded: int, failed: int, ignored: int, now: float) -> None:
        """Add attempts that have ended."""
        counts = self._counts.get(consumer_id)
        if counts is None:
            counts = self._counts[consumer_id] = [0, 0, 0]
            self._queues[consumer_id] = queue
        counts[0] += succeeded + failed + ignored
        counts[1] += succeeded
        counts[2] += failed
        self._last[consumer_id] = now

    def spent(self, duration: float) -> None:
        """Add the seconds that a batch took."""
        self._busy += duration

    def worker(self) -> WorkerStats:
        """Return the sums of all consumers."""
        processed, succeeded, failed = (sum(column) for column in zip(*self._counts.values(), (0, 0, 0), strict=False))
        return WorkerStats(
            tasks_processed=processed,
            tasks_succeeded=succeeded,
            tasks_failed=failed,
            avg_processing=self._busy / processed if processed else 0.0,
        )

    def consumer(self, queue: str, consumer_id: str) -> ConsumerStats:
        """Return what one consumer has done; nothing, where it has not counted yet."""
        processed, succeeded, failed = self._counts.get(consumer_id, (0, 0, 0))
        last = self._last.get(consumer_id)
        return ConsumerStats(
            consumer_id=consumer_id,
            queue_id=self._queues.get(consumer_id, queue),
            tasks_processed=processed,
            tasks_succeeded=succeeded,
            tasks_failed=failed,
            last_task_at=None if last is None else to_datetime(last),
        )


@dataclass(slots=True)
class QueueCount:
    """Outcomes of one queue that have not been told yet (NTP-02)."""

    success: int = 0
    failed: int = 0
    async_: int = 0
    ignored: int = 0
    telling: bool = False
    """Whether a report is under way: what it holds must not be told a second time meanwhile."""

    @property
    def total(self) -> int:
        return self.success + self.failed + self.async_ + self.ignored

    def stats(self, queue: str, instance_id: str) -> QueueStats:
        """Return the counts as they are told."""
        return QueueStats(
            queue_name=queue,
            success=self.success,
            failed=self.failed,
            async_=self.async_,
            ignored=self.ignored,
            instance_id=instance_id,
        )

    def told(self, stats: QueueStats) -> None:
        """Take off what was told; what was counted meanwhile stays."""
        self.success -= stats.success
        self.failed -= stats.failed
        self.async_ -= stats.async_
        self.ignored -= stats.ignored


class Discards:
    """Tasks that failed for good, by the hour, for a day (NTP-04, D-58)."""

    def __init__(self) -> None:
        self._hours: defaultdict[int, int] = defaultdict(int)

    def add(self, count: int, now: float) -> int:
        """Count these at this instant; return the total of the last 24 hours, the running one included."""
        hour = int(now // 3600)
        self._hours[hour] += count
        for old in [old for old in self._hours if old <= hour - 24]:
            del self._hours[old]
        return sum(self._hours.values())
