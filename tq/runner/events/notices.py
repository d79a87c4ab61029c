"""Sums for the notification provider, which hears of thousands of tasks at once (NTP)."""

from __future__ import annotations

from functools import partial

from tq.model import events as told

from .observers import Observers
from .tally import QueueCount

__all__ = ["Notices"]

DISCARDING = "trackDiscardedTasks"


class Notices(Observers):
    """Counts, and tells the notification provider."""

    def count(
        self, queue: str, consumer_id: str, *, success: int = 0, failed: int = 0, async_: int = 0, ignored: int = 0
    ) -> None:
        """Count attempts that have ended, and tasks that were handed over (NTP-02, CLC-04). Waits for nobody.

        The counts of a queue are told once they are worth it, and start again only when the provider has heard them
        without raising (D-58).
        """
        if success or failed or ignored:
            self._work.count(queue, consumer_id, success, failed, ignored, self._clock.now())
        if not self.wants_notes:
            return
        counts = self._counts.get(queue)
        if counts is None:
            counts = self._counts[queue] = QueueCount()
        counts.success += success
        counts.failed += failed
        counts.async_ += async_
        counts.ignored += ignored
        worth_it = counts.total >= self._stats_threshold or counts.failed >= self._failure_threshold
        if worth_it and not counts.telling and self.wants_stats:
            stats = counts.stats(queue, self.worker.worker_id)
            counts.telling = self._notes.post("on_queue_stats", stats, partial(_heard, counts, stats))

    async def tasks_discarded(self, count: int) -> None:
        """Count tasks that failed for good, and tell it with the total of the last 24 hours (NTP-04, D-58)."""
        try:
            total = self._discards.add(count, self._clock.now())
        except Exception as error:  # noqa: BLE001 -- a wrong count must not disturb whoever settles tasks (NTP-05)
            await self.trouble(error, DISCARDING)
            return
        event = told.TasksDiscarded(count=count, last_24_hour_total=total)
        self._notes.post("on_tasks_discarded", event, self._discards_heard)

    async def _discards_heard(self, error: BaseException | None) -> None:
        if error is not None:
            await self.trouble(error, DISCARDING)

    async def trouble(self, error: BaseException, context: str) -> None:
        """Tell that something around the tasks went wrong (NTP-05)."""
        self._notes.post("on_task_error", told.TroubleReport(error=error, context=context))

    async def final_stats(self) -> None:
        """Tell, for every queue, what was counted and not told yet; then all of it at once (NTP-03, D-58).

        Returns when it has been heard, or after a few seconds with a provider that does not answer.
        """
        if not self.wants_notes:
            return  # nobody else is waited for here
        await self.flush()  # a report under way takes off what it told; else that would be told twice
        stats = [counts.stats(queue, self.worker.worker_id) for queue, counts in self._counts.items() if counts.total]
        for queue_stats in stats:
            self._notes.post("on_queue_stats", queue_stats)
        self._notes.post("on_final_stats", stats)
        await self.flush()


async def _heard(counts: QueueCount, stats: told.QueueStats, error: BaseException | None) -> None:
    counts.telling = False
    if error is None:
        counts.told(stats)
