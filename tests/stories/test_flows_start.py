"""A flow starts: whole or not at all, once, and refused at the door where it could never join."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from tests.stories.flows import Stage, entries, steps
from tq import Actions, Backoff, Entity, FlowStep, Join, Task, quorum, tolerate
from tq.app.handles import FlowStatus
from tq.errors import UnknownFlowError
from tq.ids import flow_id
from tq.testing import VirtualClock
from tq.testing.harness import harness


@pytest.mark.spec("FLOW-01", "FLOW-03", "FLOW-06", "FLOW-31", "BAR-08", "D-48")
async def test_steps_know_their_flow_and_the_barrier_stands_before_they_run(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        payloads = [{"result": "a"}, {"result": "b", "flow_meta": 1}, {"result": "c"}]
        flow = await stage.start(h.handler, payloads, entity=Entity("Item", "i-1"))
        began = clock.now()
        before = await h.handler.flow(flow).status()
        assert (before.total, before.remaining, before.started_at.timestamp()) == (3, 3, began)
        await clock.sleep(5)
        await h.drain()
        after = await h.handler.flow(flow).status()
        assert after.started_at == before.started_at, "the flow began when it was started, not at its first ending"
        assert sorted(stage.seen) == [f"{flow}.{index}" for index in range(3)]
        for index, payload in enumerate(payloads):
            task = stage.seen[f"{flow}.{index}"]
            assert task.payload == payload, "the payload is untouched"
            assert task.entity is None
            assert task.flow_meta == {
                "flow_id": flow,
                "step_index": index,
                "total_steps": 3,
                "join": {"type": "join", "queue": "default"},
                "failure_policy": "continue",
                "entity": {"type": "Item", "id": "i-1"},
            }


@pytest.mark.spec("FLOW-08", "D-51", "D-64")
async def test_steps_and_join_inherit_the_log_context_and_steps_keep_their_partition_key(
    url: str, clock: VirtualClock
) -> None:
    stage = Stage()

    @stage.executors.executor("parent")
    async def parent(task: Task[Any], actions: Actions) -> None:
        step = FlowStep("step", queue="media", payload=1, partition_key="tenant-7")
        actions.start_flow([step], join=Join("join"))
        actions.success(task)

    async with harness(stage.executors, url=url, clock=clock) as h:
        await h.run(parent.task(None, metadata={"log_context": {"request": "r-1"}}))
        (step,) = stage.seen.values()
        assert step.log_context == {"request": "r-1"}
        assert step.partition_key == "tenant-7"
        assert stage.joins[0].log_context == {"request": "r-1"}


@pytest.mark.spec("FLOW-10", "FLOW-04")
async def test_an_executors_flow_is_real_with_its_outcome_and_due_at_once(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    flows: list[str] = []

    @stage.executors.executor("parent")
    async def parent(task: Task[Any], actions: Actions) -> None:
        flows.append(actions.start_flow(steps(1, 2), join=Join("join")))
        with pytest.raises(UnknownFlowError):
            await h.handler.flow(flows[0]).status()
        await clock.sleep(10)
        assert not stage.ran, "nothing of it runs before the task has ended"
        actions.success(task)

    async with harness(stage.executors, url=url, clock=clock) as h:
        await h.add(parent.task(None))
        await h.handler.start()
        await clock.sleep(10.5)
        assert entries(stage.only) == [(0, "success", 1), (1, "success", 2)]
        assert (await h.handler.flow(flows[0]).status()).verdict == "completed"


@pytest.mark.spec("FLOW-13")
async def test_one_step_is_a_flow(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        await stage.start(h.handler, ["alone"])
        await h.drain()
        assert entries(stage.only) == [(0, "success", "alone")]
        await h.assert_quiet()


@pytest.mark.spec("F-07", "INV-05")
@pytest.mark.parametrize("policy", ["continue", "abort", tolerate(0.5), quorum(1)], ids=str)
async def test_an_empty_flow_joins_at_once_from_the_handler(url: str, clock: VirtualClock, policy: Any) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        flow = await stage.start(h.handler, [], failure_policy=policy, timeout=600)
        status = await h.handler.flow(flow).status()
        assert (status.verdict, status.total, status.remaining) == ("completed", 0, 0)
        await h.drain()
        assert stage.only["steps"] == []
        assert "aborted" not in stage.only
        await h.later(601)
        assert len(stage.told) == 1, "its deadline has nothing left to end"
        await h.assert_quiet()


@pytest.mark.spec("F-07")
async def test_an_empty_flow_joins_at_once_from_an_executor_and_ends_who_waits_for_it(
    url: str, clock: VirtualClock
) -> None:
    stage = Stage()

    @stage.executors.executor("parent", store_on_success=True)
    async def parent(task: Task[Any], actions: Actions) -> None:
        actions.success_when(actions.start_flow([], join=Join("join")))

    async with harness(stage.executors, url=url, clock=clock) as h:
        [task_id] = await h.run(parent.task(None))
        assert stage.only["steps"] == []
        await h.assert_succeeded(task_id, "joined")
        await h.assert_quiet()


@pytest.mark.spec("D-52")
async def test_a_retried_task_starts_the_same_flow_and_its_steps_run_once(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    flows: list[str] = []

    @stage.executors.executor("parent", retries=2, backoff=Backoff(jitter=0), store_on_success=True)
    async def parent(task: Task[Any], actions: Actions) -> None:
        flows.append(actions.start_flow(steps("a", "b"), join=Join("join")))
        if task.attempt < 2:
            actions.fail(task, "not yet")
        else:
            actions.success(task)

    async with harness(stage.executors, url=url, clock=clock) as h:
        born = clock.now()
        [task_id] = await h.run(parent.task(None))
        assert entries(stage.only) == [(0, "success", "a"), (1, "success", "b")], "a recorded failure starts the flow"
        await h.later(100)
        await h.later(100)
        assert flows == [flow_id(task_id, born, 0, "#0")] * 3
        await h.assert_succeeded(task_id)
        assert set(stage.runs.values()) == {1}, "a second start writes nothing"
        assert len(stage.told) == 1
        await h.assert_quiet()


@pytest.mark.spec("D-52")
async def test_another_plan_under_the_same_key_warns_and_changes_nothing(
    url: str, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage()

    @stage.executors.executor("parent", retries=1, backoff=Backoff(jitter=0), store_on_success=True)
    async def parent(task: Task[Any], actions: Actions) -> None:
        if task.attempt == 0:
            actions.start_flow(steps("a"), join=Join("join"), key="report")
            actions.fail(task, "again")
        else:
            actions.start_flow(steps("x", "y", "z"), join=Join("other"), key="report")
            actions.success(task)

    async with harness(stage.executors, url=url, clock=clock) as h:
        born = clock.now()
        [task_id] = await h.run(parent.task(None))
        assert "another plan" not in caplog.text
        with caplog.at_level(logging.WARNING):
            await h.later(100)
        flow = flow_id(task_id, born, 0, "report")
        assert stage.ran == [f"{flow}.0"], "no step of the second plan runs"
        assert entries(stage.only) == [(0, "success", "a")]
        assert (await h.handler.flow(flow).status()).total == 1
        assert f"flow {flow} " in caplog.text
        assert "nothing changes" in caplog.text
        await h.assert_quiet()


@pytest.mark.spec("D-52")
@pytest.mark.parametrize("other", ["steps", "join", "policy", "timeout"])
async def test_two_plans_under_one_key_in_one_attempt_warn_too(
    url: str, clock: VirtualClock, caplog: pytest.LogCaptureFixture, other: str
) -> None:
    stage = Stage()
    changed: dict[str, Any] = {"join": Join("other")} if other == "join" else {}
    changed |= {"failure_policy": "abort"} if other == "policy" else {}
    changed |= {"timeout": 5.0} if other == "timeout" else {}

    @stage.executors.executor("parent")
    async def parent(task: Task[Any], actions: Actions) -> None:
        one = actions.start_flow(steps("a"), join=Join("join"), key="k")
        same = actions.start_flow(steps("a"), join=Join("join"), key="k")
        assert "nothing changes" not in caplog.text
        settings: dict[str, Any] = {"join": Join("join")} | changed
        two = actions.start_flow(steps("b" if other == "steps" else "a"), key="k", **settings)
        assert one == same == two
        actions.success(task)

    async with harness(stage.executors, url=url, clock=clock) as h:
        await h.run(parent.task(None))
        assert entries(stage.only) == [(0, "success", "a")]
        assert "nothing changes" in caplog.text


@pytest.mark.spec("D-52")
async def test_two_flows_of_one_attempt_are_two(url: str, clock: VirtualClock) -> None:
    stage = Stage()

    @stage.executors.executor("parent")
    async def parent(task: Task[Any], actions: Actions) -> None:
        flows = [actions.start_flow(steps(n), join=Join("join")) for n in range(2)]
        assert len(set(flows)) == 2
        actions.success(task)

    async with harness(stage.executors, url=url, clock=clock) as h:
        await h.run(parent.task(None))
        assert sorted(entries(told)[0][2] for told in stage.told) == [0, 1]
        assert len({told["flow_id"] for told in stage.told}) == 2


@pytest.mark.spec("D-52")
async def test_an_attempt_that_raises_without_an_outcome_starts_nothing(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    flows: list[str] = []

    @stage.executors.executor("parent", retries=0)
    async def parent(task: Task[Any], actions: Actions) -> None:
        flows.append(actions.start_flow(steps(1, 2), join=Join("join")))
        raise ValueError("no outcome")

    async with harness(stage.executors, url=url, clock=clock) as h:
        [task_id] = await h.run(parent.task(None))
        await h.assert_failed(task_id, "no outcome")
        assert not stage.ran
        with pytest.raises(UnknownFlowError):
            await h.handler.flow(flows[0]).status()
        await h.assert_quiet()


async def test_a_start_by_the_handler_under_a_key_happens_once(
    url: str, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        one = await stage.start(h.handler, ["a", "b"], key="nightly")
        await h.drain()
        assert "nothing changes" not in caplog.text
        two = await stage.start(h.handler, ["a", "b", "c"], key="nightly")
        await h.drain()
        assert one == two
        assert set(stage.runs) == {f"{one}.0", f"{one}.1"}
        assert set(stage.runs.values()) == {1}
        assert stage.only["total"] == 2
        assert "nothing changes" in caplog.text
        await h.assert_quiet()


@pytest.mark.spec("BAR-01")
async def test_a_flow_that_is_under_way_is_not_reset_by_a_second_start(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        flow = await stage.start(h.handler, ["a", {"sleep": 100, "result": "b"}], key="k")
        await h.handler.start()
        await clock.sleep(10)
        before = await h.handler.flow(flow).status()
        assert before.remaining == 1
        await stage.start(h.handler, ["a", {"sleep": 100, "result": "b"}], key="k")
        await clock.sleep(10)
        assert await h.handler.flow(flow).status() == before
        await clock.sleep(100)
        assert entries(stage.only) == [(0, "success", "a"), (1, "success", "b")]
        assert set(stage.runs.values()) == {1}


async def test_a_status_can_be_asked_for_all_along(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        flow = await stage.start(h.handler, [1, {"sleep": 20, "fail": "no"}], timeout=600)
        await h.handler.start()
        await clock.sleep(10)
        status: FlowStatus = await h.handler.flow(flow).status()
        assert (status.succeeded, status.failed, status.remaining, status.verdict) == (1, 0, 1, None)
        assert status.deadline is not None
        assert (status.deadline - status.started_at).total_seconds() == 600
        ended = await h.handler.flow(flow).wait(timeout=60)
        assert (ended.succeeded, ended.failed, ended.remaining, ended.verdict) == (1, 1, 0, "completed")
        assert ended.closed_at is not None
        assert (ended.closed_at - ended.started_at).total_seconds() == pytest.approx(20, abs=0.1)
