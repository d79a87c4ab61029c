"""A flow, and a step, may stand for a domain object: its row says how far the work has come, and never goes back."""

from __future__ import annotations

from typing import Any

import pytest

from tests.stories.flows import Stage, projection, steps
from tq import Actions, Entity, FlowStep, Join, Task, TaskStatus
from tq.model import Projection
from tq.testing import VirtualClock
from tq.testing.harness import Harness, harness

ITEM = Entity("Item", "i-1")


async def row(h: Harness, id: str) -> Projection:
    """Return the row of a task or flow."""
    found = await projection(h.handler, id)
    assert found is not None, f"{id} has no row"
    return found


async def says(h: Harness, id: str) -> tuple[str, str | None, bytes | None]:
    """Return what the row of a task or flow says: status, error, result."""
    found = await row(h, id)
    return str(found.status), found.error, found.result


@pytest.mark.spec("FLOW-09", "FLOW-26", "INV-07")
async def test_a_flow_is_processing_and_then_what_its_join_came_to(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        began = clock.now()
        flow = await stage.start(h.handler, ["a", {"sleep": 50.0, "fail": "no"}], entity=ITEM)
        first = await row(h, flow)
        assert (first.task_id, first.entity_type, first.entity_id) == (flow, "Item", "i-1")
        assert (first.task_type, first.queue_id) == ("join", "default"), "of its join"
        assert (first.status, first.created_at, first.updated_at) == (TaskStatus.PROCESSING, began, began)
        await h.handler.start()
        await clock.sleep(20)
        assert await row(h, flow) == first, "steps write nothing there"
        await clock.sleep(40)
        last = await row(h, flow)
        assert (last.status, last.result, last.error) == (TaskStatus.EXECUTED, b'"joined"', None)
        assert (last.version > first.version, last.created_at, last.updated_at) == (True, began, began + 50)


@pytest.mark.spec("FLOW-26")
@pytest.mark.parametrize(("says_so", "error"), [("cannot publish", "cannot publish"), (None, "Join task failed")])
async def test_a_join_that_fails_is_the_flows_failure(
    url: str, clock: VirtualClock, says_so: str | None, error: str
) -> None:
    stage = Stage()

    @stage.executors.executor("failing", retries=0)
    async def failing(task: Task[Any], actions: Actions) -> None:
        actions.fail(task, says_so)

    async with harness(stage.executors, url=url, clock=clock) as h:
        flow = await h.handler.start_flow(steps("a"), join=Join("failing"), entity=ITEM)
        await h.drain()
        assert await says(h, flow) == ("failed", error, None)


@pytest.mark.spec("FLOW-27", "D-50", "INV-07")
@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("abort", ("failed", "flow_aborted", None)),
        ("deadline", ("failed", "flow_timeout", None)),
        ("cancel", ("cancelled", "flow_cancelled", None)),
    ],
)
@pytest.mark.parametrize("join_fails", [False, True], ids=["the join succeeds", "the join fails"])
async def test_a_flow_that_did_not_complete_stays_what_its_verdict_made_of_it(
    url: str,
    clock: VirtualClock,
    how: str,
    expected: tuple[str, str, None],
    join_fails: bool,  # noqa: FBT001 -- drawn
) -> None:
    stage = Stage()
    stage.join_sleeps = 100.0
    stage.join_says = ValueError("no") if join_fails else "joined all the same"
    async with harness(stage.executors, url=url, clock=clock) as h:
        orders = [{"sleep": 10.0, "fail": "no"} if how == "abort" else "a", {"sleep": 1e5}]
        policy = "abort" if how == "abort" else "continue"
        timeout = 10.0 if how == "deadline" else None
        flow = await stage.start(h.handler, orders, entity=ITEM, failure_policy=policy, timeout=timeout)
        await h.handler.start()
        await clock.sleep(9)
        assert (await says(h, flow))[0] == "processing"
        if how == "cancel":
            await h.handler.flow(flow).cancel()
        await clock.sleep(5)
        assert await says(h, flow) == expected, "at the verdict, not when the join has ended"
        decided = await row(h, flow)
        await clock.sleep(200)
        assert await row(h, flow) == decided, "a terminal row is final"


@pytest.mark.spec("D-50", "INV-07")
async def test_a_redrive_opens_a_new_version(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        member = FlowStep("step", queue="media", payload={"fail": "no"}, entity=Entity("Part", "p-1"))
        flow = await h.handler.start_flow([member], join=Join("join"), entity=ITEM, failure_policy="abort")
        await h.drain()
        versions = [(await row(h, flow)).version]
        parts = [(await row(h, f"{flow}.0")).version]
        assert (await says(h, flow))[:2] == ("failed", "flow_aborted")
        for _ in range(2):
            await h.handler.flow(flow).redrive()
            assert await says(h, flow) == ("processing", None, None)
            assert await says(h, f"{flow}.0") == ("scheduled", None, None)
            versions.append((await row(h, flow)).version)
            parts.append((await row(h, f"{flow}.0")).version)
            await h.drain()
            assert (await says(h, flow))[:2] == ("failed", "flow_aborted")
            assert (await says(h, f"{flow}.0"))[:2] == ("failed", "no")
            versions.append((await row(h, flow)).version)
            parts.append((await row(h, f"{flow}.0")).version)
        assert versions == sorted(set(versions))
        assert parts == sorted(set(parts))


@pytest.mark.spec("FLOW-07", "ENT-01", "ENT-03", "ENT-04", "ENT-15")
async def test_a_step_may_have_an_entity_of_its_own_beside_the_flows(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        members = [
            FlowStep("step", queue="media", payload={"sleep": 10.0, "result": n}, entity=Entity("Part", f"p-{n}"))
            for n in range(2)
        ]
        flow = await h.handler.start_flow([*members, *steps("plain")], join=Join("join"), entity=ITEM)
        assert [(await says(h, f"{flow}.{index}"))[0] for index in range(2)] == ["scheduled", "scheduled"]
        await h.handler.start()
        await clock.sleep(5)
        assert [(await says(h, f"{flow}.{index}"))[0] for index in range(2)] == ["processing", "processing"]
        await clock.sleep(10)
        for index in range(2):
            found = await row(h, f"{flow}.{index}")
            assert (found.status, found.result, found.entity_id) == (TaskStatus.EXECUTED, b"%d" % index, f"p-{index}")
            assert (found.task_type, found.queue_id) == ("step", "media")
        assert await projection(h.handler, f"{flow}.2") is None, "only those that carry one"
        assert stage.joins[0].entity is None


@pytest.mark.spec("D-51", "ENT-02")
async def test_neither_the_join_nor_a_flow_without_entity_has_a_row(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        without = await stage.start(h.handler, ["a"])
        with_ = await stage.start(h.handler, ["a"], entity=ITEM)
        await h.drain()
        assert await projection(h.handler, without) is None
        for flow in (without, with_):
            assert await projection(h.handler, f"{flow}.join") is None
            assert await projection(h.handler, f"{flow}.0") is None


@pytest.mark.spec("FLOW-07", "ENT-01")
async def test_steps_of_a_wide_flow_have_their_rows_when_they_are_written(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    stage.executors.queue("elsewhere")
    async with harness(stage.executors, url=url, clock=clock) as h:
        members = [FlowStep("t", queue="elsewhere", entity=Entity("Part", f"p-{n}")) for n in range(1100)]
        flow = await h.handler.start_flow(members, join=Join("join"), entity=ITEM)
        await h.drain()
        assert (await says(h, flow))[0] == "processing"
        for index in (0, 499, 500, 1099):
            assert (await says(h, f"{flow}.{index}"))[0] == "scheduled"
        await h.handler.flow(flow).cancel()
        await h.drain()
        assert (await says(h, flow))[0] == "cancelled"


@pytest.mark.spec("D-35", "D-55", "INV-07")
async def test_a_step_cancelled_with_its_flow_has_a_last_row(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock, concurrency=1) as h:
        members = [
            FlowStep("step", queue="media", payload={"sleep": 1e5}, entity=Entity("Part", f"p-{n}")) for n in range(2)
        ]
        flow = await h.handler.start_flow(members, join=Join("join"))
        await h.handler.start()
        await clock.sleep(5)
        await h.handler.flow(flow).cancel()
        await clock.sleep(40)
        assert [(await says(h, f"{flow}.{index}"))[0] for index in range(2)] == ["cancelled", "cancelled"]


@pytest.mark.spec("FLOW-09", "D-52")
async def test_a_second_start_does_not_touch_the_row(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        flow = await stage.start(h.handler, ["a"], entity=ITEM, key="k")
        await h.drain()
        before = await row(h, flow)
        await clock.sleep(60)
        await stage.start(h.handler, ["a"], entity=ITEM, key="k")
        await h.drain()
        assert await row(h, flow) == before
