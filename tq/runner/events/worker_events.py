"""What is told of the worker, its consumers and their batches."""

from __future__ import annotations

from collections.abc import Sequence

from tq.clock import to_datetime
from tq.model import events as told

from .observers import Observers
from .portrait import memory_usage_mb, worker_fields

__all__ = ["WorkerEvents"]


class WorkerEvents(Observers):
    """Tells the worker provider."""

    async def worker_started(self) -> None:
        """Tell that the worker runs (WLC-01)."""
        await self._workers.tell("on_worker_started", told.WorkerStarted(**worker_fields(self.worker)))

    async def worker_heartbeat(self, active: int = 0) -> None:
        """Tell that the worker is alive; `active` tasks run at this moment (WLC-02)."""
        if self._workers.wants("on_worker_heartbeat"):
            event = told.WorkerHeartbeat(
                **worker_fields(self.worker),
                stats=self._work.worker(),
                active_tasks=active,
                active_consumers=tuple(self._work.consumer(queue, id) for id, queue in self._consumers.items()),
                memory_usage_mb=memory_usage_mb(),
            )
            await self._workers.tell("on_worker_heartbeat", event)

    async def worker_stopped(self, reason: str = "shutdown") -> None:
        """Tell that every consumer has stopped, then that the worker has (CLC-02, WLC-03); once."""
        for consumer_id, queue in self._consumers.items():
            event = told.ConsumerStopped(
                consumer_id=consumer_id,
                queue_id=queue,
                worker_id=self.worker.worker_id,
                reason=reason,
                stats=self._work.consumer(queue, consumer_id),
            )
            await self._workers.tell("on_consumer_stopped", event)
        self._consumers.clear()
        stats = self._work.worker()
        stopped = told.WorkerStopped(**worker_fields(self.worker), reason=reason, final_stats=stats)
        await self._workers.tell("on_worker_stopped", stopped)

    async def consumer_seen(self, queue: str, consumer_id: str) -> None:
        """Tell that a consumer has started, unless it was told (CLC-01, CLC-03)."""
        if consumer_id in self._consumers:
            return
        self._consumers[consumer_id] = queue
        self._consumer_of[queue] = consumer_id
        event = told.ConsumerStarted(
            consumer_id=consumer_id,
            queue_id=queue,
            worker_id=self.worker.worker_id,
            started_at=to_datetime(self._clock.now()),
        )
        await self._workers.tell("on_consumer_started", event)

    async def batch_started(self, queue: str, consumer_id: str, size: int, types: Sequence[str]) -> None:
        """Tell that a batch came from a queue (WLC-04)."""
        if self.wants_batches:
            event = told.BatchStarted(
                **worker_fields(self.worker),
                queue_id=queue,
                consumer_id=consumer_id,
                batch_size=size,
                task_types=tuple(dict.fromkeys(types)),
            )
            await self._workers.tell("on_batch_started", event)

    async def batch_completed(
        self,
        queue: str,
        consumer_id: str,
        size: int,
        succeeded: int,
        failed: int,
        duration: float,
    ) -> None:
        """Tell that a batch is done with (WLC-05); its duration counts in the worker's statistics."""
        self._work.spent(duration)
        if self.wants_batches:
            event = told.BatchCompleted(
                **worker_fields(self.worker),
                queue_id=queue,
                consumer_id=consumer_id,
                batch_size=size,
                succeeded=succeeded,
                failed=failed,
                duration=duration,
            )
            await self._workers.tell("on_batch_completed", event)
