"""What observers are told of tasks and flows, in which order, and what their errors may not do."""

import asyncio
import logging
from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tq.clock import Clock, to_datetime
from tq.codec import dumps, message_of
from tq.lifecycle import Spawner
from tq.logcontext import get_log_context, log_context
from tq.model import (
    MISSING,
    Deferred,
    Entity,
    Failed,
    FailurePolicy,
    Flow,
    FlowRequest,
    FlowState,
    Join,
    Member,
    Message,
    Outcome,
    Released,
    Rescheduled,
    Succeeded,
    Task,
    TaskStatus,
    Verdict,
)
from tq.model import events as told
from tq.ports import FlowLifecycleProvider, TaskLifecycleProvider, WorkerLifecycleProvider
from tq.runner.events import Events
from tq.testing.probe import Probe

NOW = 1_900_000_100.0
"""An instant 100 s after the virtual clock's first."""
WORKER = told.WorkerInfo(
    worker_id="w-1", hostname="host", pid=7, started_at=to_datetime(NOW), enabled_queues=("media",)
)


@pytest.fixture
def spawner() -> Spawner:
    return Spawner()


def events_for(
    clock: Clock, spawner: Spawner, *, task: object = None, worker: object = None, flow: object = None, **options: Any
) -> Events:
    """Return the hub for doubles, which need not have every callback."""
    return Events(
        clock=clock,
        worker=WORKER,
        spawner=spawner,
        task_provider=cast("TaskLifecycleProvider | None", task),
        worker_provider=cast("WorkerLifecycleProvider | None", worker),
        flow_provider=cast("FlowLifecycleProvider | None", flow),
        **options,
    )


def length(queue: str, type: str) -> int:
    """Stand in for the limits of retries that executors have."""
    return len(queue + type)


def a_task(**fields: Any) -> Task[Any]:
    given: dict[str, Any] = {
        "type": "images.resize",
        "queue_id": "media",
        "id": "t-1",
        "payload": {"image": "img-1"},
        "created_at": to_datetime(NOW - 30),
        "metadata": {"log_context": {"tenant": "t-9"}},
        "task_hash": "h-1",
    }
    return Task(**(given | fields))


def a_message(**fields: Any) -> Message:
    task = a_task(**fields)
    return message_of(task, dumps(task.payload), NOW)


async def settled(
    events: Events, outcome: Outcome, *, task: Task[Any] | None = None, retry_at: float | None = None
) -> None:
    """Tell that the task ended thus: it was made 30 s before the start, and ran for 2 s."""
    await events.task_settled(
        task or a_task(),
        outcome,
        will_retry=retry_at is not None,
        next_attempt_at=retry_at,
        started_at=NOW,
        now=NOW + 2,
    )
    await events.flush()


# --- tasks ------------------------------------------------------------------------------------------------------------


@pytest.mark.spec("TLC-01", "TLC-10", "LOG-09")
async def test_a_scheduled_task_is_told_with_its_context(clock: Clock, spawner: Spawner, probe: Probe) -> None:
    events = events_for(clock, spawner, task=probe)
    await events.task_scheduled([a_message(), a_message(id="t-2", metadata={})])
    await events.flush()
    first, second = (seen.value for seen in probe.of("on_task_scheduled"))
    assert first == told.TaskScheduled(
        task_id="t-1",
        task_type="images.resize",
        queue_id="media",
        task_hash="h-1",
        payload={},
        attempt=1,
        max_retries=0,
        generation=0,
        scheduled_at=to_datetime(NOW - 30),
        worker_id="w-1",
        consumer_id="",
        log_context={"tenant": "t-9"},
    )
    assert (second.task_id, second.log_context) == ("t-2", {})


@pytest.mark.spec("TLC-02")
async def test_a_started_task_tells_how_long_it_waited(clock: Clock, spawner: Spawner, probe: Probe) -> None:
    events = events_for(clock, spawner, task=probe, default_retries=length)
    await events.consumer_seen("media", "memory:media")
    await events.task_started(a_task(attempt=2), NOW)
    await events.flush()
    event: told.TaskStarted = probe.of("on_task_started")[0].value
    assert event.started_at == to_datetime(NOW)
    assert event.queued_duration == 30.0
    assert event.attempt == 3, "1 for the first attempt"
    assert event.max_retries == len("media" + "images.resize"), "the executor's, where the task has none of its own"
    assert event.consumer_id == "memory:media"


async def test_a_tasks_own_limit_of_retries_is_told(clock: Clock, spawner: Spawner, probe: Probe) -> None:
    events = events_for(clock, spawner, task=probe, default_retries=length)
    await events.task_started(a_task(retries=0), NOW)
    await events.flush()
    assert probe.of("on_task_started")[0].value.max_retries == 0


@pytest.mark.spec("TLC-03", "TLC-10")
async def test_a_completed_task_tells_where_its_time_went(clock: Clock, spawner: Spawner, probe: Probe) -> None:
    events = events_for(clock, spawner, task=probe)
    await settled(events, Succeeded(b'{"width":7}'))
    assert probe.names() == ["on_task_completed"]
    event: told.TaskCompleted = probe.of("on_task_completed")[0].value
    assert event.timing == told.TaskTiming(queued_duration=30.0, processing_duration=2.0, total_duration=32.0)
    assert event.result == {"width": 7}
    assert event.log_context == {"tenant": "t-9"}


@pytest.mark.spec("RES-09")
@pytest.mark.parametrize(
    ("outcome", "result"),
    [(Succeeded(b"null"), None), (Succeeded(), MISSING), (Succeeded(None, dropped="too large"), MISSING)],
)
async def test_the_result_is_that_of_the_store(
    clock: Clock, spawner: Spawner, probe: Probe, outcome: Outcome, result: object
) -> None:
    """D-60: None is a result; none given, or one that was dropped, is MISSING."""
    events = events_for(clock, spawner, task=probe)
    await settled(events, outcome)
    assert probe.of("on_task_completed")[0].value.result is result


@pytest.mark.spec("TLC-04")
async def test_a_failure_tells_its_error_and_the_next_attempt(clock: Clock, spawner: Spawner, probe: Probe) -> None:
    """D-57: the executor's own exception, and the instant at which it runs again."""
    events = events_for(clock, spawner, task=probe)
    error = ValueError("no such image")
    await settled(events, Failed("no such image", exception=error), retry_at=NOW + 10)
    assert probe.names() == ["on_task_failed"]
    event: told.TaskFailed = probe.of("on_task_failed")[0].value
    assert event.error is error
    assert event.will_retry
    assert event.next_attempt_at == to_datetime(NOW + 10)
    assert event.timing.processing_duration == 2.0


@pytest.mark.spec("TLC-04")
async def test_a_failure_by_words_tells_the_words(clock: Clock, spawner: Spawner, probe: Probe) -> None:
    events = events_for(clock, spawner, task=probe)
    await settled(events, Failed("no such image"), retry_at=NOW + 10)
    await settled(events, Failed(""), retry_at=NOW + 10)
    first, second = (str(seen.value.error) for seen in probe.of("on_task_failed"))
    assert first == "no such image"
    assert second


@pytest.mark.spec("TLC-05")
@pytest.mark.parametrize("status", [TaskStatus.FAILED, TaskStatus.EXPIRED, TaskStatus.IGNORED])
async def test_every_final_failure_is_exhausted(
    clock: Clock, spawner: Spawner, probe: Probe, status: TaskStatus
) -> None:
    """D-57: not only tasks without id."""
    events = events_for(clock, spawner, task=probe)
    error = ValueError("no such image")
    await settled(events, Failed("", status=status, exception=error, final=True), task=a_task(attempt=3))
    assert probe.names() == ["on_task_failed", "on_task_exhausted"]
    failed: told.TaskFailed = probe.of("on_task_failed")[0].value
    exhausted: told.TaskExhausted = probe.of("on_task_exhausted")[0].value
    assert not failed.will_retry
    assert failed.next_attempt_at is None
    assert (exhausted.error, exhausted.total_attempts, exhausted.task_id) == (error, 4, "t-1")
    assert exhausted.timing == failed.timing


@pytest.mark.spec("TLC-06")
async def test_a_cancelled_task_is_cancelled_and_nothing_else(clock: Clock, spawner: Spawner, probe: Probe) -> None:
    events = events_for(clock, spawner, task=probe)
    await settled(events, Failed("nobody wants it", status=TaskStatus.CANCELLED, final=True))
    assert probe.names() == ["on_task_cancelled"]
    assert probe.of("on_task_cancelled")[0].value.reason == "nobody wants it"


@pytest.mark.parametrize("outcome", [Rescheduled(3.0), Deferred("f-1"), Released()])
async def test_what_has_not_ended_is_not_told(clock: Clock, spawner: Spawner, probe: Probe, outcome: Outcome) -> None:
    events = events_for(clock, spawner, task=probe)
    await settled(events, outcome)
    assert not probe.events


async def test_durations_are_never_negative(clock: Clock, spawner: Spawner, probe: Probe) -> None:
    """The clock of the producer's machine may be ahead of ours."""
    events = events_for(clock, spawner, task=probe)
    await settled(events, Succeeded(), task=a_task(created_at=to_datetime(NOW + 60)))
    await settled(events, Succeeded(), task=a_task(created_at=None))
    ahead, unknown = (seen.value.timing for seen in probe.of("on_task_completed"))
    assert ahead == told.TaskTiming(queued_duration=0.0, processing_duration=2.0, total_duration=0.0)
    assert unknown == told.TaskTiming(queued_duration=0.0, processing_duration=2.0, total_duration=2.0)


async def test_payloads_are_told_only_when_asked_for(clock: Clock, spawner: Spawner) -> None:
    quiet, loud = Probe(), Probe()
    await events_for(clock, spawner, task=quiet, mode="sync").task_scheduled([a_message()])
    await events_for(clock, spawner, task=loud, mode="sync", include_payload=True).task_scheduled([a_message()])
    assert quiet.events[0].value.payload == {}
    assert loud.events[0].value.payload == {"image": "img-1"}


@pytest.mark.spec("BLC-01", "BLC-02")
async def test_a_group_is_told_before_and_after(clock: Clock, spawner: Spawner, probe: Probe) -> None:
    events = events_for(clock, spawner, task=probe)
    await events.consumer_seen("media", "memory:media")
    tasks = [a_task(), a_task(id="t-2")]
    await events.task_batch_started("images.resize", "media", tasks, NOW)
    await events.task_batch_completed("images.resize", "media", tasks, ["t-2"], ["t-1"], 0.5)
    await events.flush()
    started: told.TaskBatchStarted = probe.of("on_task_batch_started")[0].value
    ended: told.TaskBatchCompleted = probe.of("on_task_batch_completed")[0].value
    for event in (started, ended):
        assert (event.task_type, event.queue_id) == ("images.resize", "media")
        assert (event.worker_id, event.consumer_id) == ("w-1", "memory:media")
        assert [task.task_id for task in event.tasks] == ["t-1", "t-2"]
    assert started.started_at == to_datetime(NOW)
    assert (ended.succeeded, ended.failed, ended.duration) == (("t-2",), ("t-1",), 0.5)


# --- flows ------------------------------------------------------------------------------------------------------------

REQUEST = FlowRequest(
    id="f-1",
    members=(Member("b", "q", b"1"), Member("a", "q", b"2"), Member("b", "q", b"3")),
    join=Join("joined", queue="joins"),
    policy=FailurePolicy.compile("abort", 3),
    entity=Entity("Item", "item-1"),
    consumer_id="memory:media",
)


def closed(verdict: Verdict | None, meta: bytes = b"", **fields: Any) -> FlowState:
    """Return a flow of five that was opened at NOW and decided 12 s later, after three successes and one failure."""
    flow = Flow(
        id="f-1",
        total=5,
        allowed=2,
        needed=5,
        join=Message("f-1:join", "joins", "joined", b"{}", 0.0),
        started_at=NOW - 1000,
        meta=meta,
    )
    given: dict[str, Any] = {"succeeded": 3, "failed": 1, "opened_at": NOW, "closed_at": NOW + 12}
    return FlowState(flow=flow, remaining=1, verdict=verdict, **(given | fields))


@pytest.mark.spec("FLC-01", "FLC-05")
async def test_a_started_flow_is_told_with_its_steps(clock: Clock, spawner: Spawner, probe: Probe) -> None:
    events = events_for(clock, spawner, flow=probe)
    await events.flow_started(REQUEST)
    await events.flush()
    assert probe.of("on_flow_started")[0].value == told.FlowStarted(
        flow_id="f-1",
        total_steps=3,
        join=Join("joined", queue="joins"),
        failure_policy="abort",
        entity=Entity("Item", "item-1"),
        worker_id="w-1",
        consumer_id="memory:media",
        started_at=to_datetime(clock.now()),
        step_types=("b", "a", "b"),
    )


@pytest.mark.spec("FLC-02", "FLC-05")
async def test_a_completed_flow_tells_its_counts(clock: Clock, spawner: Spawner, probe: Probe) -> None:
    events = events_for(clock, spawner, flow=probe)
    meta = dumps({"policy": "tolerate=0.4", "entity": {"type": "Item", "id": "item-1"}, "consumer_id": "c-1"})
    await events.flow_closed(closed(Verdict.COMPLETED, meta))
    await events.flush()
    assert probe.names() == ["on_flow_completed"]
    assert probe.events[0].value == told.FlowCompleted(
        flow_id="f-1",
        total_steps=5,
        join=Join("joined", queue="joins"),
        failure_policy="tolerate=0.4",
        entity=Entity("Item", "item-1"),
        worker_id="w-1",
        consumer_id="c-1",
        duration=12.0,
        steps_succeeded=3,
        steps_failed=1,
    )


@pytest.mark.spec("FLC-03")
async def test_an_aborted_flow_tells_the_step_that_did_it(clock: Clock, spawner: Spawner, probe: Probe) -> None:
    events = events_for(clock, spawner, flow=probe)
    await events.flow_closed(closed(Verdict.ABORTED, trigger=2))
    await events.flush()
    assert probe.names() == ["on_flow_aborted"]
    event: told.FlowAborted = probe.events[0].value
    assert (event.duration, event.steps_completed, event.trigger_step_index) == (12.0, 4, 2)


@pytest.mark.spec("FLC-04")
async def test_a_flow_that_timed_out_tells_how_many_had_ended(clock: Clock, spawner: Spawner, probe: Probe) -> None:
    events = events_for(clock, spawner, flow=probe)
    await events.flow_closed(closed(Verdict.TIMED_OUT, opened_at=0.0))
    await events.flush()
    assert probe.names() == ["on_flow_timed_out"]
    event: told.FlowTimedOut = probe.events[0].value
    assert (event.duration, event.steps_completed) == (1012.0, 4)


async def test_a_cancelled_flow_tells_why(clock: Clock, spawner: Spawner, probe: Probe) -> None:
    events = events_for(clock, spawner, flow=probe)
    await events.flow_closed(closed(Verdict.CANCELLED, reason="nobody wants it"))
    await events.flush()
    assert probe.names() == ["on_flow_cancelled"]
    assert probe.events[0].value.reason == "nobody wants it"


async def test_an_open_flow_is_not_told_of(clock: Clock, spawner: Spawner, probe: Probe) -> None:
    events = events_for(clock, spawner, flow=probe)
    await events.flow_closed(closed(None))
    await events.flush()
    assert not probe.events


@pytest.mark.parametrize("meta", [b"", b"no JSON", b'{"entity":{"type":"Item"}}', b'{"entity":{"type":"","id":""}}'])
async def test_a_flow_without_a_readable_note_is_told_all_the_same(
    clock: Clock, spawner: Spawner, probe: Probe, meta: bytes
) -> None:
    events = events_for(clock, spawner, flow=probe)
    await events.flow_closed(closed(Verdict.COMPLETED, meta))
    await events.flush()
    event: told.FlowCompleted = probe.events[0].value
    assert (event.failure_policy, event.entity, event.consumer_id) == ("tolerate=2", None, "")


@pytest.mark.parametrize(
    ("allowed", "needed", "words"),
    [(5, 5, "continue"), (0, 5, "abort"), (2, 5, "tolerate=2"), (2, 3, "quorum=3")],
)
async def test_a_policy_is_told_in_words(
    clock: Clock, spawner: Spawner, probe: Probe, allowed: int, needed: int, words: str
) -> None:
    state = closed(Verdict.COMPLETED)
    flow = Flow(
        id="f-1", total=5, allowed=allowed, needed=needed, join=state.flow.join, started_at=state.flow.started_at
    )
    await events_for(clock, spawner, flow=probe, mode="sync").flow_closed(
        FlowState(flow=flow, remaining=0, verdict=state.verdict)
    )
    assert probe.events[0].value.failure_policy == words


# --- providers --------------------------------------------------------------------------------------------------------


class OnlyFailures(TaskLifecycleProvider):
    """Overrides one callback of many."""

    def __init__(self) -> None:
        self.seen: list[told.TaskFailed] = []

    def on_task_failed(self, event: told.TaskFailed) -> None:
        self.seen.append(event)


@pytest.mark.spec("TLC-07")
async def test_callbacks_that_are_not_overridden_are_not_wanted(clock: Clock, spawner: Spawner) -> None:
    provider = OnlyFailures()
    events = events_for(clock, spawner, task=provider)
    assert (events.wants_tasks, events.wants_settled) == (True, True)
    assert [events.wants_scheduled, events.wants_started, events.wants_groups] == [False, False, False]
    await events.task_scheduled([a_message()])
    await events.task_started(a_task(), NOW)
    await settled(events, Succeeded())
    await settled(events, Failed("words"))
    assert [event.will_retry for event in provider.seen] == [False]


@pytest.mark.spec("TLC-07")
async def test_without_providers_everything_may_be_told(clock: Clock, spawner: Spawner) -> None:
    events = events_for(clock, spawner)
    wants = {name: value for name, value in vars(events).items() if name.startswith("wants_")}
    assert len(wants) >= 10
    assert not any(wants.values())
    await events.task_scheduled([a_message()])
    await events.task_started(a_task(), NOW)
    await settled(events, Succeeded())
    await settled(events, Failed("words"))
    await events.task_batch_started("images.resize", "media", [a_task()], NOW)
    await events.task_batch_completed("images.resize", "media", [a_task()], [], [], 0.5)
    await events.flow_started(REQUEST)
    await events.flow_closed(closed(Verdict.COMPLETED))
    await events.worker_started()
    await events.worker_heartbeat()
    await events.consumer_seen("media", "memory:media")
    await events.batch_started("media", "memory:media", 1, ["a"])
    await events.batch_completed("media", "memory:media", 1, 1, 0, 0.5)
    await events.tasks_discarded(1)
    await events.worker_stopped("shutdown")
    await events.final_stats()
    assert not len(spawner)


@pytest.mark.spec("TLC-07")
async def test_a_structural_provider_with_one_plain_callback_is_enough(clock: Clock, spawner: Spawner) -> None:
    seen: list[str] = []

    def note(event: told.TaskStarted) -> None:
        seen.append(event.task_id)

    provider = SimpleNamespace(on_task_started=note)
    events = events_for(clock, spawner, task=provider)
    assert events.wants_started
    assert not events.wants_settled
    await events.task_started(a_task(), NOW)
    await events.flush()
    assert seen == ["t-1"]


class Slow:
    """Takes three seconds for each event, and notes what it was told when it is done."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.seen: list[str] = []

    async def on_task_started(self, event: told.TaskStarted) -> None:
        await self._clock.sleep(3)
        self.seen.append(f"started {event.task_id}")

    def on_task_completed(self, event: told.TaskCompleted) -> None:
        self.seen.append(f"completed {event.task_id}")


@pytest.mark.spec("TLC-09")
async def test_mode_async_does_not_wait_and_keeps_the_order(clock: Clock, spawner: Spawner) -> None:
    provider = Slow(clock)
    events = events_for(clock, spawner, task=provider)
    before = clock.now()
    await events.task_started(a_task(), NOW)
    await events.task_settled(a_task(), Succeeded(), will_retry=False, next_attempt_at=None, started_at=NOW, now=NOW)
    await events.task_started(a_task(id="t-2"), NOW)
    assert clock.now() == before
    assert not provider.seen
    assert await events.flush(10.0)
    assert provider.seen == ["started t-1", "completed t-1", "started t-2"]
    assert clock.now() == before + 6
    assert not len(spawner), "nothing runs when there is nothing to tell"


@pytest.mark.spec("TLC-09")
async def test_mode_sync_waits(clock: Clock, spawner: Spawner) -> None:
    """D-56."""
    provider = Slow(clock)
    events = events_for(clock, spawner, task=provider, mode="sync")
    before = clock.now()
    await events.task_started(a_task(), NOW)
    assert provider.seen == ["started t-1"]
    assert clock.now() == before + 3
    assert not len(spawner)


async def test_one_provider_of_two_families_hears_everything_in_order(
    clock: Clock, spawner: Spawner, probe: Probe
) -> None:
    events = events_for(clock, spawner, task=probe, worker=probe, flow=probe)
    await events.worker_started()
    await events.task_started(a_task(), NOW)
    await events.flow_started(REQUEST)
    await events.worker_heartbeat()
    await events.flush()
    assert probe.names() == ["on_worker_started", "on_task_started", "on_flow_started", "on_worker_heartbeat"]


async def test_flush_gives_up_on_a_provider_that_does_not_answer(clock: Clock, spawner: Spawner) -> None:
    class Stuck:
        async def on_task_started(self, event: told.TaskStarted) -> None:
            await asyncio.Event().wait()

    events = events_for(clock, spawner, task=Stuck())
    await events.task_started(a_task(), NOW)
    before = clock.now()
    assert not await events.flush(timedelta(seconds=4).total_seconds())
    assert clock.now() == before + 4
    await spawner.close()


async def test_callbacks_run_outside_the_scope_of_whoever_told_them(clock: Clock, spawner: Spawner) -> None:
    seen: list[object] = []

    def note(event: told.TaskStarted) -> None:
        seen.append(dict(get_log_context()))

    provider = SimpleNamespace(on_task_started=note)
    events = events_for(clock, spawner, task=provider)
    with log_context({"task_id": "t-1"}):
        await events.task_started(a_task(), NOW)
    await events.flush()
    assert seen == [{}]


async def test_a_provider_that_is_too_slow_loses_events_and_is_told(
    clock: Clock, spawner: Spawner, probe: Probe, caplog: pytest.LogCaptureFixture
) -> None:
    """INV-09: what is kept for it is bounded."""

    class SlowAndBounded(Slow):
        def on_lifecycle_error(self, event: told.CallbackFailed) -> None:
            probe(event)

    provider = SlowAndBounded(clock)
    events = events_for(clock, spawner, task=provider, backlog=2)
    for number in range(5):
        await events.task_started(a_task(id=f"t-{number}"), NOW)
    with caplog.at_level(logging.CRITICAL, "tq.events"):
        await events.flush(60.0)
    assert provider.seen == ["started t-0", "started t-1"]
    assert ["3 events were dropped" in str(failure.error) for failure in probe.of(told.CallbackFailed)] == [True]
    await events.task_started(a_task(id="t-9"), NOW)
    await events.flush(60.0)
    assert provider.seen[-1] == "started t-9"
    assert len(probe.events) == 1


# --- errors of callbacks ----------------------------------------------------------------------------------------------


class Failing:
    """Raises in a plain and in an async callback; hears of other errors itself, if it is to."""

    def on_task_started(self, event: told.TaskStarted) -> None:
        raise ValueError("plain")

    async def on_task_completed(self, event: told.TaskCompleted) -> None:
        await asyncio.sleep(1)
        raise ValueError("async")

    async def on_task_failed(self, event: told.TaskFailed) -> None:
        gone = asyncio.get_running_loop().create_future()
        gone.cancel()
        await gone


@pytest.fixture(params=["async", "sync"])
def mode(request: pytest.FixtureRequest) -> str:
    return cast("str", request.param)


@pytest.fixture
def quiet_log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.ERROR, "tq.events"):
        yield caplog


@pytest.mark.spec("TLC-08", "QLC-07")
async def test_errors_of_callbacks_are_logged_and_never_raised(
    clock: Clock, spawner: Spawner, mode: str, quiet_log: pytest.LogCaptureFixture
) -> None:
    """INV-08: also a cancellation that the callback brought about itself."""
    events = events_for(clock, spawner, task=Failing(), mode=mode)
    await events.task_started(a_task(), NOW)
    await settled(events, Succeeded())
    await settled(events, Failed("words"))
    await events.task_started(a_task(), NOW)
    await events.flush()
    assert [record.getMessage() for record in quiet_log.records] == [
        "callback on_task_started raised ValueError('plain')",
        "callback on_task_completed raised ValueError('async')",
        "callback on_task_failed raised CancelledError()",
        "callback on_task_started raised ValueError('plain')",
    ]
    assert all(record.exc_info for record in quiet_log.records)


@pytest.mark.spec("TLC-08")
async def test_errors_are_handed_to_the_providers_own_hook(
    clock: Clock, spawner: Spawner, probe: Probe, mode: str, quiet_log: pytest.LogCaptureFixture
) -> None:
    """D-59."""

    class Hooked(Failing):
        async def on_lifecycle_error(self, event: told.CallbackFailed) -> None:
            probe(event)

    other = Probe()
    events = events_for(clock, spawner, task=Hooked(), worker=other, mode=mode)
    await events.task_started(a_task(), NOW)
    await events.flush()
    (failure,) = probe.of(told.CallbackFailed)
    assert failure.callback == "on_task_started"
    assert isinstance(failure.event, told.TaskStarted)
    assert str(failure.error) == "plain"
    assert not other.events


@pytest.mark.spec("TLC-08")
async def test_errors_are_handed_to_another_provider_where_there_is_no_own_hook(
    clock: Clock, spawner: Spawner, probe: Probe, mode: str, quiet_log: pytest.LogCaptureFixture
) -> None:
    """D-59."""
    events = events_for(clock, spawner, task=Failing(), worker=probe, mode=mode)
    await events.task_started(a_task(), NOW)
    await events.flush()
    assert [seen.value.callback for seen in probe.of("on_lifecycle_error")] == ["on_task_started"]


@pytest.mark.spec("TLC-08")
async def test_a_hook_that_raises_is_logged_and_nothing_else(
    clock: Clock, spawner: Spawner, mode: str, quiet_log: pytest.LogCaptureFixture
) -> None:
    class Worse(Failing):
        def on_lifecycle_error(self, event: told.CallbackFailed) -> None:
            raise KeyError(event.callback)

    events = events_for(clock, spawner, task=Worse(), mode=mode)
    await events.task_started(a_task(), NOW)
    await events.flush()
    assert quiet_log.records[-1].getMessage() == "on_lifecycle_error raised"


async def test_whoever_is_cancelled_while_it_waits_for_a_callback_is_cancelled(clock: Clock, spawner: Spawner) -> None:
    events = events_for(clock, spawner, task=Slow(clock), mode="sync")
    waiting = asyncio.create_task(events.task_started(a_task(), NOW))
    await clock.sleep(1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
