"""Bodies that never wait share an asyncio task, one after the other: none of them may notice."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any

from tq import Actions, Task, TaskQueuesManager, TaskStatus
from tq.testing import VirtualClock
from tq.testing.harness import harness

colour: ContextVar[str] = ContextVar("colour", default="none")


async def test_what_a_body_sets_in_its_context_is_not_there_for_the_next(url: str, clock: VirtualClock) -> None:
    executors, found = TaskQueuesManager(), list[str]()

    @executors.executor("paint")
    async def paint(task: Task[str], actions: Actions) -> None:
        found.append(colour.get())
        colour.set(task.payload)
        actions.success(task)

    async with harness(executors, url=url, clock=clock) as h:
        await h.run(*[Task(type="paint", payload=name) for name in ("red", "green", "blue")])
    assert found == ["none", "none", "none"]


async def test_what_a_body_sets_is_there_for_itself_after_it_has_waited(url: str, clock: VirtualClock) -> None:
    executors, found = TaskQueuesManager(), list[tuple[str, str]]()

    @executors.executor("paint")
    async def paint(task: Task[str], actions: Actions) -> None:
        colour.set(task.payload)
        before = asyncio.current_task()
        await clock.sleep(1)
        found.append((task.payload, colour.get()))
        assert asyncio.current_task() is before
        actions.success(task)

    async with harness(executors, url=url, clock=clock) as h:
        await h.run(*[Task(type="paint", payload=name) for name in ("red", "green", "blue")])
    assert sorted(found) == [(name, name) for name in ("blue", "green", "red")]


async def test_a_body_that_cancels_its_own_asyncio_task_cancels_no_other(url: str, clock: VirtualClock) -> None:
    executors, ran = TaskQueuesManager(), list[int]()

    @executors.executor("work", store_on_success=True)
    async def work(task: Task[int], actions: Actions) -> None:
        if task.payload == 1 and (me := asyncio.current_task()) is not None:
            me.cancel()
        elif task.payload != 1:
            await asyncio.sleep(0)
            ran.append(task.payload)
        actions.success(task)

    async with harness(executors, url=url, clock=clock) as h:
        await h.run(*[Task(type="work", id=str(number), payload=number) for number in range(4)])
        for number in range(4):
            assert await h.handler.task(str(number)).status() is TaskStatus.EXECUTED
    assert sorted(ran) == [0, 2, 3]


async def test_an_asyncio_task_that_a_body_kept_and_cancels_later_is_nobody_elses(
    url: str, clock: VirtualClock
) -> None:
    executors, kept, ran = TaskQueuesManager(), list[asyncio.Task[Any]](), list[int]()

    @executors.executor("work")
    async def work(task: Task[int], actions: Actions) -> None:
        await clock.sleep(0)
        if (me := asyncio.current_task()) is not None:
            kept.append(me)
        await clock.sleep(task.payload)
        kept[0].cancel()  # has ended, but for the first one itself
        ran.append(task.payload)
        actions.success(task)

    async with harness(executors, url=url, clock=clock) as h:
        await h.run(*[Task(type="work", id=str(number), payload=number) for number in range(1, 4)])
    assert ran == [1, 2, 3]


async def test_who_never_waits_does_not_hold_back_who_does(url: str, clock: VirtualClock) -> None:
    executors, ended = TaskQueuesManager(), list[str]()

    @executors.executor("work")
    async def work(task: Task[float], actions: Actions) -> None:
        if task.payload:
            await clock.sleep(task.payload)
        ended.append(task.id)
        actions.success(task)

    async with harness(executors, url=url, clock=clock, concurrency=3) as h:
        began = clock.now()
        await h.run(*[Task(type="work", id=f"slow-{number}", payload=10.0) for number in range(2)])
        await h.run(*[Task(type="work", id=f"quick-{number}", payload=0.0) for number in range(500)])
        assert clock.now() - began == 10.0
    assert len(ended) == 502


async def test_a_limit_of_time_inside_a_body_ends_that_body_only(url: str, clock: VirtualClock) -> None:
    executors, late = TaskQueuesManager(), list[str]()

    @executors.executor("work")
    async def work(task: Task[float], actions: Actions) -> None:
        try:
            async with asyncio.timeout(5):
                if task.payload:
                    await asyncio.sleep(task.payload)
        except TimeoutError:
            late.append(task.id)
        actions.success(task)

    async with harness(executors, url=url, clock=clock) as h:
        delays = [0.0, 60.0, 0.0, 1.0, 60.0, 0.0]
        await h.run(*[Task(type="work", id=str(number), payload=delay) for number, delay in enumerate(delays)])
    assert sorted(late) == ["1", "4"]
