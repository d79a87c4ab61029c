"""Observers: told what happens, they change nothing (TLC-07, INV-08).

Subclass a protocol and override what you want to hear, as a plain function or a coroutine function; a callback that is
not overridden is never called, and costs nothing. Any object with some of these methods does as well. What a callback
raises is logged and handed to `on_lifecycle_error`; it never reaches a task.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Protocol

from tq.model import events

__all__ = [
    "FlowLifecycleProvider",
    "NotificationProvider",
    "QueueLifecycleProvider",
    "TaskLifecycleProvider",
    "WorkerLifecycleProvider",
]

Heard = Awaitable[None] | None


class ErrorListener(Protocol):
    """What every provider may have besides its own callbacks."""

    def on_lifecycle_error(self, event: events.CallbackFailed, /) -> Heard:
        """A callback raised: of this provider, or of another one that has no such hook (D-59)."""
        return None


class TaskLifecycleProvider(ErrorListener, Protocol):
    """Hears of each task, and of each group given to a multi executor."""

    def on_task_scheduled(self, event: events.TaskScheduled, /) -> Heard:
        """TLC-01: a task was accepted."""
        return None

    def on_task_started(self, event: events.TaskStarted, /) -> Heard:
        """TLC-02: an attempt is about to run."""
        return None

    def on_task_completed(self, event: events.TaskCompleted, /) -> Heard:
        """TLC-03: a task succeeded."""
        return None

    def on_task_failed(self, event: events.TaskFailed, /) -> Heard:
        """TLC-04: an attempt failed, whether or not another one follows."""
        return None

    def on_task_exhausted(self, event: events.TaskExhausted, /) -> Heard:
        """TLC-05: a task failed for good."""
        return None

    def on_task_cancelled(self, event: events.TaskCancelled, /) -> Heard:
        """TLC-06: a task was cancelled."""
        return None

    def on_task_batch_started(self, event: events.TaskBatchStarted, /) -> Heard:
        """BLC-01: a multi executor is about to run."""
        return None

    def on_task_batch_completed(self, event: events.TaskBatchCompleted, /) -> Heard:
        """BLC-02: a multi executor has run."""
        return None


class WorkerLifecycleProvider(ErrorListener, Protocol):
    """Hears of the worker, its consumers and its batches."""

    def on_worker_started(self, event: events.WorkerStarted, /) -> Heard:
        """WLC-01: the worker runs."""
        return None

    def on_worker_heartbeat(self, event: events.WorkerHeartbeat, /) -> Heard:
        """WLC-02: the worker is alive."""
        return None

    def on_worker_stopped(self, event: events.WorkerStopped, /) -> Heard:
        """WLC-03: the worker has stopped."""
        return None

    def on_batch_started(self, event: events.BatchStarted, /) -> Heard:
        """WLC-04: a batch came from a queue."""
        return None

    def on_batch_completed(self, event: events.BatchCompleted, /) -> Heard:
        """WLC-05: a batch is done with."""
        return None

    def on_consumer_started(self, event: events.ConsumerStarted, /) -> Heard:
        """CLC-01: a consumer has its first batch; once per consumer id (CLC-03)."""
        return None

    def on_consumer_stopped(self, event: events.ConsumerStopped, /) -> Heard:
        """CLC-02: a consumer has stopped."""
        return None


class FlowLifecycleProvider(ErrorListener, Protocol):
    """Hears of flows: that one was started, and how it was decided."""

    def on_flow_started(self, event: events.FlowStarted, /) -> Heard:
        """FLC-01: a flow was started."""
        return None

    def on_flow_completed(self, event: events.FlowCompleted, /) -> Heard:
        """FLC-02: the barrier was met."""
        return None

    def on_flow_aborted(self, event: events.FlowAborted, /) -> Heard:
        """FLC-03: too many members failed."""
        return None

    def on_flow_timed_out(self, event: events.FlowTimedOut, /) -> Heard:
        """FLC-04: the deadline passed first."""
        return None

    def on_flow_cancelled(self, event: events.FlowCancelled, /) -> Heard:
        """Somebody cancelled the flow."""
        return None


class QueueLifecycleProvider(ErrorListener, Protocol):
    """Hears of messages and of those who consume them."""

    def on_message_published(self, event: events.MessagePublished, /) -> Heard:
        """QLC-02: a message was added."""
        return None

    def on_message_consumed(self, event: events.MessageConsumed, /) -> Heard:
        """QLC-03: a message was handed out."""
        return None

    def on_consumer_connected(self, event: events.ConsumerConnected, /) -> Heard:
        """QLC-04: a consumer listens to a queue."""
        return None

    def on_consumer_disconnected(self, event: events.ConsumerDisconnected, /) -> Heard:
        """QLC-05: a consumer listens no more."""
        return None

    def on_consumer_checkpoint(self, event: events.ConsumerCheckpoint, /) -> Heard:
        """QLC-06: a consumer of a stream has noted its place."""
        return None


class NotificationProvider(ErrorListener, Protocol):
    """Hears sums instead of single events."""

    def on_queue_stats(self, stats: events.QueueStats, /) -> Heard:
        """NTP-02: enough has been counted on a queue. What raises here is counted on and told again (D-58)."""
        return None

    def on_tasks_discarded(self, info: events.TasksDiscarded, /) -> Heard:
        """NTP-04: tasks failed for good."""
        return None

    def on_task_error(self, info: events.TroubleReport, /) -> Heard:
        """NTP-05: something around the tasks went wrong."""
        return None

    def on_final_stats(self, stats: Sequence[events.QueueStats], /) -> Heard:
        """NTP-03: the worker stops; every queue on which something was counted that had not been told yet."""
        return None
