"""Slots that come free without a word, and tasks that end without a body: nobody waits for them in vain."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest

from tq import Actions, Task, TaskHandler, TaskQueuesManager, TaskStatus, connect
from tq.model import Message
from tq.testing import Probe, VirtualClock
from tq.testing.harness import harness


class Groups:
    """A multi executor: where one is registered, claims of all other kinds are capped."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    async def on_tasks(self, tasks: Sequence[Task[int]], actions: Actions) -> None:
        self.sizes.append(len(tasks))
        await asyncio.sleep(1e6)


def stubborn(executors: TaskQueuesManager, clock: VirtualClock, began: list[float]) -> None:
    """Register bodies that go on for seconds after they were told to end."""

    @executors.task("stubborn", timeout=1.0, cancel_grace=1.0)
    async def body(payload: int) -> None:
        began.append(clock.now())
        until = clock.now() + 3.5
        while clock.now() < until:
            try:
                await clock.sleep(until - clock.now())
            except asyncio.CancelledError:
                continue


async def test_a_slot_that_comes_free_long_after_its_task_was_settled_is_used(url: str, clock: VirtualClock) -> None:
    executors, began = TaskQueuesManager(), list[float]()
    executors.register("groups", Groups())
    stubborn(executors, clock, began)
    async with harness(executors, url=url, clock=clock, concurrency=1) as h:
        await h.handler.add_tasks([Task(type="stubborn", payload=number) for number in range(4)])
        await h.handler.start()
        await clock.sleep(300)
    assert len(began) == 4
    assert max(later - earlier for earlier, later in pairwise(began)) < 3.7, "at once, not when somebody looks anyway"


async def test_drain_waits_for_the_slots_that_what_is_due_needs(url: str, clock: VirtualClock) -> None:
    executors, began = TaskQueuesManager(), list[float]()
    stubborn(executors, clock, began)
    async with harness(executors, url=url, clock=clock, concurrency=1) as h:
        ids = await h.run(*[Task(type="stubborn", payload=number) for number in range(3)])
        assert [await h.handler.task(id).status() for id in ids] == [TaskStatus.FAILED] * 3
    assert len(began) == 3


async def test_members_that_ended_before_their_group_make_room_for_nobody(url: str, clock: VirtualClock) -> None:
    """A group holds one slot, whatever becomes of its members."""
    executors, groups = TaskQueuesManager(), Groups()
    executors.register("groups", groups, multiple=True, chunk_size=100)

    @executors.task("slow")
    async def slow(payload: int) -> None:
        await asyncio.sleep(1e6)

    async with harness(executors, url=url, clock=clock, concurrency=2) as h:
        backend = h.handler.backend
        [one] = await h.handler.add_tasks([Task(type="groups", payload=1)])
        good = (await backend.queue.locate([one]))[one]
        bad = b'{"v":1,"id":"x","type":"groups","queue":"default"}\n"no number"'
        await backend.queue.add([Message(f"bad-{n}", "default", "groups", bad, good.run_at) for n in range(99)])
        await h.handler.start()
        await clock.sleep(5)
        assert groups.sizes == [1]
        await h.handler.add_tasks([Task(type="slow", payload=number) for number in range(300)])
        await clock.sleep(5)
        assert (await h.handler.queue("default").counts())["running"] <= 4
        await h.handler.kill()


async def test_what_is_cancelled_in_line_ends_at_once(url: str, clock: VirtualClock) -> None:
    executors, ran = TaskQueuesManager(), list[int]()

    @executors.task("work", concurrency=1)
    async def work(payload: int) -> None:
        ran.append(payload)
        await clock.sleep(100)

    async with harness(executors, url=url, clock=clock) as h:
        ids = await h.handler.add_tasks([work.task(number) for number in range(3)])
        await h.handler.start()
        await clock.sleep(1)
        for id in ids[1:]:
            await h.handler.task(id).cancel()
        await clock.sleep(15)
        assert [await h.handler.task(id).status() for id in ids[1:]] == [TaskStatus.CANCELLED] * 2
    assert ran == [0]


async def test_a_suspect_that_was_marked_as_a_stop_came_does_not_begin(
    clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    executors, began = TaskQueuesManager(), list[int]()

    @executors.task("work")
    async def work(payload: int) -> None:
        began.append(payload)
        await asyncio.sleep(1e9)

    backend = connect("memory://", clock=clock)
    producer = TaskHandler.on(backend, executors, clock=clock)
    await producer.add_tasks([work.task(1)])
    for _ in range(2):
        worker = TaskHandler.on(backend, executors, clock=clock)
        await worker.start()
        await clock.sleep(40)
        await worker.kill()
    assert len(began) == 2
    last, commit = TaskHandler.on(backend, executors, clock=clock), backend.commit
    stops = list[asyncio.Task[None]]()

    async def slowly(batch: Any, claim: Any = None) -> Any:
        if batch.solo:
            stops.append(asyncio.create_task(last.stop()))
            await clock.sleep(0.2)
        return await commit(batch, claim)

    monkeypatch.setattr(backend, "commit", slowly)
    await last.start()
    await clock.sleep(60)
    await asyncio.gather(*stops)
    assert (len(stops), len(began)) == (1, 2)
    await backend.close()


async def test_who_is_told_of_nonsense_lets_the_worker_go_on(url: str, clock: VirtualClock, probe: Probe) -> None:
    executors, ran = TaskQueuesManager(), list[int]()

    @executors.task("work")
    async def work(payload: int) -> None:
        ran.append(payload)

    async with harness(executors, url=url, clock=clock, lifecycle=probe) as h:
        nonsense = b'{"v":1,"id":"x","type":"work","queue":"default","force_store":0}\n1'
        await h.handler.backend.queue.add([Message("x", "default", "work", nonsense, clock.now())])
        await h.run(work.task(2))
        await h.assert_failed("x", "force_store")
    assert ran == [2]
