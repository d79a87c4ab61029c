"""What observers are told: one frozen value per event (spec 14, 15 and 19).

Durations are seconds, instants are aware UTC datetimes. An event of a task, worker, consumer or flow is that thing's
context with a few fields added, so `event.task_id` and `event.queue_id` work on all of them.
"""

from tq.model.events.flows import (
    FlowAborted,
    FlowCancelled,
    FlowCompleted,
    FlowContext,
    FlowStarted,
    FlowTimedOut,
)
from tq.model.events.notices import (
    CallbackFailed,
    QueueStats,
    TasksDiscarded,
    TroubleReport,
)
from tq.model.events.queues import (
    ConsumerCheckpoint,
    ConsumerConnected,
    ConsumerDisconnected,
    MessageConsumed,
    MessagePublished,
)
from tq.model.events.tasks import (
    TaskBatchCompleted,
    TaskBatchStarted,
    TaskCancelled,
    TaskCompleted,
    TaskContext,
    TaskExhausted,
    TaskFailed,
    TaskScheduled,
    TaskStarted,
    TaskTiming,
)
from tq.model.events.workers import (
    BatchCompleted,
    BatchStarted,
    ConsumerStarted,
    ConsumerStats,
    ConsumerStopped,
    WorkerHeartbeat,
    WorkerInfo,
    WorkerStarted,
    WorkerStats,
    WorkerStopped,
)

__all__ = [
    "BatchCompleted",
    "BatchStarted",
    "CallbackFailed",
    "ConsumerCheckpoint",
    "ConsumerConnected",
    "ConsumerDisconnected",
    "ConsumerStarted",
    "ConsumerStats",
    "ConsumerStopped",
    "FlowAborted",
    "FlowCancelled",
    "FlowCompleted",
    "FlowContext",
    "FlowStarted",
    "FlowTimedOut",
    "MessageConsumed",
    "MessagePublished",
    "QueueStats",
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
    "TasksDiscarded",
    "TroubleReport",
    "WorkerHeartbeat",
    "WorkerInfo",
    "WorkerStarted",
    "WorkerStats",
    "WorkerStopped",
]
