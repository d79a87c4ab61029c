"""A task that fails is tried again, ever later, until it succeeds or its retries are used up."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from tq import Actions, Backoff, NonRetryableError, Task, TaskQueuesManager, TaskStatus
from tq.testing import VirtualClock
from tq.testing.harness import harness

EVEN = Backoff(jitter=0)


@pytest.mark.spec("RET-01", "RET-04", "RET-06", "INV-04")
async def test_retries_come_after_quadratically_growing_delays(url: str, clock: VirtualClock) -> None:
    executors, began = TaskQueuesManager(), list[float]()

    @executors.task("work", retries=3, backoff=EVEN)
    async def work(payload: None) -> None:
        began.append(clock.now())
        raise ValueError("not yet")

    async with harness(executors, url=url, clock=clock) as h:
        [task_id] = await h.add(work.task(None, retry_after=10))
        await h.handler.start()
        await clock.sleep(1000)
        assert [round(later - before) for before, later in pairwise(began)] == [10, 40, 90]
        await h.assert_failed(task_id, "not yet")
        assert (await h.stats(task_id))["retry_count"] == 3


@pytest.mark.spec("RET-05")
async def test_a_task_that_says_no_retries_gets_none(url: str, clock: VirtualClock) -> None:
    executors, runs = TaskQueuesManager(), list[int]()

    @executors.task("work", retries=5, backoff=EVEN)
    async def work(payload: None) -> None:
        runs.append(1)
        raise ValueError("no")

    async with harness(executors, url=url, clock=clock) as h:
        [task_id] = await h.run(work.task(None, retries=0))
        await h.assert_failed(task_id, "no")
        assert len(runs) == 1


@pytest.mark.spec("RET-13")
async def test_one_failure_then_success_is_two_executions(url: str, clock: VirtualClock) -> None:
    executors, runs = TaskQueuesManager(), list[int]()

    @executors.executor("work", retries=1, backoff=EVEN, store_on_success=True)
    async def work(task: Task[Any], actions: Actions) -> None:
        runs.append(task.attempt)
        if task.attempt == 0:
            actions.fail(task, "first", {"hint": "x"})
        else:
            assert task.execution_stats["last_error"] == "first"
            assert task.execution_stats["hint"] == "x"
            actions.success(task, "done")

    async with harness(executors, url=url, clock=clock) as h:
        [task_id] = await h.run(work.task(None))
        assert await h.handler.task(task_id).status() is TaskStatus.SCHEDULED
        await h.later(2.1)
        assert runs == [0, 1]
        await h.assert_succeeded(task_id)


async def test_a_non_retryable_error_ends_the_task_at_once(url: str, clock: VirtualClock) -> None:
    executors, runs = TaskQueuesManager(), list[int]()

    @executors.task("work", retries=5)
    async def work(payload: None) -> None:
        runs.append(1)
        raise NonRetryableError("never again")

    async with harness(executors, url=url, clock=clock) as h:
        [task_id] = await h.run(work.task(None))
        await h.assert_failed(task_id, "never again")
        assert len(runs) == 1
        await h.assert_quiet()


@pytest.mark.spec("RET-18", "RES-03", "D-60")
async def test_the_last_error_its_stack_and_meta_are_kept(url: str, clock: VirtualClock) -> None:
    executors = TaskQueuesManager()

    @executors.executor("work", retries=0)
    async def work(task: Task[Any], actions: Actions) -> None:
        try:
            dict[str, str]()["deep"]
        except KeyError as error:
            actions.fail(task, error, {"where": "here", "retry_count": 99})

    async with harness(executors, url=url, clock=clock) as h:
        [task_id] = await h.run(work.task(None))
        stats = await h.stats(task_id)
        assert stats["last_error"] == "'deep'"
        assert "KeyError" in stats["last_error_stack"]
        assert stats["where"] == "here"
        assert stats["retry_count"] == 0
        assert stats["failed_at"] == clock.now()


async def test_a_replayed_dead_letter_is_a_new_generation(url: str, clock: VirtualClock) -> None:
    executors, seen = TaskQueuesManager(), list[tuple[int, int, int]]()

    @executors.executor("work", store_on_success=True)
    async def work(task: Task[Any], actions: Actions) -> None:
        seen.append((task.generation, task.attempt, task.fence))
        if task.generation == 0:
            raise ValueError("first generation")
        actions.success(task)

    async with harness(executors, url=url, clock=clock) as h:
        [task_id] = await h.run(work.task(None))
        [letter] = await h.handler.dead.list()
        assert (letter.task_id, letter.error, letter.payload) == (task_id, "first generation", None)
        assert await h.handler.dead.replay() == [task_id]
        await h.drain()
        assert seen == [(0, 0, 1), (1, 0, 2)]
        await h.assert_succeeded(task_id)
        assert await h.handler.dead.list() == []


async def test_an_hour_of_a_harness_holds_every_retry(url: str, clock: VirtualClock) -> None:
    executors, began = TaskQueuesManager(), list[float]()

    @executors.task("work", retries=3, backoff=EVEN)
    async def work(payload: None) -> None:
        began.append(clock.now())
        raise ValueError("never")

    async with harness(executors, url=url, clock=clock) as h:
        [task_id] = await h.run(work.task(None, retry_after=60))
        await h.later(3600)
        assert [round(later - before) for before, later in pairwise(began)] == [60, 240, 300]
        await h.assert_failed(task_id, "never")
        assert clock.now() == pytest.approx(began[0] + 3600, abs=1)
