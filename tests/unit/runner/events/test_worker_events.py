"""What observers are told of the worker, its consumers and its batches, and of messages."""

import sys
from typing import Any, cast

import pytest

from tq.clock import Clock, to_datetime
from tq.codec import message_of
from tq.lifecycle import Spawner
from tq.model import Delivery, Message, Task
from tq.model import events as told
from tq.ports import QueueLifecycleProvider, WorkerLifecycleProvider
from tq.runner.events import Events
from tq.testing.probe import Probe

WORKER = told.WorkerInfo(
    worker_id="w-1", hostname="host", pid=7, started_at=to_datetime(1_900_000_000.0), enabled_queues=("media", "mail")
)
"""Of the virtual clock's first instant."""


@pytest.fixture
def spawner() -> Spawner:
    return Spawner()


@pytest.fixture
def events(clock: Clock, spawner: Spawner, probe: Probe) -> Events:
    return events_for(clock, spawner, probe)


def events_for(clock: Clock, spawner: Spawner, probe: Probe, **options: Any) -> Events:
    return Events(
        clock=clock,
        worker=WORKER,
        spawner=spawner,
        worker_provider=cast("WorkerLifecycleProvider", probe),
        queue_provider=cast("QueueLifecycleProvider", probe),
        mode="sync",
        **options,
    )


def of_worker(event: told.WorkerInfo) -> tuple[object, ...]:
    return event.worker_id, event.hostname, event.pid, event.started_at, event.enabled_queues


ALL_OF_WORKER = ("w-1", "host", 7, to_datetime(1_900_000_000.0), ("media", "mail"))


# --- the worker -------------------------------------------------------------------------------------------------------


@pytest.mark.spec("WLC-01", "WLC-06")
async def test_a_worker_that_started_is_told_whole(events: Events, probe: Probe) -> None:
    await events.worker_started()
    assert probe.names() == ["on_worker_started"]
    assert isinstance(probe.events[0].value, told.WorkerStarted)
    assert of_worker(probe.events[0].value) == ALL_OF_WORKER


@pytest.mark.spec("WLC-02", "WLC-06")
async def test_a_heartbeat_tells_what_was_done_so_far(events: Events, probe: Probe, clock: Clock) -> None:
    await events.consumer_seen("media", "memory:media")
    await events.consumer_seen("mail", "memory:mail")
    events.count("media", "memory:media", success=3, failed=1)
    await clock.sleep(5)
    events.count("media", "memory:media", success=1, ignored=1)
    await events.batch_completed("media", "memory:media", 6, 4, 1, 3.0)
    await events.worker_heartbeat(active=2)
    (seen,) = probe.of("on_worker_heartbeat")
    event: told.WorkerHeartbeat = seen.value
    assert of_worker(event) == ALL_OF_WORKER
    assert event.active_tasks == 2
    assert event.stats == told.WorkerStats(
        tasks_processed=6, tasks_succeeded=4, tasks_failed=1, avg_processing=0.5, current_task=None
    )
    assert event.active_consumers == (
        told.ConsumerStats(
            consumer_id="memory:media",
            queue_id="media",
            tasks_processed=6,
            tasks_succeeded=4,
            tasks_failed=1,
            last_task_at=to_datetime(1_900_000_005.0),
        ),
        told.ConsumerStats(consumer_id="memory:mail", queue_id="mail"),
    )
    if sys.platform == "linux":  # elsewhere the system may not tell
        assert event.memory_usage_mb is not None
        assert 5 < event.memory_usage_mb < 100_000


@pytest.mark.spec("WLC-03", "CLC-02")
async def test_a_worker_stops_after_each_of_its_consumers(events: Events, probe: Probe) -> None:
    for queue in ("media", "mail"):
        await events.consumer_seen(queue, f"memory:{queue}")
    events.count("media", "memory:media", success=2)
    probe.events.clear()
    await events.worker_stopped("shutdown")
    assert probe.names() == ["on_consumer_stopped", "on_consumer_stopped", "on_worker_stopped"]
    media, mail, worker = (seen.value for seen in probe.events)
    assert (media.consumer_id, media.queue_id, media.worker_id, media.reason) == (
        "memory:media",
        "media",
        "w-1",
        "shutdown",
    )
    assert (media.stats.tasks_processed, mail.stats.tasks_processed) == (2, 0)
    assert of_worker(worker) == ALL_OF_WORKER
    assert worker.reason == "shutdown"
    assert worker.final_stats.tasks_succeeded == 2


async def test_without_tasks_the_average_is_zero(events: Events, probe: Probe) -> None:
    await events.worker_heartbeat()
    assert probe.events[0].value.stats == told.WorkerStats()


# --- consumers and batches --------------------------------------------------------------------------------------------


@pytest.mark.spec("CLC-01", "CLC-03")
async def test_a_consumer_starts_once(events: Events, probe: Probe, clock: Clock) -> None:
    await events.consumer_seen("media", "memory:media")
    await clock.sleep(1)
    await events.consumer_seen("media", "memory:media")
    await events.consumer_seen("mail", "memory:mail")
    first, second = (seen.value for seen in probe.of("on_consumer_started"))
    assert first == told.ConsumerStarted(
        consumer_id="memory:media", queue_id="media", worker_id="w-1", started_at=to_datetime(1_900_000_000.0)
    )
    assert second.consumer_id == "memory:mail"


@pytest.mark.spec("CLC-04")
async def test_a_consumers_numbers_are_attempts(events: Events, probe: Probe) -> None:
    """A failure that is tried again counts; what was handed over when it has ended; an ignored task did not fail."""
    await events.consumer_seen("media", "memory:media")
    events.count("media", "memory:media", failed=1)
    events.count("media", "memory:media", async_=1)
    events.count("media", "memory:media", success=1)
    events.count("media", "memory:media", ignored=1)
    await events.worker_heartbeat()
    (stats,) = probe.of("on_worker_heartbeat")[0].value.active_consumers
    assert (stats.tasks_processed, stats.tasks_succeeded, stats.tasks_failed) == (3, 1, 1)


@pytest.mark.spec("WLC-04")
async def test_a_batch_that_starts_names_each_type_once(events: Events, probe: Probe) -> None:
    await events.batch_started("media", "memory:media", 3, ["b", "a", "b"])
    event: told.BatchStarted = probe.of("on_batch_started")[0].value
    assert of_worker(event) == ALL_OF_WORKER
    assert (event.queue_id, event.consumer_id, event.batch_size) == ("media", "memory:media", 3)
    assert event.task_types == ("b", "a")


@pytest.mark.spec("WLC-05")
async def test_a_batch_that_ends_tells_its_counts(events: Events, probe: Probe) -> None:
    await events.batch_completed("media", "memory:media", 3, 2, 1, 0.25)
    event: told.BatchCompleted = probe.of("on_batch_completed")[0].value
    assert of_worker(event) == ALL_OF_WORKER
    assert (event.queue_id, event.consumer_id, event.batch_size) == ("media", "memory:media", 3)
    assert (event.succeeded, event.failed, event.duration) == (2, 1, 0.25)


# --- messages ---------------------------------------------------------------------------------------------------------


def a_message(made_at: float | None, run_at: float = 1_900_000_000.0) -> Message:
    task: Task[Any] = Task(
        type="images.resize",
        queue_id="media",
        id="t-1",
        created_at=None if made_at is None else to_datetime(made_at),
        execute_at=to_datetime(run_at),
    )
    return message_of(task, b"{}", run_at)


@pytest.mark.spec("QLC-02", "QLC-07")
async def test_each_message_that_was_added_is_told(clock: Clock, spawner: Spawner, probe: Probe) -> None:
    events = events_for(clock, spawner, probe, provider="memory")
    message = a_message(None)
    await events.message_published([message, message._replace(id="t-2")])
    assert probe.names() == ["on_message_published"] * 2
    assert probe.events[0].value == told.MessagePublished(
        queue_id="media",
        provider="memory",
        message_type="images.resize",
        message_id="t-1",
        size_bytes=len(message.body),
    )
    assert probe.events[1].value.message_id == "t-2"


@pytest.mark.spec("QLC-03")
@pytest.mark.parametrize(
    ("body", "age"), [(a_message(1_899_999_940.0).body, 60.0), (a_message(None).body, 10.0), (b"not ours", 10.0)]
)
async def test_each_message_that_was_handed_out_tells_its_age(
    clock: Clock, spawner: Spawner, probe: Probe, body: bytes, age: float
) -> None:
    """Since it was made; where its body does not say, since it was due."""
    events = events_for(clock, spawner, probe, provider=str.upper)
    message = a_message(None, run_at=1_899_999_990.0)._replace(body=body)
    await events.message_consumed([Delivery(message, "w-1:1", 1)])
    assert probe.events[0].value == told.MessageConsumed(
        queue_id="media",
        provider="MEDIA",
        message_type="images.resize",
        message_id="t-1",
        size_bytes=len(body),
        age=age,
    )


@pytest.mark.spec("QLC-04", "QLC-05")
async def test_a_consumer_is_connected_once_and_disconnected_once(clock: Clock, spawner: Spawner, probe: Probe) -> None:
    events = events_for(clock, spawner, probe, provider="memory")
    for _ in range(2):
        await events.consumer_connected("media", "memory-7-1")
    for _ in range(2):
        await events.consumer_disconnected("media", "memory-7-1", "idle_timeout")
    assert probe.names() == ["on_consumer_connected", "on_consumer_disconnected"]
    assert probe.events[0].value == told.ConsumerConnected(
        consumer_id="memory-7-1", consumer_type="worker", queue_id="media", provider="memory"
    )
    assert probe.events[1].value == told.ConsumerDisconnected(
        consumer_id="memory-7-1", consumer_type="worker", queue_id="media", provider="memory", reason="idle_timeout"
    )


@pytest.mark.spec("QLC-04", "QLC-06")
async def test_the_consumer_of_a_shard_names_it(clock: Clock, spawner: Spawner, probe: Probe) -> None:
    events = events_for(clock, spawner, probe, provider="kinesis")
    await events.consumer_connected("media", "c-2", consumer_type="shard", shard_id="shard-0", parent_consumer_id="c-1")
    await events.consumer_checkpoint("media", "c-2", "shard-0", "49590", 17)
    await events.consumer_disconnected("media", "c-2", "rebalance")
    connected, checkpoint, gone = (seen.value for seen in probe.events)
    assert (connected.consumer_type, connected.shard_id, connected.parent_consumer_id) == ("shard", "shard-0", "c-1")
    assert checkpoint == told.ConsumerCheckpoint(
        queue_id="media",
        consumer_id="c-2",
        provider="kinesis",
        shard_id="shard-0",
        checkpoint="49590",
        records_since_last=17,
    )
    assert (gone.shard_id, gone.parent_consumer_id, gone.reason) == ("shard-0", "c-1", "rebalance")


@pytest.mark.spec("QLC-01")
async def test_a_queue_provider_may_have_any_of_the_callbacks(clock: Clock, spawner: Spawner) -> None:
    seen: list[str] = []

    class OnlyConsumed(QueueLifecycleProvider):
        async def on_message_consumed(self, event: told.MessageConsumed) -> None:
            seen.append(event.message_id)

    events = Events(clock=clock, worker=WORKER, spawner=spawner, queue_provider=OnlyConsumed(), mode="sync")
    assert [events.wants_queue, events.wants_consumed, events.wants_published] == [True, True, False]
    await events.message_published([a_message(None)])
    await events.message_consumed([Delivery(a_message(None), "w-1:1", 1)])
    await events.consumer_connected("media", "memory-7-1")
    await events.consumer_disconnected("media", "memory-7-1")
    assert seen == ["t-1"]
