"""Functions and classes, one at a time or side by side: how executors are called, and how they end."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from typing import Any

import pytest

from tq import Actions, Task, TaskQueuesManager, TaskStatus
from tq.clock import SystemClock
from tq.model.task import TaskOptions
from tq.testing import VirtualClock
from tq.testing.harness import harness

# --- how many at a time -----------------------------------------------------------------------------------------------


class Busy:
    """Notes when its bodies begin and end."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.order: list[str] = []
        self.running = 0
        self.most = 0

    async def on_task(self, task: Task[float], actions: Actions) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        self.order.append(f"begin {task.id}")
        await self.clock.sleep(task.payload)
        self.order.append(f"end {task.id}")
        self.running -= 1
        actions.success(task)


@pytest.mark.spec("EXE-03")
async def test_a_class_runs_one_task_at_a_time_in_order(url: str, clock: VirtualClock) -> None:
    executors, busy = TaskQueuesManager(), Busy(clock)
    executors.register("work", busy)
    async with harness(executors, url=url, clock=clock) as h:
        await h.run(*[Task(type="work", id=str(number), payload=3 - number) for number in range(3)])
    assert busy.order == ["begin 0", "end 0", "begin 1", "end 1", "begin 2", "end 2"]


@pytest.mark.spec("EXE-04")
async def test_a_parallel_class_runs_a_sliding_window_of_its_chunk_size(url: str, clock: VirtualClock) -> None:
    executors, busy = TaskQueuesManager(), Busy(clock)
    executors.register("work", busy, parallel=True, chunk_size=2)
    async with harness(executors, url=url, clock=clock) as h:
        began = clock.now()
        await h.run(*[Task(type="work", id=str(number), payload=delay) for number, delay in enumerate([9, 1, 1, 1])])
        assert busy.most == 2
        assert clock.now() - began == pytest.approx(9), "a slow task does not hold back its neighbours"
    assert busy.order.index("begin 3") < busy.order.index("end 0")


async def test_functions_run_up_to_the_handlers_concurrency(url: str, clock: VirtualClock) -> None:
    executors, running, most = TaskQueuesManager(), list[int](), list[int]()

    @executors.task("work")
    async def work(payload: int) -> None:
        running.append(payload)
        most.append(len(running))
        await clock.sleep(1)
        running.remove(payload)

    async with harness(executors, url=url, clock=clock, concurrency=5) as h:
        await h.run(*[work.task(number) for number in range(12)])
    assert max(most) == 5


async def test_a_waiting_line_does_not_hold_back_another_executor(url: str, clock: VirtualClock) -> None:
    executors, done = TaskQueuesManager(), list[str]()

    @executors.task("slow", concurrency=1)
    async def slow(payload: int) -> None:
        await clock.sleep(100)
        done.append("slow")

    @executors.task("quick")
    async def quick(payload: int) -> None:
        done.append("quick")

    async with harness(executors, url=url, clock=clock, concurrency=4) as h:
        await h.run(*[slow.task(number) for number in range(20)], quick.task(1))
    assert done[0] == "quick"
    assert done.count("slow") == 20


# --- endings ----------------------------------------------------------------------------------------------------------


@pytest.mark.spec("EXE-06", "D-05", "RET-12", "RES-10", "CON-02")
async def test_an_exception_stays_with_its_task(url: str, clock: VirtualClock) -> None:
    executors = TaskQueuesManager()

    @executors.executor("work", store_on_success=True)
    async def work(task: Task[int], actions: Actions) -> None:
        await clock.sleep(task.payload)
        if task.payload == 1:
            raise KeyError("only this one")
        actions.success(task, task.payload)

    async with harness(executors, url=url, clock=clock) as h:
        ids = await h.run(*[work.task(number) for number in range(3)], work.task(1, retries=1))
        await h.assert_succeeded(ids[0], 0)
        await h.assert_failed(ids[1], "only this one")
        await h.assert_succeeded(ids[2], 2)
        assert await h.handler.task(ids[3]).status() is TaskStatus.SCHEDULED, "retried, not lost"
        place = (await h.handler.backend.queue.locate([ids[3]]))[ids[3]]
        assert place.attempt == 1


@pytest.mark.spec("EXE-07", "EXE-14", "D-10", "ACT-02")
async def test_the_first_outcome_stands_whatever_follows(
    url: str, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    executors, told = TaskQueuesManager(), list[str]()

    @executors.executor("work", store_on_success=True, retries=3)
    async def work(task: Task[str], actions: Actions) -> None:
        told.append(actions.get_task_result_status(task))
        if task.payload == "success":
            actions.success(task, 1)
            actions.success(task, 2)
            actions.fail(task, "too late")
        else:
            actions.fail(task, "first")
            actions.success(task)
        told.append(actions.get_task_result_status(task))
        raise ValueError("too late as well")

    async with harness(executors, url=url, clock=clock) as h:
        good, bad = await h.run(work.task("success"), work.task("fail", retries=0))
        await h.assert_succeeded(good, 1)
        await h.assert_failed(bad, "first")
        assert "too late" not in str(await h.stats(bad))
        await h.assert_quiet()
    assert told == ["pending", "success", "pending", "fail"]
    assert caplog.text.count("has an outcome already") == 3


@pytest.mark.spec("EXE-09", "D-07", "D-09")
@pytest.mark.parametrize("adds", [False, True], ids=["silent", "only adding children"])
async def test_saying_nothing_is_a_failure_that_says_so_and_is_retried(
    url: str, clock: VirtualClock, *, adds: bool
) -> None:
    executors, attempts, children = TaskQueuesManager(), list[int](), list[int]()

    @executors.executor("work", retries=1)
    async def work(task: Task[Any], actions: Actions) -> None:
        attempts.append(task.attempt)
        if adds:
            actions.add_tasks([Task(type="child")])

    @executors.task("child")
    async def child(payload: None) -> None:
        children.append(1)

    async with harness(executors, url=url, clock=clock) as h:
        [task_id] = await h.run(Task(type="work"))
        await h.later(3)
        await h.assert_failed(task_id, "returned without an outcome: call actions.success")
    assert attempts == [0, 1]
    assert children == [], "an attempt without an outcome of its own brings nothing"


@pytest.mark.spec("D-06")
async def test_functions_of_every_kind_are_called(url: str) -> None:
    executors, ran = TaskQueuesManager(), list[str]()

    @executors.task("plain")
    def plain(payload: str) -> str:
        return f"plain {payload}"

    @executors.executor("plain actions")
    def plain_actions(task: Task[str], actions: Actions) -> None:
        actions.success(task, f"actions {task.payload}")

    async def two(prefix: str, payload: str) -> str:
        await asyncio.sleep(0)
        return prefix + payload

    class Callable:
        async def __call__(self, payload: str) -> str:
            return f"object {payload}"

    def handing_back(payload: str) -> Any:
        ran.append("called")
        return two("awaited ", payload)

    class PlainGroup:
        def on_tasks(self, tasks: Sequence[Task[str]], actions: Actions) -> None:
            for task in tasks:
                actions.success(task, f"group {task.payload}")

    executors.task("partial", result_ttl=60)(functools.partial(two, "partial "))
    executors.task("object")(Callable())
    executors.task("awaitable", result_ttl=60)(handing_back)
    executors.register("group", PlainGroup(), store_on_success=True)
    expected = {
        "plain": "plain x",
        "plain actions": "actions x",
        "partial": "partial x",
        "object": "object x",
        "awaitable": "awaited x",
        "group": "group x",
    }
    # Threads do their work outside virtual time.
    async with harness(executors, url=url) as h:
        for type, result in expected.items():
            [task_id] = await h.run(Task(type=type, payload="x"))
            assert await h.handler.task(task_id).result() == result if type != "plain actions" else True
    assert ran == ["called"]


@pytest.mark.spec("D-06")
async def test_an_executor_that_raises_before_it_waits_fails_its_task_only(url: str, clock: VirtualClock) -> None:
    executors = TaskQueuesManager()

    @executors.task("async")
    async def at_once(payload: None) -> None:
        raise ValueError("at once")

    @executors.task("plain")
    def plain(payload: None) -> None:
        raise ValueError("in its thread")

    @executors.task("fine", store_on_success=True)
    async def fine(payload: None) -> None: ...

    async with harness(executors, url=url, clock=clock) as h:
        first, second, third = await h.run(at_once.task(None), plain.task(None), fine.task(None))
        await h.assert_failed(first, "at once")
        await h.assert_failed(second, "in its thread")
        await h.assert_succeeded(third)


@pytest.mark.realtime
async def test_plain_functions_may_overlap_in_threads(url: str) -> None:
    executors, barrier = TaskQueuesManager(), asyncio.Event()
    loop = asyncio.get_running_loop()

    @executors.task("meet", store_on_success=True)
    def meet(payload: int) -> int:
        if payload == 0:
            asyncio.run_coroutine_threadsafe(barrier.wait(), loop).result(5)
        else:
            loop.call_soon_threadsafe(barrier.set)
        return payload

    async with harness(executors, url=url, clock=SystemClock()) as h:
        ids = await h.run(meet.task(0), meet.task(1))
        for number, task_id in enumerate(ids):
            await h.assert_succeeded(task_id, number)


async def test_a_function_of_nothing_is_called_and_added_without_a_payload(url: str, clock: VirtualClock) -> None:
    executors = TaskQueuesManager()

    @executors.task("nightly")
    def nightly() -> int:
        return 7

    assert nightly() == 7
    async with harness(executors, url=url, clock=clock) as h:
        [task_id] = await h.run(nightly.task(retries=2))
        await h.assert_succeeded(task_id, 7)


def test_the_options_of_a_task_are_fields_of_it() -> None:
    fields = set(Task.__dataclass_fields__)
    assert fields - set(TaskOptions.__annotations__) == {
        "type",
        "queue_id",
        "payload",
        "generation",
        "attempt",
        "fence",
    }
    assert set(TaskOptions.__annotations__) <= fields
