"""An id given again, once its task or flow is forgotten, names another one: nothing of the former stands for it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.stories.flows import projection
from tq import Actions, Entity, FlowStep, Join, Task, TaskHandler, TaskQueuesManager, TaskStatus
from tq.testing import VirtualClock
from tq.testing.harness import Harness, harness

HOUR, DAY = 3600.0, 86_400.0


class Stage:
    """Executors that fail while `works` is False, and what ran."""

    def __init__(self) -> None:
        self.works = True
        self.ran: list[str] = []
        self.joined: list[list[tuple[str, object]]] = []
        self.executors = TaskQueuesManager()
        self.executors.executor("report")(self.report)
        self.executors.executor("waiting")(self.waiting)
        self.executors.task("page")(self.page)
        self.executors.executor("join")(self.join)
        self.executors.executor("frail")(self.frail)

    async def report(self, task: Task[Any], actions: Actions) -> None:
        actions.add_tasks([Task(type="page", payload=2)])
        actions.start_flow([FlowStep("page", payload=1)], join=Join("join"))
        actions.success(task)

    async def waiting(self, task: Task[Any], actions: Actions) -> None:
        actions.success_when(actions.start_flow([FlowStep("page", payload=1)], join=Join("join")))

    async def page(self, number: int) -> int:
        self.ran.append(f"page {number}")
        if not self.works:
            raise ValueError("no paper")
        return number

    async def join(self, task: Task[Any], actions: Actions) -> None:
        self.joined.append([(step["status"], step.get("result")) for step in task.payload["flow_results"]["steps"]])
        actions.success(task)

    async def frail(self, task: Task[Any], actions: Actions) -> None:
        self.ran.append("frail")
        if self.works:
            actions.success(task)
        else:
            actions.fail(task, "no paper")


async def shown(h: Harness, key: str) -> tuple[TaskStatus, str | None]:
    row = await projection(h.handler, key)
    assert row is not None
    return row.status, row.error


@pytest.mark.parametrize("type", ["report", "waiting"])
async def test_a_task_with_an_id_that_was_used_before_has_its_own_children_and_flow(
    type: str, url: str, clock: VirtualClock
) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        for night in range(1, 4):
            await h.run(Task(type=type, id="nightly", entity=Entity("Report", "r")))
            await h.later(60.0)
            assert stage.joined == [[("success", 1)]] * night
            assert stage.ran.count("page 2") == (night if type == "report" else 0)
            assert (await shown(h, "nightly"))[0] is TaskStatus.EXECUTED
            await h.later(2 * DAY)
    assert stage.ran.count("page 1") == 3


async def test_the_row_of_an_id_tells_of_the_last_task_that_bore_it(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        task = Task[object](type="page", payload=1, id="sync", entity=Entity("User", "7"))
        await h.run(task)
        assert await shown(h, "sync") == (TaskStatus.EXECUTED, None)
        await h.later(2 * DAY)
        stage.works = False
        await h.run(task)
        assert await shown(h, "sync") == (TaskStatus.FAILED, "no paper")
        await h.handler.dead.purge("sync")
        await h.later(1.0)
        stage.works = True
        await h.run(task)
        assert await shown(h, "sync") == (TaskStatus.EXECUTED, None)


async def test_an_id_that_is_added_again_while_it_is_known_leaves_the_row_alone(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        task = Task[object](type="page", payload=1, id="sync", entity=Entity("User", "7"))
        await h.add(task)
        await h.later(1.0)
        await clock.sleep(10)
        await h.run(task)
        assert await shown(h, "sync") == (TaskStatus.EXECUTED, None)
        assert stage.ran == ["page 1"]


async def test_a_flow_under_a_key_that_was_forgotten_runs_all_its_steps_and_its_join(
    url: str, clock: VirtualClock
) -> None:
    """Dead letters are kept for longer than flows."""
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:

        async def start(join: str) -> str:
            steps = [FlowStep("page", payload=1), FlowStep("page", payload=2)]
            flow = await h.handler.start_flow(steps, join=Join(join), key=join, entity=Entity("Week", join))
            await h.later(5.0)
            return flow

        stage.works = False
        before = [await start("join"), await start("frail")]
        assert stage.joined == [[("fail", None)] * 2]
        for _ in range(9):
            await h.later(DAY)
        stage.works = True
        stage.joined.clear()
        stage.ran.clear()
        assert [await start("join"), await start("frail")] == before
        assert stage.joined == [[("success", 1), ("success", 2)]]
        assert stage.ran.count("frail") == 1
        for flow in before:
            assert (await shown(h, flow))[0] is TaskStatus.EXECUTED


async def test_a_second_start_of_a_known_flow_leaves_its_endings_alone(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    stage.works = False
    async with harness(stage.executors, url=url, clock=clock) as h:
        flow = ""
        for _ in range(2):
            flow = await h.handler.start_flow([FlowStep("page", payload=1)], join=Join("join"), key="weekly")
            await h.later(HOUR)
        assert [letter.task_id for letter in await h.handler.dead.list()] == [f"{flow}.0"]
        assert stage.ran == ["page 1"]


@pytest.mark.parametrize("id", ["order-17", "01arz3ndektsv4rrffq69g5fav"])
async def test_across_servers_an_id_is_taken_for_as_long_as_its_outcome_whatever_it_looks_like(
    id: str, clock: VirtualClock
) -> None:
    """The second one has the form of ids that are made here, which nobody could add twice."""
    stage = Stage()
    async with TaskHandler.connect("memory://", stage.executors, store="sqlite://", clock=clock) as handler:
        for _ in range(3):
            await handler.add_tasks([Task(type="page", payload=1, id=id)])
            await handler.drain()
    assert stage.ran == ["page 1"]
