"""What a provider hears of tasks that a handler really runs: each once, with the right content, in the right order."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tq import (
    MISSING,
    Actions,
    AsyncTaskManager,
    Backoff,
    FlowStep,
    Join,
    NonRetryableError,
    Task,
    TaskHandler,
    TaskQueuesManager,
    connect,
)
from tq.clock import to_datetime
from tq.errors import ExecutionError
from tq.model import events
from tq.testing import Probe, VirtualClock
from tq.testing.harness import harness

EVEN = Backoff(jitter=0)


@pytest.mark.spec("TLC-01", "TLC-02", "TLC-03", "TLC-10", "LOG-09", "RES-09", "MQ-06", "D-57")
async def test_a_task_is_told_as_scheduled_started_and_completed(url: str, clock: VirtualClock, probe: Probe) -> None:
    executors = TaskQueuesManager()

    @executors.executor("render", queue="docs", retries=4, store_on_success=True)
    async def render(task: Task[Any], actions: Actions) -> None:
        assert probe.names() == ["on_task_scheduled", "on_task_started"], "started is told before the body runs"
        await clock.sleep(2)
        actions.success(task, {"pages": 3})

    options: dict[str, Any] = {"lifecycle": probe, "lifecycle_mode": "sync", "include_payload": True}
    async with harness(executors, url=url, clock=clock, **options) as h:
        began = clock.now()
        task = render.task({"order": 17}, task_hash="h-1", metadata={"log_context": {"tenant": "t-9"}})
        [task_id] = await h.add(task)
        await clock.sleep(30)
        await h.drain()
        scheduled, started, completed = [seen.value for seen in probe.events]
        worker: dict[str, Any] = {
            "worker_id": h.handler.worker_id,
            "consumer_id": f"{h.handler.backend.queue.name}:docs",
        }
        context: dict[str, Any] = {
            "task_id": task_id,
            "task_type": "render",
            "queue_id": "docs",
            "task_hash": "h-1",
            "payload": {"order": 17},
            "attempt": 1,
            "max_retries": 4,
            "generation": 0,
            "scheduled_at": to_datetime(began),
            "log_context": {"tenant": "t-9"},
        }
        assert scheduled == events.TaskScheduled(**context, worker_id=h.handler.worker_id)
        assert started == events.TaskStarted(
            **context, **worker, started_at=to_datetime(began + 30), queued_duration=30.0
        )
        times = events.TaskTiming(queued_duration=30.0, processing_duration=2.0, total_duration=32.0)
        assert completed == events.TaskCompleted(**context, **worker, timing=times, result={"pages": 3})
        await h.assert_succeeded(task_id, {"pages": 3})


async def test_payloads_are_shown_only_where_they_are_asked_for(url: str, clock: VirtualClock, probe: Probe) -> None:
    executors = TaskQueuesManager()

    @executors.task("work")
    async def work(payload: int) -> None: ...

    async with harness(executors, url=url, clock=clock, lifecycle=probe) as h:
        await h.run(work.task(7, task_hash="h-1"))
        assert [seen.value.payload for seen in probe.events] == [{}] * 3
        assert [seen.value.task_hash for seen in probe.events] == ["h-1"] * 3, "a field of the task, not of the payload"
        assert probe.of("on_task_completed")[0].value.result is MISSING


async def test_what_never_ran_is_told_with_its_payload_as_it_was_written(
    url: str, clock: VirtualClock, probe: Probe
) -> None:
    executors, producer = TaskQueuesManager(), TaskQueuesManager()
    producer.queue("default")

    @executors.task("typed")
    async def typed(payload: int) -> None: ...

    backend = connect(url, clock=clock)
    untyped = TaskHandler.on(backend, producer, clock=clock)
    late: Task[Any] = Task(type="typed", payload=7, expires_at=to_datetime(clock.now() + 1))
    await untyped.add_tasks([late, Task(type="typed", payload={"no": "number"})])
    await clock.sleep(2)
    handler = TaskHandler.on(backend, executors, clock=clock, lifecycle=probe, include_payload=True)
    await handler.drain()
    await clock.sleep(1)
    assert [seen.value.payload for seen in probe.of("on_task_failed")] == [7, {"no": "number"}]
    await handler.close()
    await backend.close()


@pytest.mark.spec("D-60", "RES-09")
async def test_a_result_that_is_dropped_is_in_no_event(url: str, clock: VirtualClock, probe: Probe) -> None:
    executors = TaskQueuesManager()

    @executors.executor("large", store_on_success=True)
    async def large(task: Task[Any], actions: Actions) -> None:
        actions.success(task, "x" * 262_144)

    async with harness(executors, url=url, clock=clock, lifecycle=probe) as h:
        [task_id] = await h.run(large.task(None))
        assert probe.of("on_task_completed")[0].value.result is MISSING
        await h.assert_succeeded(task_id, None)


@pytest.mark.spec("TLC-04", "TLC-05", "D-57")
async def test_every_failed_attempt_is_told_with_its_error_and_what_follows(
    url: str, clock: VirtualClock, probe: Probe
) -> None:
    executors, raised = TaskQueuesManager(), list[Exception]()

    @executors.executor("work", retries=2, backoff=EVEN)
    async def work(task: Task[Any], actions: Actions) -> None:
        await clock.sleep(1)
        if task.attempt == 1:
            actions.fail(task, "in words")
            return
        raised.append(ValueError(f"attempt {task.attempt}"))
        raise raised[-1]

    async with harness(executors, url=url, clock=clock, lifecycle=probe) as h:
        began = clock.now()
        await h.add(work.task(None))
        await h.handler.start()
        await clock.sleep(20)
        failed = [seen.value for seen in probe.of("on_task_failed")]
        assert failed[0].error is raised[0]
        assert isinstance(failed[1].error, ExecutionError)
        assert str(failed[1].error) == "in words"
        assert failed[2].error is raised[1]
        assert [(it.attempt, it.max_retries, it.will_retry) for it in failed] == [
            (1, 2, True),
            (2, 2, True),
            (3, 2, False),
        ]
        due = [to_datetime(began + 1 + 2), to_datetime(began + 3 + 1 + 8), None]
        assert [it.next_attempt_at for it in failed] == due
        starts = [seen.value.started_at for seen in probe.of("on_task_started")]
        assert starts[1:] == due[:2]
        assert [it.timing.processing_duration for it in failed] == [1.0] * 3
        [exhausted] = [seen.value for seen in probe.of("on_task_exhausted")]
        assert (exhausted.error, exhausted.total_attempts) == (raised[1], 3)
        assert exhausted.timing == failed[2].timing
        attempt = ["on_task_started", "on_task_failed"]
        assert probe.names() == ["on_task_scheduled", *attempt * 3, "on_task_exhausted"]


@pytest.mark.spec("TLC-05", "D-35", "D-57")
async def test_every_final_failure_is_exhausted_however_it_came(url: str, clock: VirtualClock, probe: Probe) -> None:
    executors = TaskQueuesManager()

    @executors.task("final", retries=5)
    async def final(payload: None) -> None:
        raise NonRetryableError("never again")

    @executors.task("discarded", store_on_failure=False)
    async def discarded(payload: None) -> None:
        raise ValueError("gone")

    @executors.task("late")
    async def late(payload: None) -> None: ...

    @executors.task("slow", timeout=5)
    async def slow(payload: None) -> None:
        await asyncio.sleep(100)

    async with harness(executors, url=url, clock=clock, lifecycle=probe, unknown_grace=10) as h:
        soon = to_datetime(clock.now() + 1)
        unknown: Task[Any] = Task(type="nobody", payload=None)
        await h.add(final.task(None), discarded.task(None), late.task(None, expires_at=soon), slow.task(None), unknown)
        await clock.sleep(2)
        await h.handler.start()
        await clock.sleep(100)
        told = {seen.value.task_type: str(seen.value.error) for seen in probe.of("on_task_exhausted")}
        assert told.keys() == {"final", "discarded", "late", "slow", "nobody"}
        assert (told["final"], told["discarded"], told["late"]) == (
            "never again",
            "gone",
            "expired before it could run",
        )
        assert "timeout of 5 s" in told["slow"]
        assert "no executor is registered" in told["nobody"]
        started = [seen.value.task_type for seen in probe.of("on_task_started")]
        assert sorted(started) == ["discarded", "final", "slow"], "what never ran was never started"


@pytest.mark.spec("TLC-06", "D-57")
async def test_a_cancelled_task_is_told_as_cancelled_and_nothing_else(
    url: str, clock: VirtualClock, probe: Probe
) -> None:
    executors = TaskQueuesManager()

    @executors.task("work", retries=3)
    async def work(payload: str) -> None:
        await asyncio.sleep(1000)

    async with harness(executors, url=url, clock=clock, lifecycle=probe) as h:
        later = to_datetime(clock.now() + 3600)
        running, waiting = await h.add(work.task("a"), work.task("b", execute_at=later))
        await h.handler.start()
        await clock.sleep(5)
        await h.handler.task(waiting).cancel()
        await h.handler.task(running).cancel()
        await clock.sleep(20)
        told = {seen.value.task_id: seen.value for seen in probe.of("on_task_cancelled")}
        assert {task_id: event.reason for task_id, event in told.items()} == {
            running: "cancelled",
            waiting: "cancelled",
        }
        assert told[running].timing.processing_duration >= 5
        assert told[waiting].timing.processing_duration == 0
        assert not probe.of("on_task_failed") + probe.of("on_task_exhausted") + probe.of("on_task_completed")


@pytest.mark.spec("TLC-02", "TLC-03", "D-57")
async def test_parallel_tasks_have_times_of_their_own(url: str, clock: VirtualClock, probe: Probe) -> None:
    class Parallel:
        parallel = True
        chunk_size = 3

        async def on_task(self, task: Task[float], actions: Actions) -> None:
            await clock.sleep(task.payload)
            actions.success(task)

    executors = TaskQueuesManager()
    executors.register("work", Parallel())
    async with harness(executors, url=url, clock=clock, lifecycle=probe) as h:
        ids = await h.run(*[Task(type="work", payload=seconds) for seconds in (1.0, 5.0, 3.0, 2.0)])
        assert [seen.value.task_id for seen in probe.of("on_task_started")] == ids
        times = {seen.value.task_id: seen.value.timing for seen in probe.of("on_task_completed")}
        told = [(times[id].queued_duration, times[id].processing_duration, times[id].total_duration) for id in ids]
        assert told == [(0, 1, 1), (0, 5, 5), (0, 3, 3), (1, 2, 3)], "the wait for a place in the line is queueing"


@pytest.mark.spec("TLC-03", "TLC-04", "AAC-05", "AAC-06")
async def test_tasks_that_were_handed_over_are_told_when_they_end(url: str, clock: VirtualClock, probe: Probe) -> None:
    executors = TaskQueuesManager()

    @executors.executor("long", handoff_timeout=2, retries=1, backoff=EVEN, store_on_success=True)
    async def long(task: Task[str], actions: Actions) -> None:
        await clock.sleep(50)
        if task.payload == "bad":
            raise ValueError("late")
        actions.success(task, "late result")

    async with harness(executors, url=url, clock=clock, lifecycle=probe, async_tasks=AsyncTaskManager()) as h:
        good, bad = await h.add(long.task("good"), long.task("bad"))
        await h.handler.start()
        await clock.sleep(49)
        assert len(probe.of("on_task_started")) == 2
        assert len(probe.events) == 4, "nothing is told at the hand-over"
        await clock.sleep(100)
        [completed] = [seen.value for seen in probe.of("on_task_completed")]
        assert (completed.task_id, completed.result) == (good, "late result")
        assert completed.timing.processing_duration == 50
        failed = [seen.value for seen in probe.of("on_task_failed")]
        assert [(it.task_id, str(it.error), it.will_retry) for it in failed] == [
            (bad, "late", True),
            (bad, "late", False),
        ]
        assert len(probe.of("on_task_exhausted")) == 1


@pytest.mark.spec("TLC-01", "ADD-13", "AAC-10")
@pytest.mark.parametrize("handoff", [None, 2.0], ids=["at once", "handed over"])
async def test_children_steps_and_joins_are_told_as_scheduled_like_any_other_task(
    url: str, clock: VirtualClock, probe: Probe, handoff: float | None
) -> None:
    executors = TaskQueuesManager()

    @executors.executor("parent", handoff_timeout=handoff)
    async def parent(task: Task[Any], actions: Actions) -> None:
        await clock.sleep(10)
        actions.add_tasks([Task(type="child", payload=1), Task(type="child", payload=2, id="known")])
        actions.start_flow([FlowStep("child", payload=3)], join=Join("join"))
        actions.success(task)

    @executors.task("child")
    async def child(payload: int) -> None: ...

    @executors.executor("join")
    async def join(task: Task[Any], actions: Actions) -> None:
        actions.success(task)

    async with harness(executors, url=url, clock=clock, lifecycle=probe, include_payload=True) as h:
        await h.add(child.task(2, id="known", execute_at=to_datetime(clock.now() + 1000)))
        await h.add(parent.task(None, metadata={"log_context": {"tenant": "t-9"}}))
        await h.handler.start()
        await clock.sleep(30)
        told = [seen.value for seen in probe.of("on_task_scheduled")][2:]
        assert [(it.task_type, it.attempt, it.generation) for it in told] == [
            ("child", 1, 0),
            ("child", 1, 0),
            ("join", 1, 0),
        ], "one child was there already"
        assert [it.payload for it in told[:2]] == [1, 3]
        assert [dict(it.log_context) for it in told] == [{"tenant": "t-9"}] * 3
        assert all(it.scheduled_at == to_datetime(h.clock.now() - 20) for it in told)
        ran = {seen.value.task_id for seen in probe.of("on_task_started")}
        assert {it.task_id for it in told} < ran, "under the ids under which they run"


async def test_what_an_attempt_dropped_is_told_to_nobody(url: str, clock: VirtualClock, probe: Probe) -> None:
    executors = TaskQueuesManager()

    @executors.executor("parent")
    async def parent(task: Task[Any], actions: Actions) -> None:
        actions.add_tasks([Task(type="parent", payload=1)])
        actions.start_flow([FlowStep("parent")], join=Join("parent"))
        raise ValueError("dropped")

    async with harness(executors, url=url, clock=clock, lifecycle=probe, flow_lifecycle=probe) as h:
        await h.run(parent.task(None))
        assert probe.names() == ["on_task_scheduled", "on_task_started", "on_task_failed", "on_task_exhausted"]
