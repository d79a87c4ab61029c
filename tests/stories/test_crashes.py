"""A worker dies; what it held runs elsewhere, and nobody innocent is convicted (design 1.4)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tq import Actions, Task, TaskHandler, TaskQueuesManager, TaskStatus, connect
from tq.memory import MemoryBackend
from tq.testing import Faults, VirtualClock


@pytest.mark.spec("F-25", "F-31", "INV-02", "D-34", "D-36")
async def test_a_killed_workers_task_runs_elsewhere_within_the_lease(url: str, clock: VirtualClock) -> None:
    executors, began = TaskQueuesManager(), list[tuple[float, int, str]]()

    @executors.executor("work", store_on_success=True)
    async def work(task: Task[Any], actions: Actions) -> None:
        began.append((clock.now(), task.fence, task.idempotency_key))
        if len(began) == 1:
            await asyncio.sleep(1e9)
        actions.success(task)

    backend = connect(url, clock=clock)
    first, second = TaskHandler.on(backend, executors, clock=clock), TaskHandler.on(backend, executors, clock=clock)
    [task_id] = await first.add_tasks([Task(type="work")])
    await first.start()
    await clock.sleep(100)  # far longer than the lease: it is renewed while the task runs
    assert len(began) == 1
    died = clock.now()
    await first.kill()
    await second.start()
    await clock.sleep(31)
    assert [fence for _, fence, _ in began] == [1, 2]
    assert began[1][0] - died <= 30
    assert began[0][2] == began[1][2], "the idempotency key does not change with the attempt"
    assert await second.task(task_id).status() is TaskStatus.EXECUTED
    await second.close()
    await backend.close()


@pytest.mark.spec("F-30")
async def test_a_poison_task_is_convicted_alone_and_its_neighbours_live(url: str, clock: VirtualClock) -> None:
    executors, dying = TaskQueuesManager(), asyncio.Event()
    ended: list[str] = []

    @executors.task("poison", queue="q")
    async def poison(payload: None) -> None:
        dying.set()
        await asyncio.sleep(1e9)

    @executors.task("innocent", queue="q", store_on_success=True)
    async def innocent(payload: int) -> None:
        await asyncio.sleep(40)
        ended.append(str(payload))

    backend = connect(url, clock=clock)
    producer = TaskHandler.on(backend, executors, clock=clock)
    [poison_id] = await producer.add_tasks([poison.task(None)])
    await producer.add_tasks([innocent.task(number) for number in range(3)])
    deaths = 0
    while True:
        dying.clear()
        worker = TaskHandler.on(backend, executors, clock=clock)
        await worker.start()
        if await producer.task(poison_id).status() is TaskStatus.FAILED:
            break
        try:
            async with clock.timeout(300):
                await dying.wait()
        except TimeoutError:
            break
        await clock.sleep(1)
        await worker.kill()
        deaths += 1
        assert deaths < 9, "nobody convicts it"
    record = await producer.task(poison_id).record()
    assert record is not None
    assert "alone" in (record.error or "")
    await clock.sleep(200)
    assert sorted(ended) == ["0", "1", "2"]
    assert deaths == 5, "two crashes in company, then three alone"
    await worker.close()
    await backend.close()


@pytest.mark.spec("F-30")
async def test_whoever_runs_beside_handed_over_bodies_is_not_convicted_for_them(url: str, clock: VirtualClock) -> None:
    executors, began = TaskQueuesManager(), asyncio.Event()

    @executors.task("killer", handoff_timeout=1.0, max_crashes=0)
    async def killer(payload: int) -> None:
        await asyncio.sleep(1e9)

    @executors.task("innocent", store_on_success=True)
    async def innocent(payload: None) -> None:
        began.set()
        await asyncio.sleep(40)

    backend = connect(url, clock=clock)
    producer = TaskHandler.on(backend, executors, clock=clock)
    [task_id] = await producer.add_tasks([innocent.task(None)])
    for death in range(8):
        await producer.add_tasks([killer.task(death)])
        began.clear()
        worker = TaskHandler.on(backend, executors, clock=clock)
        await worker.start()
        await began.wait()
        await clock.sleep(2)  # the killer is in the manager's care by now
        await worker.kill()
    async with TaskHandler.on(backend, executors, clock=clock) as last:
        await last.start()
        await clock.sleep(100)
        assert await last.task(task_id).status() is TaskStatus.EXECUTED
    await backend.close()


@pytest.mark.spec("F-30", "D-36")
async def test_a_suspect_that_has_ended_is_not_convicted_for_the_next_one(clock: VirtualClock) -> None:
    """Its ending takes a moment to be written; nobody may begin, and bring down the worker, under its lease."""
    executors, dying = TaskQueuesManager(), asyncio.Event()

    @executors.task("innocent", handoff_timeout=1.0, store_on_success=True)
    async def innocent(payload: None) -> None:
        await asyncio.sleep(3)

    @executors.task("poison")
    async def poison(payload: None) -> None:
        dying.set()
        await asyncio.sleep(1e9)

    server = MemoryBackend(clock=clock)
    producer = TaskHandler.on(server, executors, clock=clock)
    ids = await producer.add_tasks([innocent.task(None), poison.task(None)])
    deaths = 0
    while await producer.task(ids[1]).status() is not TaskStatus.FAILED:
        dying.clear()
        slow = Faults(clock=clock, latency=lambda: 0.05).backend(server)
        worker = TaskHandler.on(slow, executors, clock=clock)
        await worker.start()
        async with clock.timeout(100):
            while not dying.is_set() and await producer.task(ids[1]).status() is not TaskStatus.FAILED:
                await clock.sleep(0.01)
        await worker.kill()
        deaths += dying.is_set()
        assert deaths < 9, "nobody convicts it"

    assert deaths == 5, "two crashes in company, then three alone"
    assert await producer.task(ids[0]).status() is TaskStatus.EXECUTED


async def test_at_most_once_is_a_crash_limit_of_zero(url: str, clock: VirtualClock) -> None:
    executors, runs = TaskQueuesManager(), list[int]()

    @executors.task("once", max_crashes=0)
    async def once(payload: None) -> None:
        runs.append(1)
        await asyncio.sleep(1e9)

    backend = connect(url, clock=clock)
    first, second = TaskHandler.on(backend, executors, clock=clock), TaskHandler.on(backend, executors, clock=clock)
    [task_id] = await first.add_tasks([once.task(None)])
    await first.start()
    await clock.sleep(1)
    await first.kill()
    await second.start()
    await clock.sleep(40)
    assert runs == [1]
    assert await second.task(task_id).status() is TaskStatus.FAILED
    await second.close()
    await backend.close()


@pytest.mark.spec("F-33", "D-01")
async def test_a_stop_gives_back_what_it_did_not_start_and_counts_nothing(url: str, clock: VirtualClock) -> None:
    executors, seen = TaskQueuesManager(), list[tuple[int, int]]()

    @executors.executor("work", concurrency=1, store_on_success=True)
    async def work(task: Task[Any], actions: Actions) -> None:
        seen.append((task.payload, task.attempt))
        await asyncio.sleep(5)
        actions.success(task)

    backend = connect(url, clock=clock)
    first, second = TaskHandler.on(backend, executors, clock=clock), TaskHandler.on(backend, executors, clock=clock)
    ids = await first.add_tasks([Task(type="work", payload=number) for number in range(5)])
    await first.start()
    await clock.sleep(1)
    await first.stop()
    assert [payload for payload, _ in seen] == [0], "what ran was waited for, the rest was not started"
    left = await backend.queue.locate(ids)
    assert [place.crashes for place in left.values()] == [0] * 4
    await second.start()
    await clock.sleep(60)
    assert [payload for payload, _ in seen] == [0, 1, 2, 3, 4]
    assert {attempt for _, attempt in seen} == {0}
    await second.close()
    await backend.close()


@pytest.mark.spec("F-33")
async def test_a_stop_whose_grace_is_over_releases_what_runs(url: str, clock: VirtualClock) -> None:
    executors, began = TaskQueuesManager(), list[float]()

    @executors.task("work", store_on_success=True)
    async def work(payload: None) -> None:
        began.append(clock.now())
        await asyncio.sleep(1e9 if len(began) == 1 else 1)

    backend = connect(url, clock=clock)
    first, second = (
        TaskHandler.on(backend, executors, clock=clock, grace_period=10),
        TaskHandler.on(backend, executors, clock=clock),
    )
    [task_id] = await first.add_tasks([work.task(None)])
    await first.start()
    await clock.sleep(1)
    stopped = clock.now()
    await first.stop()
    assert clock.now() - stopped == pytest.approx(10, abs=0.5)
    await second.start()
    await clock.sleep(2)
    assert len(began) == 2
    assert began[1] - stopped < 12, "released at once, not after the lease"
    assert await second.task(task_id).status() is TaskStatus.EXECUTED
    await second.close()
    await backend.close()


async def test_in_a_killed_worker_nothing_begins_any_more(url: str, clock: VirtualClock) -> None:
    executors, began = TaskQueuesManager(), list[int]()

    @executors.task("work", concurrency=1)
    async def work(payload: int) -> None:
        began.append(payload)
        await asyncio.sleep(1e9)

    backend = connect(url, clock=clock)
    worker = TaskHandler.on(backend, executors, clock=clock)
    await worker.add_tasks([work.task(number) for number in range(3)])
    await worker.start()
    await clock.sleep(1)
    await worker.kill()
    await clock.sleep(1)
    assert began == [0], "a body that is cancelled makes room for nobody"
    await backend.close()
