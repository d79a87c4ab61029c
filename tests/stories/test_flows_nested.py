"""A task that ends when its flow does: as a step of another flow, and so on, four flows deep."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.stories.flows import Stage, entries, projection, steps
from tq import Actions, Backoff, Entity, FlowStep, Join, Task, TaskHandler, TaskStatus, connect
from tq.errors import InvalidInputError, TaskCancelledError, TaskFailedError
from tq.ids import flow_id
from tq.testing import VirtualClock
from tq.testing.harness import harness

DEPTH = 4


class Tower(Stage):
    """A step "nest" of level n starts a flow of two steps, one of them of level n - 1, and ends with it.

    The join of each level adds up; the lowest step does what `bottom` says.
    """

    def __init__(self, bottom: Any, **settings: Any) -> None:
        super().__init__()
        self.bottom = bottom
        self.settings = settings
        self.lasts = 0.0
        """Seconds that the body of each level, and of each join, takes."""
        self.levels: list[str] = []
        """Flows from the outermost to the innermost."""
        self.joined: list[tuple[str, dict[str, Any]]] = []
        self.executors.executor("nest", queue="media", retries=0, store_on_success=True)(self._nest)
        self.executors.executor("sum", retries=0, store_on_success=True)(self._sum)

    async def _nest(self, task: Task[Any], actions: Actions) -> None:
        level = task.payload
        await asyncio.sleep(self.lasts)
        inner = FlowStep("nest", queue="media", payload=level - 1) if level > 1 else steps(self.bottom)[0]
        flow = actions.start_flow([*steps(1), inner], join=Join("sum"), **self.settings)
        self.levels.append(flow)
        actions.success_when(flow)

    async def _sum(self, task: Task[Any], actions: Actions) -> None:
        told = task.payload["flow_results"]
        await asyncio.sleep(self.lasts)
        self.joined.append((told["flow_id"], told))
        if all(step["status"] == "success" for step in told["steps"]):
            actions.success(task, sum(step["result"] for step in told["steps"]))
        else:
            words = [step.get("error") or step["status"] for step in told["steps"] if step["status"] != "success"]
            actions.fail(task, " & ".join(words))


@pytest.mark.spec("F-08", "FLOW-20", "INV-05")
async def test_flows_nest_four_deep_and_each_ends_the_task_that_waits_for_it(url: str, clock: VirtualClock) -> None:
    tower = Tower({"sleep": 30.0, "result": 5})
    async with harness(tower.executors, url=url, clock=clock) as h:
        await h.handler.start()
        [task_id] = await h.add(Task(type="nest", queue_id="media", payload=DEPTH))
        await clock.sleep(20)
        assert len(tower.levels) == DEPTH
        assert await h.handler.task(task_id).status() is TaskStatus.PROCESSING
        assert (await h.handler.queue("media").counts())["held"] == DEPTH, "what waits holds no slot"
        assert await h.handler.task(task_id).result(timeout=60) == 5 + DEPTH
        assert [flow for flow, _ in tower.joined] == tower.levels[::-1], "from the innermost outwards, each once"
        await h.assert_quiet()


@pytest.mark.spec("F-13")
async def test_many_towers_stand_on_one_slot(url: str, clock: VirtualClock) -> None:
    """Waiting that occupied a worker would fill its slots with waiters."""
    tower = Tower(5)
    async with harness(tower.executors, url=url, clock=clock, concurrency=1) as h:
        ids = await h.run(*[Task(type="nest", queue_id="media", payload=DEPTH) for _ in range(10)])
        for task_id in ids:
            await h.assert_succeeded(task_id, 5 + DEPTH)
        await h.assert_quiet()


@pytest.mark.spec("D-47")
async def test_a_failure_at_the_bottom_reaches_the_top(url: str, clock: VirtualClock) -> None:
    tower = Tower({"fail": "rotten"})
    async with harness(tower.executors, url=url, clock=clock) as h:
        [task_id] = await h.run(Task(type="nest", queue_id="media", payload=DEPTH))
        await h.assert_failed(task_id, "rotten")
        with pytest.raises(TaskFailedError, match="rotten"):
            await h.handler.task(task_id).result()
        for _, told in tower.joined:
            assert [step["status"] for step in told["steps"]] == ["success", "fail"]
        assert len(tower.joined) == DEPTH
        await h.assert_quiet()


@pytest.mark.spec("BAR-06", "INV-05")
async def test_a_cancel_of_the_outermost_flow_reaches_the_bottom(url: str, clock: VirtualClock) -> None:
    tower = Tower({"sleep": 1e6})
    async with harness(tower.executors, url=url, clock=clock) as h:
        await h.handler.start()
        [task_id] = await h.add(Task(type="nest", queue_id="media", payload=DEPTH))
        await clock.sleep(20)
        assert await h.handler.flow(tower.levels[0]).cancel("enough")
        await clock.sleep(60)
        for flow in tower.levels:
            assert (await h.handler.flow(flow).status()).verdict == "cancelled"
        assert tower.cancelled == [f"{tower.levels[-1]}.1"]
        assert sorted(flow for flow, _ in tower.joined) == sorted(tower.levels), "each joins, once"
        assert all(told["cancelled"] for _, told in tower.joined)
        await h.assert_failed(task_id, "cancelled")
        await h.assert_quiet()


@pytest.mark.spec("BAR-06")
async def test_cancelling_the_task_that_waits_cancels_its_flow(url: str, clock: VirtualClock) -> None:
    tower = Tower({"sleep": 1e6})
    tower.join_says = "tidied up"
    async with harness(tower.executors, url=url, clock=clock) as h:
        await h.handler.start()
        [task_id] = await h.add(Task(type="nest", queue_id="media", payload=2))
        await clock.sleep(20)
        assert await h.handler.task(task_id).cancel()
        await clock.sleep(60)
        assert [(await h.handler.flow(flow).status()).verdict for flow in tower.levels] == ["cancelled"] * 2
        await h.assert_failed(task_id, "cancelled")
        assert not await h.handler.task(task_id).cancel(), "it has ended"
        await h.assert_quiet()


@pytest.mark.spec("BAR-06", "D-55")
async def test_a_task_that_waits_is_cancelled_by_its_name_though_its_join_saves_a_part(
    url: str, clock: VirtualClock
) -> None:
    stage = Stage()
    stage.join_says, stage.join_sleeps = "a part", 20.0

    @stage.executors.executor("parent", store_on_success=True)
    async def parent(task: Task[Any], actions: Actions) -> None:
        actions.success_when(actions.start_flow(steps({"sleep": 1e6}, 1), join=Join("join")))

    async with harness(stage.executors, url=url, clock=clock) as h:
        await h.handler.start()
        born = clock.now()
        [task_id, late] = await h.add(parent.task(None, entity=Entity("Item", "i-1")), parent.task(None))
        await clock.sleep(5)
        task = h.handler.task(task_id)
        assert await task.cancel()
        assert await task.cancel(), "it still is about to be"
        await clock.sleep(60)
        assert await task.status() is TaskStatus.CANCELLED
        with pytest.raises(TaskCancelledError):
            await task.result()
        row = await projection(h.handler, task_id)
        assert row is not None
        assert (row.status, row.result) == (TaskStatus.CANCELLED, None)
        assert not await task.cancel(), "it has ended"

        await h.handler.task(f"{flow_id(late, born, 0, '#0')}.0").cancel()
        await clock.sleep(15)  # by then it has heard of it
        assert not await h.handler.task(late).cancel(), "its flow is complete, the join is about to end it"
        assert await h.handler.task(late).result(timeout=60) == "a part"


@pytest.mark.spec("BAR-06")
async def test_a_redrive_after_a_cancel_runs_what_waited_for_a_flow_again(url: str, clock: VirtualClock) -> None:
    stage = Stage()

    @stage.executors.executor("nest", queue="media", store_on_success=True)
    async def nest(task: Task[Any], actions: Actions) -> None:
        work = {"sleep": 600.0, "result": "done"}
        actions.success_when(actions.start_flow(steps(work), join=Join("save")))

    @stage.executors.executor("save")
    async def save(task: Task[Any], actions: Actions) -> None:
        actions.success(task, [step.get("result") for step in task.payload["flow_results"]["steps"]])

    async with harness(stage.executors, url=url, clock=clock) as h:
        await h.handler.start()
        outer = await h.handler.start_flow([FlowStep("nest", queue="media"), *steps(1)], join=Join("join"))
        await clock.sleep(5)
        assert await h.handler.flow(outer).cancel()
        await clock.sleep(60)
        assert entries(stage.only) == [(0, "cancelled", None), (1, "success", 1)]
        assert await h.handler.flow(outer).redrive() == 1
        await clock.sleep(700)
        assert entries(stage.told[1]) == [(0, "success", ["done"]), (1, "success", 1)]
        await h.assert_quiet()


@pytest.mark.spec("D-46", "FLOW-24", "INV-05")
async def test_the_deadline_of_an_outer_flow_ends_the_inner_ones(url: str, clock: VirtualClock) -> None:
    tower = Tower({"sleep": 1e6, "result": 1})
    async with harness(tower.executors, url=url, clock=clock) as h:
        await h.handler.start()
        outer = await h.handler.start_flow(
            [FlowStep("nest", queue="media", payload=DEPTH), *steps(1)], join=Join("join"), timeout=600
        )
        await clock.sleep(599)
        assert not tower.joined
        assert not tower.told
        await clock.sleep(4)
        assert tower.only["timed_out"] is True
        for flow in tower.levels:
            status = await h.handler.flow(flow).status()
            assert (status.verdict, status.deadline) == (
                "timed_out",
                (await h.handler.flow(outer).status()).deadline,
            ), "who waits for a flow that has a deadline has it, too"
        await clock.sleep(60)
        assert len(tower.joined) == DEPTH
        assert all(told["timed_out"] for _, told in tower.joined)
        assert (await h.handler.queue("media").counts())["held"] == 0
        assert len(tower.told) == 1


async def test_an_inner_deadline_that_comes_earlier_stands(url: str, clock: VirtualClock) -> None:
    tower = Tower({"sleep": 1e6}, timeout=100)
    async with harness(tower.executors, url=url, clock=clock) as h:
        await h.handler.start()
        await h.handler.start_flow([FlowStep("nest", queue="media", payload=1)], join=Join("join"), timeout=600)
        await clock.sleep(103)
        assert entries(tower.only) == [(0, "fail", "open")]
        assert "timed_out" not in tower.only, "the outer flow is complete: its step has failed"


@pytest.mark.spec("F-08", "D-40", "INV-05")
async def test_a_tower_survives_a_worker_killed_on_each_level(url: str, clock: VirtualClock) -> None:
    tower = Tower({"sleep": 2.0, "result": 5})
    tower.lasts = 2.0
    backend = connect(url, clock=clock)
    producer = TaskHandler.on(backend, tower.executors, clock=clock)
    [task_id] = await producer.add_tasks([Task(type="nest", queue_id="media", payload=DEPTH)])
    deaths = 0
    while len(tower.joined) < DEPTH:
        worker = TaskHandler.on(backend, tower.executors, clock=clock)
        await worker.start()
        await clock.sleep(3.0)  # one level, and half of the next
        await worker.kill()
        await clock.sleep(31.0)
        deaths += 1
        assert deaths < 20
    assert deaths > DEPTH
    worker = TaskHandler.on(backend, tower.executors, clock=clock)
    await worker.start()
    assert await producer.task(task_id).result(timeout=600) == 5 + DEPTH
    assert len({flow for flow, _ in tower.joined}) == DEPTH
    for handler in (worker, producer):
        await handler.close()
    await backend.close()


@pytest.mark.spec("D-52", "INV-05")
@pytest.mark.parametrize("first", ["fails", "is put off"])
@pytest.mark.parametrize("how", ["success", "fail"])
@pytest.mark.parametrize("lasts", [0.0, 40.0], ids=["over", "open"])
async def test_who_waits_in_its_second_attempt_for_the_flow_of_its_first_ends_like_any_other(
    url: str, clock: VirtualClock, first: str, how: str, lasts: float
) -> None:
    """The join was made when nobody waited, and may have ended before anybody did."""
    stage = Stage()

    @stage.executors.executor("parent", queue="media", retries=1, backoff=Backoff(base=30, jitter=0))
    async def parent(task: Task[Any], actions: Actions) -> None:
        flow = actions.start_flow(steps({"sleep": lasts}), join=Join("inner"))
        if task.fence > 1:
            actions.success_when(flow)
        elif first == "fails":
            actions.fail(task, "not yet")
        else:
            actions.reschedule(30.0)

    @stage.executors.executor("inner", store_on_failure=False, result_ttl=3600.0)
    async def inner(task: Task[Any], actions: Actions) -> None:
        if how == "fail" and not stage.told:
            actions.fail(task, "cannot publish")
        else:
            actions.success(task, "joined")

    async with harness(stage.executors, url=url, clock=clock) as h:
        await h.handler.start()
        member = FlowStep("parent", queue="media", payload="p", entity=Entity("Item", "i-1"))
        outer = await h.handler.start_flow([member, *(steps(1) * 3)], join=Join("join"))
        await clock.sleep(50)
        row = await projection(h.handler, f"{outer}.0")
        assert row is not None
        if how == "success":
            assert entries(stage.only)[0] == (0, "success", "joined")
            assert (row.status, row.result) == (TaskStatus.EXECUTED, b'"joined"')
            return
        assert entries(stage.only)[0] == (0, "fail", "cannot publish")
        assert (row.status, row.error) == (TaskStatus.FAILED, "cannot publish")
        letters = {letter.task_id: letter.payload for letter in await h.handler.dead.list()}
        assert letters[f"{outer}.0"] == "p", "a dead letter, with its body"
        assert await h.handler.flow(outer).redrive() == 1
        await clock.sleep(100)
        assert entries(stage.told[1])[0] == (0, "success", "joined")
        assert (await h.handler.backend.store.stats())["outgoing"] == 0
        await h.assert_quiet()


async def test_one_waits_only_for_a_flow_of_ones_own(url: str, clock: VirtualClock) -> None:
    stage = Stage()

    @stage.executors.executor("parent", retries=0)
    async def parent(task: Task[Any], actions: Actions) -> None:
        with pytest.raises(InvalidInputError, match="start the flow"):
            actions.success_when("somebody-elses")
        actions.success(task)

    async with harness(stage.executors, url=url, clock=clock) as h:
        await h.run(parent.task(None))
        await h.assert_quiet()


@pytest.mark.spec("ENT-04", "ENT-05", "INV-07", "FLOW-26")
@pytest.mark.parametrize("how", ["success", "fail", "cancel"])
async def test_a_task_that_waits_has_the_rows_of_any_other(url: str, clock: VirtualClock, how: str) -> None:
    stage = Stage()
    if how == "fail":
        stage.join_says = ValueError("cannot publish")

    @stage.executors.executor("parent", store_on_success=True)
    async def parent(task: Task[Any], actions: Actions) -> None:
        actions.success_when(actions.start_flow(steps({"sleep": 10.0}), join=Join("join"), entity=Entity("Flow", "f")))

    async with harness(stage.executors, url=url, clock=clock) as h:
        await h.handler.start()
        born = clock.now()
        [task_id] = await h.add(parent.task(None, entity=Entity("Item", "i-1")))
        await clock.sleep(5)
        held = await projection(h.handler, task_id)
        assert held is not None
        assert held.status is TaskStatus.PROCESSING
        flow = flow_id(task_id, born, 0, "#0")
        if how == "cancel":
            stage.join_says = ValueError("cancelled")
            await h.handler.flow(flow).cancel()
        await clock.sleep(30)
        mine, its = await projection(h.handler, task_id), await projection(h.handler, flow)
        assert mine is not None
        assert its is not None
        if how == "success":
            assert (mine.status, mine.result) == (TaskStatus.EXECUTED, b'"joined"')
            assert its.status is TaskStatus.EXECUTED
        elif how == "fail":
            assert (mine.status, mine.error) == (TaskStatus.FAILED, "cannot publish")
            assert (its.status, its.error) == (TaskStatus.FAILED, "cannot publish")
        else:
            assert (mine.status, mine.error) == (TaskStatus.CANCELLED, "cancelled")
            assert (its.status, its.error) == (TaskStatus.CANCELLED, "flow_cancelled")


@pytest.mark.spec("INV-05")
async def test_steps_that_wait_end_with_many_others_in_the_same_instant(url: str, clock: VirtualClock) -> None:
    stage = Stage()

    @stage.executors.executor("nest", queue="media")
    async def nest(task: Task[Any], actions: Actions) -> None:
        await asyncio.sleep(1)
        actions.success_when(actions.start_flow(steps({"sleep": 1.0, "result": task.payload}), join=Join("pass")))

    @stage.executors.executor("pass")
    async def pass_on(task: Task[Any], actions: Actions) -> None:
        actions.success(task, task.payload["flow_results"]["steps"][0]["result"])

    async with harness(stage.executors, url=url, clock=clock) as h:
        members = [FlowStep("nest", queue="media", payload=number) for number in range(60)]
        await h.handler.start_flow(members, join=Join("join"))
        await h.drain()
        assert entries(stage.only) == [(number, "success", number) for number in range(60)]
        await h.assert_quiet()


async def test_a_result_may_be_waited_for_although_its_flow_was_cancelled(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        flow = await stage.start(h.handler, [{"sleep": 1e6}])
        await h.handler.start()
        await clock.sleep(5)
        await h.handler.flow(flow).cancel()
        with pytest.raises(TaskCancelledError):
            await h.handler.task(f"{flow}.0").result(timeout=60)
