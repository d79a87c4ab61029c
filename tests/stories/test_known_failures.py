"""How joins of other libraries are known to fail (F-01 … F-24, RFC 007): told here on one server, and on several.

What other stories hold already is named there. Two failures are published with all their steps: a group of three that
receives A, A, B, C, and a member that comes again with another value.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from tests.stories.flows import Stage, entries, steps
from tests.stories.homes import Home
from tq import (
    Actions,
    FlowStep,
    Join,
    Task,
    TaskStatus,
)
from tq.clock import to_datetime
from tq.testing.harness import Harness

DAY = 86_400.0


class Counting(Stage):
    """A step whose result is different each time it runs: "A1", then "A2"."""

    def __init__(self) -> None:
        super().__init__()
        self.executors.executor("counting", queue="media", retries=0)(self._counting)
        self.times: Counter[str] = Counter()

    async def _counting(self, task: Task[Any], actions: Actions) -> None:
        self.times[task.payload] += 1
        self.ran.append(task.id)
        actions.success(task, f"{task.payload}{self.times[task.payload]}")

    def members(self, names: str) -> list[FlowStep]:
        return [FlowStep("counting", queue="media", payload=name) for name in names]


# --- published, with all their steps ----------------------------------------------------------------------------------


@pytest.mark.spec("F-03", "F-04", "F-05", "F-20", "F-24", "BAR-03", "INV-05", "INV-06", "D-48")
@pytest.mark.parametrize("value", ["another", "the same"])
async def test_a_group_of_three_that_receives_a_a_b_c_joins_once_after_c(home: Home, value: str) -> None:
    """In another library it joins after B, and once more after C."""
    stage = Counting()
    handler = home.handler(stage.executors, concurrency=1)
    members = stage.members("ABC") if value == "another" else steps("A1", "B1", "C1")
    flow = await handler.start_flow(members, join=Join("join"))
    assert await handler.process_batch("media", 1) == {f"{flow}.0": "success"}
    await home.again(f"{flow}.0")
    seen = [2]
    while seen[-1]:  # A runs once more, or is recognised; then B, then C
        assert not stage.told
        await handler.process_batch("media", 1)
        seen.append((await handler.flow(flow).status()).remaining)
    assert seen == [2, 2, 1, 0]
    await handler.drain()
    assert entries(stage.only) == [(0, "success", "A1"), (1, "success", "B1"), (2, "success", "C1")]
    status = await handler.flow(flow).status()
    assert (status.succeeded, status.remaining, status.verdict) == (3, 0, "completed")

    await home.again(f"{flow}.0", f"{flow}.2")  # and late, when all is over
    await handler.drain()
    await home.clock.sleep(600)
    await handler.drain()
    assert len(stage.told) == 1
    assert await handler.flow(flow).status() == status
    await handler.close()


@pytest.mark.spec("F-05", "F-21", "D-43")
async def test_a_member_that_comes_again_after_the_join_brings_no_second_one(home: Home) -> None:
    """In another library a group of two is called complete again."""
    stage = Counting()
    handler = home.handler(stage.executors)
    flow = await handler.start_flow(stage.members("AB"), join=Join("join"))
    await handler.drain()
    for id in (f"{flow}.0", f"{flow}.1"):
        await home.again(id)
        await handler.drain()
    assert entries(stage.only) == [(0, "success", "A1"), (1, "success", "B1")]
    assert await home.left() == 0
    await handler.close()


@pytest.mark.spec("F-03", "F-23", "BAR-03", "INV-06")
async def test_a_member_that_comes_again_with_another_value_keeps_its_first_one(home: Home) -> None:
    """In another library the join of three runs with [A1, A2, B1], without C."""
    stage = Counting()
    handler = home.handler(stage.executors, concurrency=1)
    flow = await handler.start_flow(stage.members("ABC"), join=Join("join"))
    assert await handler.process_batch("media", 1)
    await home.parts["store"].purge(home.clock.now() + 1e7, 0.0, 1000)  # whatever would let it be recognised
    await home.again(f"{flow}.0")
    await handler.drain()
    assert stage.times["A"] == 2
    assert entries(stage.only) == [(0, "success", "A1"), (1, "success", "B1"), (2, "success", "C1")]
    await handler.close()


# --- open for long, and many ------------------------------------------------------------------------------------------


@pytest.mark.spec("F-06")
async def test_results_that_expired_long_ago_are_in_the_join_of_a_flow_that_was_open_for_months(home: Home) -> None:
    stage = Stage()

    @stage.executors.executor("brief", queue="media", store_on_success=True, result_ttl=1.0)
    async def brief(task: Task[Any], actions: Actions) -> None:
        actions.success(task, "early")

    handler = home.handler(stage.executors)
    flow = await handler.start_flow([FlowStep("brief", queue="media"), *steps("late")], join=Join("join"))
    assert await handler.process_batch("media", 1)
    await handler.queue("media").pause()
    await Harness(handler, home.clock).later(90 * DAY)
    assert await handler.task(f"{flow}.0").record() is None
    assert (await handler.flow(flow).status()).remaining == 1
    await handler.queue("media").resume()
    await handler.drain()
    assert entries(stage.only) == [(0, "success", "early"), (1, "success", "late")]
    await handler.close()


@pytest.mark.spec("F-12", "F-13")
async def test_whoever_waits_for_a_flow_holds_no_slot_and_nothing_in_the_worker(home: Home) -> None:
    stage = Stage()
    stage.executors.queue("elsewhere")

    @stage.executors.executor("parent", store_on_success=True)
    async def parent(task: Task[Any], actions: Actions) -> None:
        actions.success_when(actions.start_flow([FlowStep("far", queue="elsewhere")], join=Join("join")))

    @stage.executors.executor("far", queue="elsewhere")
    async def far(task: Task[Any], actions: Actions) -> None:
        actions.success(task)

    here = home.handler(stage.executors, concurrency=1, queues=["default", "media"])
    parents = await here.add_tasks([parent.task(None) for _ in range(300)])
    await here.drain()
    states = Counter([await here.task(id).status() for id in parents])
    assert states == {TaskStatus.PROCESSING: 300}
    tasks = len(asyncio.all_tasks())
    await here.add_tasks([Task(type="step", queue_id="media", payload="quick")])
    assert await here.process_batch("media") is not None, "the one slot is free"
    assert len(asyncio.all_tasks()) == tasks
    there = home.handler(stage.executors)
    await there.drain()
    await here.drain()
    assert Counter([await here.task(id).status() for id in parents]) == {TaskStatus.EXECUTED: 300}
    assert await home.left() == 0
    for handler in (here, there):
        await handler.close()


@pytest.mark.spec("F-17")
async def test_whoever_asks_for_a_flow_learns_of_its_end_though_nobody_wakes_it(home: Home) -> None:
    stage = Stage()
    worker, asking = home.handler(stage.executors), home.handler(stage.executors)
    flow = await stage.start(asking, [{"sleep": 20.0, "result": n} for n in range(3)])
    early = asyncio.ensure_future(asking.flow(flow).wait(timeout=600))
    await home.clock.sleep(5)
    await worker.start()
    assert (await early).verdict == "completed"
    assert (await asking.flow(flow).wait(timeout=1)).verdict == "completed", "and so does who asks too late"
    for handler in (worker, asking):
        await handler.close()


# --- leases -----------------------------------------------------------------------------------------------------------


@pytest.mark.spec("F-26", "F-38", "INV-03")
async def test_what_is_due_later_and_takes_an_hour_runs_once_though_many_wait_for_it(home: Home) -> None:
    """Other libraries run it twice: as soon as its lock is over, or once for each scheduler."""
    stage, began = Stage(), list[float]()

    @stage.executors.executor("long", store_on_success=True)
    async def long(task: Task[Any], actions: Actions) -> None:
        began.append(home.clock.now())
        await asyncio.sleep(3600)
        actions.success(task)

    workers = [home.handler(stage.executors) for _ in range(3)]
    for worker in workers:
        await worker.start()
    due = home.clock.now() + 1800
    [task_id] = await workers[0].add_tasks([long.task(None, execute_at=to_datetime(due))])
    await home.clock.sleep(1800 + 3600 + 60)
    assert began == [pytest.approx(due, abs=1.0)]
    assert await workers[1].task(task_id).status() is TaskStatus.EXECUTED
    for worker in workers:
        await worker.close()
