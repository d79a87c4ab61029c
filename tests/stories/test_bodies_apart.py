"""Bodies are started many at a time, each in an asyncio task of its own: none of them finds anything of another."""

from __future__ import annotations

import asyncio
import sys
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import pytest

from tq import Actions, Task, TaskQueuesManager, TaskStatus
from tq.testing import VirtualClock
from tq.testing.harness import harness


@dataclass
class User:
    """Equal to another by its key, as rows of many libraries are."""

    key: int
    admin: bool = field(default=False, compare=False)


class Unequal:
    """Cannot be compared, as arrays cannot."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("the truth value of this is ambiguous")

    __hash__ = object.__hash__


colour: ContextVar[Any] = ContextVar("colour")


@pytest.mark.parametrize("value", ["red", User(1, admin=True), Unequal()], ids=["text", "equal", "unequal"])
async def test_what_a_body_sets_in_its_context_is_not_there_for_another(
    url: str, clock: VirtualClock, value: object
) -> None:
    executors, outer, found = TaskQueuesManager(), User(1), list[Any]()
    if isinstance(value, Unequal):
        outer = Unequal()  # type: ignore[assignment]
    colour.set(outer)

    @executors.executor("paint")
    async def paint(task: Task[int], actions: Actions) -> None:
        found.append(colour.get())
        colour.set(value)
        actions.success(task)

    async with harness(executors, url=url, clock=clock) as h:
        await h.run(*[Task(type="paint", payload=number) for number in range(5)])
    assert len(found) == 5
    assert all(it is outer for it in found)


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


async def test_every_body_has_an_asyncio_task_of_its_own(url: str, clock: VirtualClock) -> None:
    """Sessions, spans and cancel scopes are kept by `current_task()`."""
    executors, seen, ended = TaskQueuesManager(), list[asyncio.Task[Any]](), list[str]()

    @executors.executor("work")
    async def work(task: Task[int], actions: Actions) -> None:
        me = asyncio.current_task()
        assert me is not None
        assert me.get_name() == "tq"
        me.set_name(task.id)
        me.add_done_callback(lambda it: ended.append(it.get_name()))
        seen.append(me)
        actions.success(task)

    async with harness(executors, url=url, clock=clock) as h:
        ids = await h.run(*[Task(type="work", payload=number) for number in range(5)])
        await clock.sleep(0)
    assert len({id(one) for one in seen}) == 5
    assert sorted(ended) == sorted(ids)


@pytest.mark.parametrize("forgotten", [False, True])
async def test_a_body_that_cancels_its_own_asyncio_task_cancels_no_other(
    url: str, clock: VirtualClock, *, forgotten: bool
) -> None:
    executors, ran = TaskQueuesManager(), list[int]()

    @executors.executor("work", store_on_success=True)
    async def work(task: Task[int], actions: Actions) -> None:
        if task.payload == 1 and (me := asyncio.current_task()) is not None:
            me.cancel()
            if forgotten:
                me.uncancel()
        elif task.payload != 1:
            await asyncio.sleep(0)
            ran.append(task.payload)
        actions.success(task)

    async with harness(executors, url=url, clock=clock) as h:
        await h.run(*[Task(type="work", id=str(number), payload=number) for number in range(4)])
        for number in range(4):
            assert await h.handler.task(str(number)).status() is TaskStatus.EXECUTED
    assert sorted(ran) == [0, 2, 3]


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


# --- turns of the event loop ------------------------------------------------------------------------------------------


COUNT = 90


class Turns:
    """Counts the turns of the event loop, until it is over."""

    def __init__(self) -> None:
        self.count = 0
        self.over = False
        self._next()

    def _next(self) -> None:
        self.count += 1
        if not self.over:
            asyncio.get_running_loop().call_soon(self._next)


async def test_bodies_that_wait_are_started_in_one_turn_of_the_event_loop(clock: VirtualClock) -> None:
    executors, began = TaskQueuesManager(), list[int]()

    @executors.executor("work")
    async def work(task: Task[int], actions: Actions) -> None:
        began.append(turns.count)
        turns.over = len(began) == COUNT
        await asyncio.sleep(1)
        actions.success(task)

    async with harness(executors, clock=clock, concurrency=100) as h:
        await h.handler.add_tasks([Task(type="work", payload=number) for number in range(COUNT)])
        turns = Turns()
        await h.run()
    assert max(began) - min(began) <= 1


class Heavy(VirtualClock):
    """A clock under bodies that compute: each takes 4 ms of it."""

    spent = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.spent


async def test_bodies_that_compute_leave_the_event_loop_its_turn() -> None:
    clock, executors, began = Heavy(), TaskQueuesManager(), list[int]()

    @executors.executor("work")
    async def work(task: Task[int], actions: Actions) -> None:
        began.append(turns.count)
        turns.over = len(began) == COUNT
        clock.spent += 0.004
        actions.success(task)

    async with harness(executors, clock=clock, concurrency=100) as h:
        await h.handler.add_tasks([Task(type="work", payload=number) for number in range(COUNT)])
        turns = Turns()
        await h.run()
    assert all(began.count(turn) <= 4 for turn in began)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="before Python 3.12 no task begins at once by itself")
async def test_a_loop_whose_tasks_begin_at_once_runs_them_all(url: str, clock: VirtualClock) -> None:
    executors, ran = TaskQueuesManager(), list[int]()

    @executors.executor("work")
    async def work(task: Task[int], actions: Actions) -> None:
        ran.append(task.payload)
        actions.success(task)

    asyncio.get_running_loop().set_task_factory(getattr(asyncio, "eager_task_factory"))  # noqa: B009 -- 3.11 has none
    async with harness(executors, url=url, clock=clock, concurrency=1000) as h:
        await h.run(*[Task(type="work", payload=number) for number in range(3000)])
    assert sorted(ran) == list(range(3000))
