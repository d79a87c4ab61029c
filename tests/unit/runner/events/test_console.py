"""The provider that prints: one line per event."""

import io
from typing import Any

import pytest

from tq.clock import to_datetime
from tq.model import Entity, Join
from tq.model import events as told
from tq.ports import observer
from tq.runner.events import ConsoleHealthProvider

AT = to_datetime(1_900_000_000.0)
TASK: dict[str, Any] = {"task_id": "t-1", "task_type": "images.resize", "queue_id": "media", "attempt": 2}
TIMES = told.TaskTiming(queued_duration=1.0, processing_duration=0.5, total_duration=1.5)
GROUP: dict[str, Any] = {
    "task_type": "images.resize",
    "queue_id": "media",
    "tasks": (told.TaskContext(**TASK),),
    "worker_id": "w-1",
    "consumer_id": "c-1",
}
WORKER: dict[str, Any] = {
    "worker_id": "w-1",
    "hostname": "host",
    "pid": 7,
    "started_at": AT,
    "enabled_queues": ("a", "b"),
}
BATCH: dict[str, Any] = {**WORKER, "queue_id": "media", "consumer_id": "c-1", "batch_size": 3}
STATS = told.ConsumerStats(consumer_id="c-1", queue_id="media", tasks_processed=5)
FLOW: dict[str, Any] = {
    "flow_id": "f-1",
    "total_steps": 3,
    "join": Join("joined"),
    "failure_policy": "abort",
    "entity": Entity("Item", "i-1"),
}
MESSAGE: dict[str, Any] = {
    "queue_id": "media",
    "provider": "memory",
    "message_type": "images.resize",
    "message_id": "t-1",
    "size_bytes": 10,
}
CONSUMER: dict[str, Any] = {
    "consumer_id": "c-1",
    "consumer_type": "worker",
    "queue_id": "media",
    "provider": "memory",
}

FAILED = "task failed id=t-1 type=images.resize queue=media attempt=2"

EVENTS: dict[str, tuple[object, str]] = {
    "on_task_scheduled": (
        told.TaskScheduled(**TASK),
        "task scheduled id=t-1 type=images.resize queue=media attempt=2",
    ),
    "on_task_started": (
        told.TaskStarted(**TASK, started_at=AT, queued_duration=0.25),
        "task started id=t-1 type=images.resize queue=media attempt=2 queued=0.250",
    ),
    "on_task_completed": (
        told.TaskCompleted(**TASK, timing=TIMES),
        "task completed id=t-1 type=images.resize queue=media attempt=2 duration=0.500",
    ),
    "on_task_failed": (
        told.TaskFailed(**TASK, timing=TIMES, error=ValueError("no"), will_retry=True, next_attempt_at=AT),
        f"{FAILED} duration=0.500 next_attempt={AT.isoformat()} error=ValueError('no')",
    ),
    "on_task_exhausted": (
        told.TaskExhausted(**TASK, timing=TIMES, error=ValueError("no"), total_attempts=2),
        "task exhausted id=t-1 type=images.resize queue=media attempt=2 error=ValueError('no')",
    ),
    "on_task_cancelled": (
        told.TaskCancelled(**TASK, timing=TIMES, reason="enough"),
        "task cancelled id=t-1 type=images.resize queue=media attempt=2 reason=enough",
    ),
    "on_task_batch_started": (
        told.TaskBatchStarted(**GROUP, started_at=AT),
        "task batch started type=images.resize queue=media size=1",
    ),
    "on_task_batch_completed": (
        told.TaskBatchCompleted(**GROUP, succeeded=("t-1",), failed=(), duration=2.0),
        "task batch completed type=images.resize queue=media succeeded=1 failed=0 duration=2.000",
    ),
    "on_worker_started": (told.WorkerStarted(**WORKER), "worker started id=w-1 host=host pid=7 queues=a,b"),
    "on_worker_heartbeat": (
        told.WorkerHeartbeat(
            **WORKER,
            stats=told.WorkerStats(tasks_processed=5, tasks_failed=1),
            active_tasks=2,
            active_consumers=(STATS,),
            memory_usage_mb=64.0,
        ),
        "worker heartbeat id=w-1 active=2 processed=5 failed=1 memory_mb=64.000",
    ),
    "on_worker_stopped": (
        told.WorkerStopped(**WORKER, reason="shutdown", final_stats=told.WorkerStats(tasks_processed=5)),
        "worker stopped id=w-1 reason=shutdown processed=5",
    ),
    "on_batch_started": (
        told.BatchStarted(**BATCH, task_types=("a", "b")),
        "batch started queue=media size=3 types=a,b",
    ),
    "on_batch_completed": (
        told.BatchCompleted(**BATCH, succeeded=2, failed=1, duration=2.0),
        "batch completed queue=media size=3 succeeded=2 failed=1 duration=2.000",
    ),
    "on_consumer_started": (
        told.ConsumerStarted(consumer_id="c-1", queue_id="media", worker_id="w-1", started_at=AT),
        "consumer started id=c-1 queue=media",
    ),
    "on_consumer_stopped": (
        told.ConsumerStopped(consumer_id="c-1", queue_id="media", worker_id="w-1", reason="shutdown", stats=STATS),
        "consumer stopped id=c-1 reason=shutdown processed=5",
    ),
    "on_flow_started": (
        told.FlowStarted(**FLOW, started_at=AT, step_types=("a", "b", "c")),
        "flow started id=f-1 steps=3 join=joined policy=abort",
    ),
    "on_flow_completed": (
        told.FlowCompleted(**FLOW, duration=2.0, steps_succeeded=3, steps_failed=0),
        "flow completed id=f-1 steps=3 join=joined succeeded=3 failed=0 duration=2.000",
    ),
    "on_flow_aborted": (
        told.FlowAborted(**FLOW, duration=2.0, steps_completed=2, trigger_step_index=1),
        "flow aborted id=f-1 steps=3 join=joined by_step=1 duration=2.000",
    ),
    "on_flow_timed_out": (
        told.FlowTimedOut(**FLOW, duration=2.0, steps_completed=2),
        "flow timed out id=f-1 steps=3 join=joined ended=2 duration=2.000",
    ),
    "on_flow_cancelled": (
        told.FlowCancelled(**FLOW, duration=2.0, steps_completed=2, reason="enough"),
        "flow cancelled id=f-1 steps=3 join=joined reason=enough duration=2.000",
    ),
    "on_message_published": (
        told.MessagePublished(**MESSAGE),
        "message published id=t-1 type=images.resize queue=media",
    ),
    "on_message_consumed": (
        told.MessageConsumed(**MESSAGE, age=1.5),
        "message consumed id=t-1 type=images.resize queue=media age=1.500",
    ),
    "on_consumer_connected": (
        told.ConsumerConnected(**CONSUMER),
        "consumer connected id=c-1 queue=media provider=memory",
    ),
    "on_consumer_disconnected": (
        told.ConsumerDisconnected(**CONSUMER, reason="shutdown"),
        "consumer disconnected id=c-1 queue=media reason=shutdown",
    ),
    "on_consumer_checkpoint": (
        told.ConsumerCheckpoint(
            queue_id="media",
            consumer_id="c-1",
            provider="kinesis",
            shard_id="s-0",
            checkpoint="495",
            records_since_last=3,
        ),
        "consumer checkpoint id=c-1 shard=s-0 at=495",
    ),
    "on_lifecycle_error": (
        told.CallbackFailed(callback="on_task_started", event=None, error=ValueError("no")),
        "callback failed callback=on_task_started error=ValueError('no')",
    ),
}


@pytest.mark.spec("TLC-11")
@pytest.mark.parametrize("callback", EVENTS)
def test_each_event_is_one_line(callback: str) -> None:
    event, line = EVENTS[callback]
    stream = io.StringIO()
    getattr(ConsoleHealthProvider(stream=stream), callback)(event)
    assert stream.getvalue() == f"[Health] {line}\n"


@pytest.mark.spec("TLC-11")
def test_it_hears_everything_of_all_four_families() -> None:
    families = (
        observer.TaskLifecycleProvider,
        observer.WorkerLifecycleProvider,
        observer.FlowLifecycleProvider,
        observer.QueueLifecycleProvider,
    )
    callbacks = {name for family in families for name in dir(family) if name.startswith("on_")}
    assert callbacks == set(EVENTS)
    assert callbacks <= set(vars(ConsoleHealthProvider))


@pytest.mark.spec("TLC-11")
def test_it_prints_where_standard_output_is_at_that_moment(capsys: pytest.CaptureFixture[str]) -> None:
    provider = ConsoleHealthProvider("[tq]")
    provider.on_task_scheduled(told.TaskScheduled(**TASK))
    assert capsys.readouterr().out == "[tq] task scheduled id=t-1 type=images.resize queue=media attempt=2\n"


def test_no_value_breaks_the_line_or_fills_the_screen() -> None:
    stream = io.StringIO()
    ConsoleHealthProvider(stream=stream).on_task_cancelled(
        told.TaskCancelled(**TASK, timing=TIMES, reason="one\ntwo\x1b[31m" + "x" * 10_000)
    )
    line = stream.getvalue()
    assert line.count("\n") == 1
    assert "reason=one_two_[31mxxx" in line
    assert len(line) < 500
