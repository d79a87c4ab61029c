"""A slow kind of task takes its own slots, never everybody's."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tq import Actions, Task, TaskHandler, TaskQueuesManager, connect
from tq.testing import VirtualClock
from tq.testing.harness import harness


async def test_a_flood_of_slow_tasks_of_one_kind_keeps_no_slot_from_the_others(url: str, clock: VirtualClock) -> None:
    executors, ended = TaskQueuesManager(), dict[str, float]()

    @executors.task("slow", concurrency=1)
    async def slow(payload: int) -> None:
        await asyncio.sleep(10)

    @executors.task("fast")
    async def fast(payload: int) -> None:
        ended[f"fast-{payload}"] = clock.now()

    async with harness(executors, url=url, clock=clock, concurrency=10) as h:
        await h.add(*[slow.task(number) for number in range(500)])
        await h.handler.start()
        await clock.sleep(1)
        began = clock.now()
        await h.add(*[fast.task(number) for number in range(100)])
        await clock.sleep(2)
        assert len(ended) == 100
        assert max(ended.values()) - began < 1
        counts = await h.handler.queue("default").counts()
        assert counts["running"] <= 3, "what it cannot run is left for others"


async def test_two_workers_share_a_kind_that_each_runs_one_at_a_time(url: str, clock: VirtualClock) -> None:
    executors, ended = TaskQueuesManager(), list[int]()

    @executors.task("slow", concurrency=1)
    async def slow(payload: int) -> None:
        await asyncio.sleep(10)
        ended.append(payload)

    backend = connect(url, clock=clock)
    workers = [TaskHandler.on(backend, executors, clock=clock) for _ in range(2)]
    await workers[0].add_tasks([slow.task(number) for number in range(20)])
    for worker in workers:
        await worker.start()
    await clock.sleep(112)
    assert sorted(ended) == list(range(20)), "100 s of work for two, with a little for the way"
    for worker in workers:
        await worker.close()
    await backend.close()


async def test_quick_tasks_of_a_limited_kind_run_back_to_back(url: str, clock: VirtualClock) -> None:
    executors, running, most = TaskQueuesManager(), list[int](), list[int]()

    @executors.task("quick", concurrency=2)
    async def quick(payload: int) -> None:
        running.append(payload)
        most.append(len(running))
        await asyncio.sleep(0.001)
        running.remove(payload)

    async with harness(executors, url=url, clock=clock) as h:
        began = clock.now()
        await h.run(*[quick.task(number) for number in range(1000)])
        assert len(most) == 1000
        assert max(most) == 2
        assert clock.now() - began < 5


async def test_a_worker_holds_no_more_of_a_multi_executors_tasks_than_its_groups_take(
    url: str, clock: VirtualClock
) -> None:
    executors, groups = TaskQueuesManager(), list[list[int]]()

    class Slow:
        multiple, chunk_size, concurrency = True, 5, 2

        async def on_tasks(self, tasks: Sequence[Task[int]], actions: Actions) -> None:
            groups.append([task.payload for task in tasks])
            await asyncio.sleep(10)
            for task in tasks:
                actions.success(task)

    executors.register("slow", Slow())
    async with harness(executors, url=url, clock=clock) as h:
        await h.add(*[Task(type="slow", payload=number) for number in range(30)])
        await h.handler.start()
        await clock.sleep(5)
        counts = await h.handler.queue("default").counts()
        assert (counts["running"], counts["waiting"]) == (10, 20), "what it cannot run is left for others"
        await clock.sleep(30)
        assert sorted(groups) == [list(range(number, number + 5)) for number in range(0, 30, 5)]
