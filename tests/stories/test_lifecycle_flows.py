"""What a provider hears of flows: started, and how each was decided, once, whoever decided it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.stories.flows import Stage, steps
from tq import Actions, AsyncTaskManager, Entity, FlowStep, Join, Task, TaskHandler, quorum
from tq.clock import to_datetime
from tq.errors import ConfigurationError
from tq.memory import MemoryBackend
from tq.model import events
from tq.testing import Probe, VirtualClock
from tq.testing.harness import harness


def parent_on(stage: Stage, *payloads: Any, **settings: Any) -> None:
    """Register "parent" on queue "p", which starts a flow of these steps."""

    @stage.executors.executor("parent", queue="p", retries=2, handoff_timeout=settings.pop("handoff", None))
    async def parent(task: Task[Any], actions: Actions) -> None:
        await asyncio.sleep(settings.get("sleep", 0))
        given = {name: value for name, value in settings.items() if name != "sleep"}
        actions.start_flow(steps(*payloads), join=Join("join"), **given)
        actions.success(task)


@pytest.mark.spec("FLC-01", "FLC-02", "FLC-05")
async def test_a_flow_of_an_executor_is_told_as_started_and_completed(
    url: str, clock: VirtualClock, probe: Probe
) -> None:
    stage, entity = Stage(), Entity("Item", "i-1")
    parent_on(stage, {"sleep": 3, "result": 1}, {"fail": "no"}, {"result": 3}, entity=entity)
    async with harness(stage.executors, url=url, clock=clock, flow_lifecycle=probe) as h:
        began = clock.now()
        await h.run(Task(type="parent", queue_id="p"))
        [flow] = await h.flows()
        context: dict[str, Any] = {
            "flow_id": flow.id,
            "total_steps": 3,
            "join": Join("join"),
            "failure_policy": "continue",
            "entity": entity,
            "worker_id": h.handler.worker_id,
            "consumer_id": f"{h.handler.backend.queue.name}:p",
        }
        started, completed = [seen.value for seen in probe.events]
        assert started == events.FlowStarted(
            **context, started_at=to_datetime(began), step_types=("step", "step", "step")
        )
        assert completed == events.FlowCompleted(**context, duration=3.0, steps_succeeded=2, steps_failed=1)


@pytest.mark.spec("FLC-01", "FLC-05")
async def test_a_flow_of_the_handler_is_told_as_started_by_nobody_s_consumer(
    url: str, clock: VirtualClock, probe: Probe
) -> None:
    stage = Stage()

    @stage.executors.executor("other")
    async def other(task: Task[Any], actions: Actions) -> None: ...

    async with harness(stage.executors, url=url, clock=clock, flow_lifecycle=probe) as h:
        kinds = [FlowStep("step", queue="media"), FlowStep("other"), FlowStep("step", queue="media")]
        flow = await h.handler.start_flow(kinds, join=Join("join"), failure_policy=quorum(2))
        started = (await probe.next("on_flow_started")).value
        assert (started.flow_id, started.consumer_id, started.worker_id) == (flow, "", h.handler.worker_id)
        assert (started.failure_policy, started.entity) == ("quorum=2", None)
        assert started.step_types == ("step", "other", "step")


@pytest.mark.spec("FLC-01", "FLC-02")
async def test_an_empty_flow_is_told_as_started_and_completed_at_once(
    url: str, clock: VirtualClock, probe: Probe
) -> None:
    stage = Stage()
    parent_on(stage)
    async with harness(stage.executors, url=url, clock=clock, flow_lifecycle=probe) as h:
        await h.run(Task(type="parent", queue_id="p"))
        await stage.start(h.handler, [])
        await h.drain()
        assert probe.names() == ["on_flow_started", "on_flow_completed"] * 2


@pytest.mark.spec("FLC-03")
async def test_an_aborted_flow_is_told_with_the_step_that_aborted_it(
    url: str, clock: VirtualClock, probe: Probe
) -> None:
    stage = Stage()
    payloads = ["a", {"sleep": 100}, {"sleep": 5, "fail": "no"}, {"sleep": 100}]
    async with harness(stage.executors, url=url, clock=clock, flow_lifecycle=probe) as h:
        flow = await stage.start(h.handler, payloads, failure_policy="abort")
        await h.handler.start()
        await clock.sleep(200)
        started, aborted = [seen.value for seen in probe.events]
        assert isinstance(aborted, events.FlowAborted)
        assert (aborted.flow_id, aborted.failure_policy, aborted.total_steps) == (flow, "abort", 4)
        assert (aborted.trigger_step_index, aborted.steps_completed, aborted.duration) == (2, 2, 5.0)
        assert started.flow_id == flow


@pytest.mark.spec("FLC-04")
async def test_a_flow_whose_deadline_has_passed_is_told_as_timed_out(
    url: str, clock: VirtualClock, probe: Probe
) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock, flow_lifecycle=probe) as h:
        flow = await stage.start(h.handler, ["a", {"sleep": 1000}], timeout=30)
        await h.handler.start()
        await clock.sleep(100)
        _, timed_out = [seen.value for seen in probe.events]
        assert isinstance(timed_out, events.FlowTimedOut)
        assert (timed_out.flow_id, timed_out.steps_completed) == (flow, 1)
        assert timed_out.duration == pytest.approx(30, abs=1.1)


@pytest.mark.parametrize("whom", ["flow", "task that waits for it"])
async def test_a_cancelled_flow_is_told_as_cancelled(url: str, clock: VirtualClock, probe: Probe, whom: str) -> None:
    stage, ids = Stage(), list[str]()

    @stage.executors.executor("waits")
    async def waits(task: Task[Any], actions: Actions) -> None:
        ids.append(actions.start_flow(steps("a", {"sleep": 1000}), join=Join("join")))
        actions.success_when(ids[0])

    async with harness(stage.executors, url=url, clock=clock, flow_lifecycle=probe) as h:
        [task_id] = await h.add(Task(type="waits"))
        await h.handler.start()
        await clock.sleep(7)
        if whom == "flow":
            assert await h.handler.flow(ids[0]).cancel("changed our mind")
        else:
            assert await h.handler.task(task_id).cancel()
        await clock.sleep(30)
        _, cancelled = [seen.value for seen in probe.events]
        assert isinstance(cancelled, events.FlowCancelled)
        assert (cancelled.flow_id, cancelled.steps_completed, cancelled.duration) == (ids[0], 1, 7.0)
        assert cancelled.reason == ("changed our mind" if whom == "flow" else "its task was cancelled")
        assert not await h.handler.flow(ids[0]).cancel("again")
        await clock.sleep(5)
        assert len(probe.events) == 2


@pytest.mark.spec("FLC-01", "D-25")
async def test_a_flow_started_after_a_hand_over_is_told_and_runs(url: str, clock: VirtualClock, probe: Probe) -> None:
    stage = Stage()
    parent_on(stage, "a", "b", sleep=30, handoff=2.0)
    options: dict[str, Any] = {"flow_lifecycle": probe, "async_tasks": AsyncTaskManager()}
    async with harness(stage.executors, url=url, clock=clock, **options) as h:
        await h.add(Task(type="parent", queue_id="p"))
        await h.handler.start()
        await clock.sleep(60)
        started, completed = [seen.value for seen in probe.events]
        assert started.consumer_id == f"{h.handler.backend.queue.name}:p"
        assert (started.flow_id, completed.steps_succeeded) == (completed.flow_id, 2)
        assert [entry["status"] for entry in stage.only["steps"]] == ["success", "success"]


@pytest.mark.spec("FLC-01")
async def test_a_start_that_was_refused_or_dropped_is_not_told(url: str, clock: VirtualClock, probe: Probe) -> None:
    stage = Stage()

    @stage.executors.executor("parent", retries=1)
    async def parent(task: Task[Any], actions: Actions) -> None:
        actions.start_flow(steps("a"), join=Join("join"))
        if task.attempt == 0:
            raise ValueError("dropped")
        actions.success(task)

    async with harness(stage.executors, url=url, clock=clock, flow_lifecycle=probe) as h:
        await h.run(Task(type="parent"))
        assert probe.events == []
        await h.later(5)
        assert probe.names() == ["on_flow_started", "on_flow_completed"]


@pytest.mark.spec("FLC-06")
def test_a_provider_of_flows_without_a_barrier_is_refused(probe: Probe) -> None:
    backend = MemoryBackend(clock=VirtualClock())
    provider: Any = probe
    with pytest.raises(ConfigurationError, match="barrier="):
        TaskHandler(queue=backend.queue, store=backend.store, flow_lifecycle=provider)
