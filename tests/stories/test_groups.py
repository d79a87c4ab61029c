"""Multi executors: given whole groups, and answering for each of their tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import BaseModel

from tq import Actions, Task, TaskQueuesManager
from tq.testing import VirtualClock
from tq.testing.harness import harness


class Item(BaseModel):
    number: int


class Group:
    """A multi executor that notes what it was given; `decide` speaks for its tasks."""

    def __init__(self, decide: Any = None) -> None:
        self.groups: list[list[str]] = []
        self.decide = decide

    async def on_tasks(self, tasks: Sequence[Task[Any]], actions: Actions) -> None:
        self.groups.append([task.id for task in tasks])
        if self.decide is not None:
            self.decide(tasks, actions)
        else:
            for task in tasks:
                actions.success(task, f"{task.queue_id}/{task.payload}")


@pytest.mark.spec("EXE-05", "EXE-02")
async def test_a_multi_executor_is_given_whole_groups(url: str, clock: VirtualClock) -> None:
    executors, group = TaskQueuesManager(), Group()
    executors.register("work", group, chunk_size=3, store_on_success=True)
    async with harness(executors, url=url, clock=clock) as h:
        ids = await h.run(*[Task(type="work", id=f"{number}", payload=number) for number in range(7)])
        for number, task_id in enumerate(ids):
            await h.assert_succeeded(task_id, f"default/{number}")
    assert group.groups == [["0", "1", "2"], ["3", "4", "5"], ["6"]]


@pytest.mark.spec("EXE-05")
async def test_a_group_may_be_larger_than_the_handlers_concurrency_and_takes_one_slot(
    url: str, clock: VirtualClock
) -> None:
    executors, group, quick = TaskQueuesManager(), list[int](), list[float]()

    class Slow:
        async def on_tasks(self, tasks: Sequence[Task[None]], actions: Actions) -> None:
            group.append(len(tasks))
            await clock.sleep(100)
            for task in tasks:
                actions.success(task)

    executors.register("slow", Slow(), chunk_size=50)

    @executors.task("quick")
    async def at_once(payload: None) -> None:
        quick.append(clock.now())
        await clock.sleep(1)

    async with harness(executors, url=url, clock=clock, concurrency=10) as h:
        await h.add(*[Task(type="slow") for _ in range(120)])
        await h.handler.start()
        await clock.sleep(1)
        added = clock.now()
        await h.add(*[at_once.task(None) for _ in range(30)])
        await clock.sleep(50)
        assert len(quick) == 30
        assert max(quick) - added < 10, "the neighbours of a group have the other slots"
        await clock.sleep(300)
    assert group == [50, 50, 20]


@pytest.mark.spec("D-84", "EXE-02")
async def test_groups_form_by_queue_and_type(url: str, clock: VirtualClock) -> None:
    executors, here, there, other = TaskQueuesManager(), Group(), Group(), Group()
    executors.register("work", here, store_on_success=True)
    executors.register("work", there, queue="q", store_on_success=True)
    executors.register("other", other, store_on_success=True)
    async with harness(executors, url=url, clock=clock) as h:
        await h.run(
            Task(type="work", id="a", payload=1),
            Task(type="work", id="b", queue_id="q", payload=2),
            Task(type="other", id="c", payload=3),
            Task(type="work", id="d", payload=4),
        )
        for task_id, result in {"a": "default/1", "b": "q/2", "c": "default/3", "d": "default/4"}.items():
            await h.assert_succeeded(task_id, result)
    assert (here.groups, there.groups, other.groups) == ([["a", "d"]], [["b"]], [["c"]])


@pytest.mark.spec("D-08", "EXE-09", "D-11")
async def test_of_a_group_each_task_without_an_outcome_has_failed(url: str, clock: VirtualClock) -> None:
    def decide(tasks: Sequence[Task[Any]], actions: Actions) -> None:
        actions.success(tasks[0])
        actions.fork_for_task(tasks[1]).fail(tasks[1], "said so")

    executors = TaskQueuesManager()
    executors.register("work", Group(decide), store_on_success=True)
    async with harness(executors, url=url, clock=clock) as h:
        first, second, third = await h.run(*[Task(type="work", payload=number) for number in range(3)])
        await h.assert_succeeded(first)
        await h.assert_failed(second, "said so")
        await h.assert_failed(third, "returned without an outcome")
        await h.assert_quiet()


@pytest.mark.spec("EXE-06", "EXE-07", "EXE-14")
async def test_an_exception_of_a_group_fails_only_what_has_no_outcome(url: str, clock: VirtualClock) -> None:
    def decide(tasks: Sequence[Task[Any]], actions: Actions) -> None:
        actions.success(tasks[0])
        actions.fail(tasks[1], "its own error")
        raise ValueError("the group's error")

    executors = TaskQueuesManager()
    executors.register("work", Group(decide), store_on_success=True)
    async with harness(executors, url=url, clock=clock) as h:
        first, second, third = await h.run(*[Task(type="work", payload=number) for number in range(3)])
        await h.assert_succeeded(first)
        await h.assert_failed(second, "its own error")
        await h.assert_failed(third, "the group's error")


@pytest.mark.spec("RET-12", "D-08")
async def test_a_failed_task_of_a_group_is_retried_by_itself(url: str, clock: VirtualClock) -> None:
    def decide(tasks: Sequence[Task[Any]], actions: Actions) -> None:
        for task in tasks:
            if task.payload == 1 and task.attempt == 0:
                actions.fail(task)
            else:
                actions.success(task)

    executors, group = TaskQueuesManager(), Group(decide)
    executors.register("work", group, retries=1, store_on_success=True)
    async with harness(executors, url=url, clock=clock) as h:
        await h.run(*[Task(type="work", id=str(number), payload=number) for number in range(3)])
        await h.later(3)
        await h.assert_succeeded("1")
    assert group.groups == [["0", "1", "2"], ["1"]]


async def test_a_payload_that_does_not_fit_leaves_the_rest_of_its_group_alone(url: str, clock: VirtualClock) -> None:
    executors, producers, seen = TaskQueuesManager(), TaskQueuesManager(), list[int]()
    producers.queue("default")

    class Typed:
        async def on_tasks(self, tasks: Sequence[Task[Item]], actions: Actions) -> None:
            for task in tasks:
                seen.append(task.payload.number)
                actions.success(task)

    executors.register("work", Typed(), store_on_success=True)
    async with harness(executors, url=url, clock=clock) as h:
        h.handler._intake._executors = producers  # somebody who does not know the type has added them
        good, bad, fine = await h.add(*[Task(type="work", payload={"number": n}) for n in (1, "many", 3)])
        await h.drain()
        await h.assert_succeeded(good)
        await h.assert_failed(bad, "payload.number")
        await h.assert_succeeded(fine)
    assert seen == [1, 3]


@pytest.mark.spec("EXE-11", "D-01")
async def test_a_stop_between_groups_starts_no_further_one(url: str, clock: VirtualClock) -> None:
    executors, began = TaskQueuesManager(), list[list[str]]()

    class Slow:
        async def on_tasks(self, tasks: Sequence[Task[int]], actions: Actions) -> None:
            began.append([task.id for task in tasks])
            await clock.sleep(10)
            for task in tasks:
                actions.success(task)

    for type in ("first", "second"):
        executors.register(type, Slow(), chunk_size=2, store_on_success=True)
    async with harness(executors, url=url, clock=clock, concurrency=1) as h:
        ids = [f"{type}-{number}" for type in ("first", "second") for number in range(3)]
        await h.add(*[Task(type=id.partition("-")[0], id=id, payload=0) for id in ids])
        await h.handler.start()
        await clock.sleep(5)
        assert (await h.handler.queue("default").counts())["running"] > 2, "the second group waits here for its slot"
        await h.handler.stop()
        assert began == [["first-0", "first-1"]]
        for task_id in ids[:2]:
            await h.assert_succeeded(task_id)
        left = await h.handler.backend.queue.locate(ids)
        assert set(left) == set(ids[2:])
        assert {(place.attempt, place.crashes, place.state) for place in left.values()} == {(0, 0, "waiting")}
