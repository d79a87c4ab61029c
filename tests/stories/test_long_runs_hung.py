"""The manager ends what runs too long, by the ordinary rules; its figures tell the truth about the bodies that run."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tq import Actions, AsyncTaskManager, Backoff, Task, TaskQueuesManager, TaskStatus
from tq.errors import ActionsRevokedError, HungTaskError
from tq.testing import Probe, VirtualClock
from tq.testing.harness import harness

EVEN = Backoff(jitter=0)


@pytest.mark.spec("ATM-05", "ATM-06", "ATM-08", "ATM-09", "CON-03", "D-22")
async def test_each_is_ended_at_its_own_limit_and_the_healthy_go_on(
    url: str, clock: VirtualClock, probe: Probe
) -> None:
    executors, ended = TaskQueuesManager(), dict[str, int]()
    began = clock.now()

    async def body(task: Task[float], actions: Actions) -> None:
        try:
            await asyncio.sleep(task.payload)
            actions.success(task)
        finally:
            ended[task.type] = round(clock.now() - began)

    given: dict[str, Any] = {"handoff_timeout": 5, "store_on_success": True}
    executors.executor("default", **given)(body)
    executors.executor("short", **given, max_duration=30)(body)
    executors.executor("zero", **given, max_duration=0)(body)
    executors.executor("long", **given, max_duration=900)(body)
    executors.executor("healthy", **given, max_duration=30)(body)
    manager = AsyncTaskManager(default_max_duration=100, on_task_timeout=probe.on_timeout)
    async with harness(executors, url=url, clock=clock, async_tasks=manager, lifecycle=probe) as h:
        kinds = [("default", 1e9), ("short", 1e9), ("zero", 1e9), ("long", 600), ("healthy", 20)]
        ids = await h.add(*[Task(type=type, payload=seconds) for type, seconds in kinds])
        await h.handler.start()
        await clock.sleep(9)
        assert manager.get_metrics().active_task_count == 5
        await clock.sleep(700)
        assert ended == {"zero": 10, "healthy": 20, "short": 40, "default": 110, "long": 600}
        default, short, zero, long, healthy = ids
        for task_id in (long, healthy):
            assert await h.handler.task(task_id).status() is TaskStatus.EXECUTED
        for task_id in (default, short, zero):
            await h.assert_failed(task_id, "max_duration")
        told = [seen.args for seen in probe.of("on_timeout")]
        assert [(task_id, task.type, round(age)) for task_id, task, age in told] == [
            (zero, "zero", 5),
            (short, "short", 35),
            (default, "default", 105),
        ]
        errors = [seen.value.error for seen in probe.of("on_task_exhausted")]
        assert all(isinstance(error, HungTaskError) for error in errors)
        metrics = manager.get_metrics()
        assert (metrics.total_timed_out, metrics.total_completed, metrics.active_task_count) == (3, 2, 0)


@pytest.mark.spec("D-22", "D-23", "ATM-03", "ATM-10")
async def test_a_body_that_will_not_end_keeps_its_place_and_touches_nothing(url: str, clock: VirtualClock) -> None:
    executors, told = TaskQueuesManager(), list[str]()

    @executors.executor("work", handoff_timeout=5, max_duration=40, retries=1, backoff=EVEN, store_on_success=True)
    async def stubborn(task: Task[Any], actions: Actions) -> None:
        if task.attempt == 1:
            await asyncio.sleep(30)
            actions.success(task, "second attempt")
            return
        until = clock.now() + 70
        while clock.now() < until:
            try:
                await asyncio.sleep(until - clock.now())
            except asyncio.CancelledError:
                told.append("cancelled")
        try:
            actions.success(task, "too late")
        except ActionsRevokedError:
            told.append("revoked")

    manager = AsyncTaskManager(2, sweep_interval=1)
    async with harness(executors, url=url, clock=clock, async_tasks=manager) as h:
        [task_id] = await h.add(stubborn.task(None))
        await h.handler.start()
        await clock.sleep(50)
        metrics = manager.get_metrics()
        assert (metrics.active_task_count, metrics.ending_task_count, metrics.total_timed_out) == (1, 1, 1)
        assert not manager.is_handed_off(task_id)
        await clock.sleep(15)
        metrics = manager.get_metrics()
        assert manager.is_handed_off(task_id), "the second attempt, under the same id, while the first still runs"
        assert (metrics.active_task_count, metrics.ending_task_count, metrics.total_handed_off) == (2, 1, 2)
        assert not manager.can_accept_task()
        await clock.sleep(7)
        assert told == ["cancelled", "revoked"]
        metrics = manager.get_metrics()
        assert manager.is_handed_off(task_id), "the old end does not remove the new entry"
        assert (metrics.active_task_count, metrics.ending_task_count, metrics.total_completed) == (1, 0, 0)
        assert manager.can_accept_task()
        await clock.sleep(30)
        await h.assert_succeeded(task_id, "second attempt")
        assert (await h.stats(task_id))["last_error"].startswith("the task ran longer than its max_duration")
        assert manager.get_metrics().total_completed == 1


@pytest.mark.spec("ATM-07")
@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_a_callback_that_raises_stops_nothing(url: str, clock: VirtualClock, kind: str) -> None:
    executors, told = TaskQueuesManager(), list[str]()

    @executors.executor("work", handoff_timeout=5)
    async def hang(task: Task[Any], actions: Actions) -> None:
        await asyncio.sleep(1e9)

    def plain(task_id: str, task: Task[Any], age: float) -> None:
        told.append(task_id)
        raise ValueError("plain")

    async def later(task_id: str, task: Task[Any], age: float) -> None:
        plain(task_id, task, age)

    manager = AsyncTaskManager(default_max_duration=50, on_task_timeout=plain if kind == "plain" else later)
    async with harness(executors, url=url, clock=clock, async_tasks=manager) as h:
        ids = await h.add(hang.task(1), hang.task(2))
        await h.handler.start()
        await clock.sleep(100)
        assert told == ids
        for task_id in ids:
            await h.assert_failed(task_id, "max_duration")


@pytest.mark.spec("ATM-02", "ATM-04", "ATM-11", "ATM-12", "ATM-13", "ATM-14", "ATM-18")
async def test_the_figures_follow_the_bodies(url: str, clock: VirtualClock) -> None:
    executors = TaskQueuesManager()

    @executors.executor("work", handoff_timeout=5)
    async def work(task: Task[float], actions: Actions) -> None:
        await asyncio.sleep(task.payload)
        if task.payload > 55:
            raise ValueError("an exception frees the place as well")
        actions.success(task)

    manager = AsyncTaskManager()
    async with harness(executors, url=url, clock=clock, async_tasks=manager) as h:
        ids = await h.add(*[work.task(float(10 + number)) for number in range(50)])
        await h.handler.start()
        await clock.sleep(8)
        metrics = manager.get_metrics()
        assert (metrics.active_task_count, metrics.total_handed_off, metrics.total_rejected) == (50, 50, 0)
        assert (metrics.max_tasks, metrics.utilization_percent) == (100, 50.0)
        assert metrics.oldest_task_age == manager.get_oldest_task_age() == pytest.approx(3)
        assert all(manager.is_handed_off(task_id) for task_id in ids)
        await clock.sleep(27.5)
        metrics = manager.get_metrics()
        assert (metrics.active_task_count, metrics.total_completed) == (24, 26)
        assert not manager.is_handed_off(ids[0])
        manager.reset_counters()
        assert manager.get_metrics().active_task_count == 24
        await clock.sleep(100)
        metrics = manager.get_metrics()
        assert (metrics.total_completed, metrics.total_handed_off, metrics.oldest_task_age) == (24, 0, 0)
        assert metrics.active_task_count == 0


@pytest.mark.spec("ATM-19")
async def test_without_a_sweep_nothing_is_ended_for_its_age(url: str, clock: VirtualClock) -> None:
    executors = TaskQueuesManager()

    @executors.executor("work", handoff_timeout=5, store_on_success=True)
    async def work(task: Task[Any], actions: Actions) -> None:
        await asyncio.sleep(5000)
        actions.success(task, "done")

    manager = AsyncTaskManager(sweep_interval=0, default_max_duration=10)
    async with harness(executors, url=url, clock=clock, async_tasks=manager) as h:
        [task_id] = await h.add(work.task(None))
        await h.handler.start()
        await clock.sleep(5001)
        await h.assert_succeeded(task_id, "done")
