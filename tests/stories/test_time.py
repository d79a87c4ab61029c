"""Timeouts, long runs, cancels and expiry: whatever takes its time, ends in time."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any

import pytest

from tq import Actions, AsyncTaskManager, Backoff, Task, TaskHandler, TaskQueuesManager, TaskStatus, connect
from tq.clock import SystemClock, to_datetime
from tq.errors import ActionsRevokedError
from tq.testing import VirtualClock
from tq.testing.harness import harness


async def test_a_timeout_cancels_the_body_and_fails_the_attempt(url: str, clock: VirtualClock) -> None:
    executors, told = TaskQueuesManager(), list[str]()

    @executors.task("slow", timeout=5)
    async def slow(payload: None) -> None:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            told.append("cancelled")
            raise

    async with harness(executors, url=url, clock=clock) as h:
        began = clock.now()
        [task_id] = await h.run(slow.task(None))
        assert told == ["cancelled"]
        assert clock.now() - began == pytest.approx(5)
        await h.assert_failed(task_id, "timeout of 5 s")


async def test_a_body_that_swallows_its_cancel_is_settled_without_it_and_keeps_its_slot(
    url: str, clock: VirtualClock
) -> None:
    executors, calls = TaskQueuesManager(), list[str]()

    @executors.executor("stubborn", timeout=5, cancel_grace=10, concurrency=1, store_on_success=True)
    async def stubborn(task: Task[Any], actions: Actions) -> None:
        calls.append(task.payload)
        if task.payload == "first":
            deadline = clock.now() + 60
            while clock.now() < deadline:
                try:
                    await asyncio.sleep(deadline - clock.now())
                except asyncio.CancelledError:
                    continue
            try:
                actions.success(task)
            except ActionsRevokedError:
                calls.append("revoked")
        else:
            actions.success(task)

    async with harness(executors, url=url, clock=clock) as h:
        first, second = await h.add(stubborn.task("first"), stubborn.task("second"))
        await h.handler.start()
        await clock.sleep(16)
        await h.assert_failed(first, "timeout")
        assert calls == ["first"], "the slot is taken until the body has ended"
        await clock.sleep(60)
        assert calls == ["first", "revoked", "second"]
        await h.assert_succeeded(second)


async def test_a_long_task_frees_its_slot_and_ends_in_the_managers_care(url: str, clock: VirtualClock) -> None:
    executors, order = TaskQueuesManager(), list[str]()

    @executors.executor("work", concurrency=1, handoff_timeout=2, store_on_success=True)
    async def work(task: Task[Any], actions: Actions) -> None:
        await asyncio.sleep(task.payload)
        order.append(str(task.payload))
        actions.success(task, task.payload)

    manager = AsyncTaskManager(clock=clock)
    async with harness(executors, url=url, clock=clock, async_tasks=manager) as h:
        long, short = await h.add(work.task(100), work.task(1))
        await h.handler.start()
        await clock.sleep(5)
        assert order == ["1"]
        assert manager.is_handed_off(long)
        await h.assert_succeeded(short)
        await clock.sleep(100)
        assert order == ["1", "100"]
        await h.assert_succeeded(long)
        assert manager.get_metrics().total_completed == 1


async def test_a_killed_workers_long_task_runs_elsewhere_after_the_lease(url: str, clock: VirtualClock) -> None:
    executors, began = TaskQueuesManager(), list[float]()

    @executors.executor("work", handoff_timeout=2, store_on_success=True)
    async def work(task: Task[Any], actions: Actions) -> None:
        began.append(clock.now())
        await asyncio.sleep(100 if len(began) == 1 else 1)
        actions.success(task)

    backend = connect(url, clock=clock)
    first = TaskHandler.on(backend, executors, clock=clock)
    second = TaskHandler.on(backend, executors, clock=clock)
    [task_id] = await first.add_tasks([Task(type="work")])
    await first.start()
    await clock.sleep(50)
    await first.kill()
    await second.start()
    await clock.sleep(35)
    assert len(began) == 2
    assert await second.task(task_id).status() is TaskStatus.EXECUTED
    await second.close()
    await backend.close()


@pytest.mark.spec("D-22", "ATM-05")
async def test_a_hung_long_task_is_swept_and_fails_by_the_retry_rules(url: str, clock: VirtualClock) -> None:
    executors, began = TaskQueuesManager(), list[int]()

    @executors.executor("hang", handoff_timeout=2, max_duration=60, retries=1, backoff=Backoff(jitter=0))
    async def hang(task: Task[Any], actions: Actions) -> None:
        began.append(task.attempt)
        await asyncio.sleep(1e9)

    async with harness(executors, url=url, clock=clock, async_tasks=AsyncTaskManager(clock=clock)) as h:
        [task_id] = await h.add(hang.task(None))
        await h.handler.start()
        await clock.sleep(300)
        assert began == [0, 1]
        await h.assert_failed(task_id, "max_duration")


async def test_a_waiting_task_is_cancelled_unrun_and_a_running_one_is_stopped(url: str, clock: VirtualClock) -> None:
    executors, began = TaskQueuesManager(), list[str]()

    @executors.task("work", concurrency=1)
    async def work(payload: str) -> None:
        began.append(payload)
        await asyncio.sleep(1000)

    async with harness(executors, url=url, clock=clock) as h:
        running, waiting = await h.add(work.task("a"), work.task("b", execute_at=to_datetime(clock.now() + 3600)))
        await h.handler.start()
        await clock.sleep(1)
        assert await h.handler.task(waiting).cancel()
        await clock.sleep(2)
        assert await h.handler.task(waiting).status() is TaskStatus.CANCELLED
        assert await h.handler.task(running).cancel()
        await clock.sleep(11)
        assert await h.handler.task(running).status() is TaskStatus.CANCELLED
        assert began == ["a"]
        assert not await h.handler.task("nobody").cancel()


@pytest.mark.spec("D-35")
async def test_an_expired_task_is_never_run(url: str, clock: VirtualClock) -> None:
    executors, runs = TaskQueuesManager(), list[int]()

    @executors.task("work")
    async def work(payload: None) -> None:
        runs.append(1)

    async with harness(executors, url=url, clock=clock) as h:
        [task_id] = await h.add(work.task(None, expires_at=to_datetime(clock.now() + 10)))
        await clock.sleep(11)
        await h.drain()
        assert runs == []
        assert await h.handler.task(task_id).status() is TaskStatus.EXPIRED


@pytest.mark.spec("D-38", "ADD-02", "ADD-03")
async def test_nothing_runs_before_its_time_and_the_worker_wakes_for_it(url: str, clock: VirtualClock) -> None:
    executors, ran = TaskQueuesManager(), dict[int, float]()

    @executors.task("work")
    async def work(payload: int) -> None:
        ran[payload] = clock.now()

    async with harness(executors, url=url, clock=clock) as h:
        began = clock.now()
        delays = [0, 1, 119, 120, 121, 600]
        await h.add(*[work.task(delay, execute_at=to_datetime(began + delay)) for delay in delays])
        await h.handler.start()
        await clock.sleep(601)
        assert list(ran) == delays
        assert all(0 <= ran[delay] - began - delay < 0.3 for delay in delays)


async def test_a_rescheduled_task_runs_again_with_no_retry_consumed(url: str, clock: VirtualClock) -> None:
    executors, seen = TaskQueuesManager(), list[tuple[float, int]]()

    @executors.executor("work", store_on_success=True)
    async def work(task: Task[Any], actions: Actions) -> None:
        seen.append((clock.now(), task.attempt))
        if len(seen) == 1:
            actions.reschedule(timedelta(minutes=5))
        else:
            actions.success(task)

    async with harness(executors, url=url, clock=clock) as h:
        [task_id] = await h.run(work.task(None))
        await h.later(299)
        assert len(seen) == 1
        await h.later(2)
        assert [attempt for _, attempt in seen] == [0, 0]
        await h.assert_succeeded(task_id)


@pytest.mark.realtime
async def test_a_plain_function_runs_in_a_thread_and_the_loop_goes_on(url: str) -> None:
    executors, ticks = TaskQueuesManager(), list[int]()

    @executors.task("block", queue="q", store_on_success=True)
    def block(payload: float) -> int:
        time.sleep(payload)
        return len(ticks)

    async with harness(executors, url=url, clock=SystemClock()) as h:
        [task_id] = await h.add(block.task(0.3))
        await h.handler.start()
        for _ in range(20):
            await asyncio.sleep(0.01)
            ticks.append(1)
        assert await h.handler.task(task_id).result(timeout=5) >= 10
