"""A provider that prints: one line per event, of all four families (TLC-11). The model for providers of one's own."""

from __future__ import annotations

import re
import sys
from typing import TextIO

from tq.model import events
from tq.model.events import FlowContext, TaskContext
from tq.ports.observer import (
    FlowLifecycleProvider,
    QueueLifecycleProvider,
    TaskLifecycleProvider,
    WorkerLifecycleProvider,
)

__all__ = ["ConsoleHealthProvider"]

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
LONGEST = 300
"""Characters of one value: an error may hold a whole document."""


class ConsoleHealthProvider(
    TaskLifecycleProvider, WorkerLifecycleProvider, FlowLifecycleProvider, QueueLifecycleProvider
):
    """Writes `[Health] task completed id=… type=… queue=… duration=0.120` for each event.

    Args:
        prefix: what each line begins with.
        stream: where to; standard output, as it is when the event comes, if none is given.
    """

    def __init__(self, prefix: str = "[Health]", stream: TextIO | None = None) -> None:
        self._prefix = prefix
        self._stream = stream

    def _say(self, what: str, **values: object) -> None:
        words = [self._prefix, what, *(f"{name}={_text(value)}" for name, value in values.items())]
        stream = self._stream or sys.stdout
        stream.write(" ".join(word for word in words if word) + "\n")  # in one call: lines of two events do not mix
        stream.flush()

    # --- tasks --------------------------------------------------------------------------------------------------------

    def _task(self, what: str, event: TaskContext, **values: object) -> None:
        shown = {"id": event.task_id, "type": event.task_type, "queue": event.queue_id, "attempt": event.attempt}
        self._say(f"task {what}", **shown, **values)

    def on_task_scheduled(self, event: events.TaskScheduled) -> None:
        self._task("scheduled", event)

    def on_task_started(self, event: events.TaskStarted) -> None:
        self._task("started", event, queued=event.queued_duration)

    def on_task_completed(self, event: events.TaskCompleted) -> None:
        self._task("completed", event, duration=event.timing.processing_duration)

    def on_task_failed(self, event: events.TaskFailed) -> None:
        again = event.next_attempt_at.isoformat() if event.next_attempt_at else "never"
        duration = event.timing.processing_duration
        self._task("failed", event, duration=duration, next_attempt=again, error=repr(event.error))

    def on_task_exhausted(self, event: events.TaskExhausted) -> None:
        self._task("exhausted", event, error=repr(event.error))

    def on_task_cancelled(self, event: events.TaskCancelled) -> None:
        self._task("cancelled", event, reason=event.reason)

    def on_task_batch_started(self, event: events.TaskBatchStarted) -> None:
        self._say("task batch started", type=event.task_type, queue=event.queue_id, size=len(event.tasks))

    def on_task_batch_completed(self, event: events.TaskBatchCompleted) -> None:
        self._say(
            "task batch completed",
            type=event.task_type,
            queue=event.queue_id,
            succeeded=len(event.succeeded),
            failed=len(event.failed),
            duration=event.duration,
        )

    # --- worker, consumers, batches -----------------------------------------------------------------------------------

    def on_worker_started(self, event: events.WorkerStarted) -> None:
        queues = ",".join(event.enabled_queues)
        self._say("worker started", id=event.worker_id, host=event.hostname, pid=event.pid, queues=queues)

    def on_worker_heartbeat(self, event: events.WorkerHeartbeat) -> None:
        self._say(
            "worker heartbeat",
            id=event.worker_id,
            active=event.active_tasks,
            processed=event.stats.tasks_processed,
            failed=event.stats.tasks_failed,
            memory_mb=event.memory_usage_mb,
        )

    def on_worker_stopped(self, event: events.WorkerStopped) -> None:
        processed = event.final_stats.tasks_processed
        self._say("worker stopped", id=event.worker_id, reason=event.reason, processed=processed)

    def on_batch_started(self, event: events.BatchStarted) -> None:
        self._say("batch started", queue=event.queue_id, size=event.batch_size, types=",".join(event.task_types))

    def on_batch_completed(self, event: events.BatchCompleted) -> None:
        self._say(
            "batch completed",
            queue=event.queue_id,
            size=event.batch_size,
            succeeded=event.succeeded,
            failed=event.failed,
            duration=event.duration,
        )

    def on_consumer_started(self, event: events.ConsumerStarted) -> None:
        self._say("consumer started", id=event.consumer_id, queue=event.queue_id)

    def on_consumer_stopped(self, event: events.ConsumerStopped) -> None:
        processed = event.stats.tasks_processed
        self._say("consumer stopped", id=event.consumer_id, reason=event.reason, processed=processed)

    # --- flows --------------------------------------------------------------------------------------------------------

    def _flow(self, what: str, event: FlowContext, **values: object) -> None:
        self._say(f"flow {what}", id=event.flow_id, steps=event.total_steps, join=event.join.type, **values)

    def on_flow_started(self, event: events.FlowStarted) -> None:
        self._flow("started", event, policy=event.failure_policy)

    def on_flow_completed(self, event: events.FlowCompleted) -> None:
        ended = {"succeeded": event.steps_succeeded, "failed": event.steps_failed}
        self._flow("completed", event, **ended, duration=event.duration)

    def on_flow_aborted(self, event: events.FlowAborted) -> None:
        self._flow("aborted", event, by_step=event.trigger_step_index, duration=event.duration)

    def on_flow_timed_out(self, event: events.FlowTimedOut) -> None:
        self._flow("timed out", event, ended=event.steps_completed, duration=event.duration)

    def on_flow_cancelled(self, event: events.FlowCancelled) -> None:
        self._flow("cancelled", event, reason=event.reason, duration=event.duration)

    # --- messages -----------------------------------------------------------------------------------------------------

    def on_message_published(self, event: events.MessagePublished) -> None:
        self._say("message published", id=event.message_id, type=event.message_type, queue=event.queue_id)

    def on_message_consumed(self, event: events.MessageConsumed) -> None:
        self._say("message consumed", id=event.message_id, type=event.message_type, queue=event.queue_id, age=event.age)

    def on_consumer_connected(self, event: events.ConsumerConnected) -> None:
        self._say("consumer connected", id=event.consumer_id, queue=event.queue_id, provider=event.provider)

    def on_consumer_disconnected(self, event: events.ConsumerDisconnected) -> None:
        self._say("consumer disconnected", id=event.consumer_id, queue=event.queue_id, reason=event.reason)

    def on_consumer_checkpoint(self, event: events.ConsumerCheckpoint) -> None:
        self._say("consumer checkpoint", id=event.consumer_id, shard=event.shard_id, at=event.checkpoint)

    def on_lifecycle_error(self, event: events.CallbackFailed) -> None:
        self._say("callback failed", callback=event.callback, error=repr(event.error))


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    text = _CONTROL.sub("_", str(value))
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
