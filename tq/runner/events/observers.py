"""Who listens, and to what: the part of `Events` that every family of events shares."""

from __future__ import annotations

from collections.abc import Callable

from tq.clock import Clock
from tq.lifecycle import Spawner
from tq.model.events import ConsumerConnected, WorkerInfo
from tq.ports import observer

from .listener import Audience, Mode
from .tally import Discards, QueueCount, Work

__all__ = ["Observers"]


class Observers:
    """The providers, what they want to hear, and what is counted for them.

    The attributes `wants_…` never change; a hot loop asks them before it gathers what an event would need.

    Args:
        clock: where the present comes from.
        worker: who tells.
        spawner: owner of the tasks that tell.
        task_provider: hears of tasks (TLC, BLC).
        worker_provider: hears of worker, consumers and batches (WLC, CLC).
        flow_provider: hears of flows (FLC).
        queue_provider: hears of messages (QLC).
        notifications: hears sums (NTP).
        mode: "async" is fire and forget, "sync" waits; notifications never hold anybody up.
        include_payload: whether task events carry the payload.
        queue_stats_threshold: outcomes on one queue after which they are told.
        failure_threshold: failures on one queue after which they are told.
        default_retries: the executor's limit for a task that has none of its own: `(queue, type) -> int`.
        provider: the name of the queue's provider, or `(queue) -> name` where there are several.
        backlog: events that one provider may be behind before it loses some.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        worker: WorkerInfo,
        spawner: Spawner,
        task_provider: observer.TaskLifecycleProvider | None = None,
        worker_provider: observer.WorkerLifecycleProvider | None = None,
        flow_provider: observer.FlowLifecycleProvider | None = None,
        queue_provider: observer.QueueLifecycleProvider | None = None,
        notifications: observer.NotificationProvider | None = None,
        mode: Mode = "async",
        include_payload: bool = False,
        queue_stats_threshold: int = 1000,
        failure_threshold: int = 100,
        default_retries: Callable[[str, str], int] | None = None,
        provider: str | Callable[[str], str] = "",
        backlog: int = 10_000,
    ) -> None:
        self.worker = worker
        self._clock = clock
        self._include_payload = include_payload
        self._stats_threshold = queue_stats_threshold
        self._failure_threshold = failure_threshold
        self._default_retries = default_retries
        self._provider = provider
        audience = self._audience = Audience(clock=clock, mode=mode, spawner=spawner, limit=backlog)
        self._tasks = audience.listener(task_provider, observer.TaskLifecycleProvider)
        self._workers = audience.listener(worker_provider, observer.WorkerLifecycleProvider)
        self._flows = audience.listener(flow_provider, observer.FlowLifecycleProvider)
        self._queues = audience.listener(queue_provider, observer.QueueLifecycleProvider)
        self._notes = audience.listener(notifications, observer.NotificationProvider, "async")

        self.wants_tasks = self._tasks.wants()
        self.wants_scheduled = self._tasks.wants("on_task_scheduled")
        self.wants_started = self._tasks.wants("on_task_started")
        self.wants_settled = self._tasks.wants(
            "on_task_completed", "on_task_failed", "on_task_exhausted", "on_task_cancelled"
        )
        self.wants_groups = self._tasks.wants("on_task_batch_started", "on_task_batch_completed")
        self.wants_workers = self._workers.wants()
        self.wants_batches = self._workers.wants("on_batch_started", "on_batch_completed")
        self.wants_flows = self._flows.wants()
        self.wants_queue = self._queues.wants()
        self.wants_published = self._queues.wants("on_message_published")
        self.wants_added = self.wants_scheduled or self.wants_published
        self.wants_consumed = self._queues.wants("on_message_consumed")
        self.wants_notes = self._notes.wants()
        self.wants_stats = self._notes.wants("on_queue_stats")

        self._consumers: dict[str, str] = {}
        """Consumer id → queue, of the consumers that have started."""
        self._consumer_of: dict[str, str] = {}
        """Queue → consumer id."""
        self._connected: dict[tuple[str, str], ConsumerConnected] = {}
        self._work = Work()
        self._counts: dict[str, QueueCount] = {}
        self._discards = Discards()

    async def flush(self, timeout: float | None = 5.0) -> bool:
        """Wait until all that was told has been heard; False when `timeout` seconds were not enough."""
        return await self._audience.flush(timeout)
