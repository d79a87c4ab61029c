"""On the immediate queue adding a task runs it, with all that it brings."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from tq import Actions, Backoff, FlowStep, Join, Task, TaskQueuesManager, TaskStatus
from tq.clock import to_datetime
from tq.errors import InvalidInputError
from tq.testing import VirtualClock
from tq.testing.harness import harness

HERE = "immediate://"


@pytest.mark.spec("IMM-01")
async def test_adding_runs_the_whole_way_retries_included(clock: VirtualClock) -> None:
    executors, runs = TaskQueuesManager(), list[int]()

    @executors.executor("work", retries=2, backoff=Backoff(jitter=0), store_on_success=True)
    async def work(task: Task[Any], actions: Actions) -> None:
        runs.append(task.attempt)
        if task.attempt < 2:
            raise ValueError("again")
        actions.success(task)

    async with harness(executors, url=HERE, clock=clock) as h:
        began = clock.now()
        [task_id] = await h.add(work.task(None))
        assert runs == [0, 1, 2]
        assert clock.now() - began == pytest.approx(2 + 8, abs=0.1), "the backoff is kept (D-38)"
        await h.assert_succeeded(task_id)


@pytest.mark.spec("IMM-01")
async def test_whoever_adds_meanwhile_waits_for_what_it_added(clock: VirtualClock) -> None:
    executors = TaskQueuesManager()

    @executors.task("work")
    async def work(payload: float) -> float:
        await clock.sleep(payload)
        return payload

    async with harness(executors, url=HERE, clock=clock) as h:

        async def add(after: float, takes: float) -> str:
            await clock.sleep(after)
            [task_id] = await h.add(work.task(takes))
            return await h.handler.task(task_id).status()

        ended = await asyncio.gather(add(0, 0.3), add(0, 5), add(0.1, 7), add(6, 0.1))
        assert [*ended] == [TaskStatus.EXECUTED] * 4


@pytest.mark.spec("IMM-01")
async def test_what_a_body_adds_through_the_handler_runs_after_it(clock: VirtualClock) -> None:
    executors, ran = TaskQueuesManager(), list[int]()

    @executors.task("work", concurrency=1)
    async def work(payload: int) -> None:
        if payload < 3:
            await h.add(work.task(payload + 1))
        ran.append(payload)

    async with harness(executors, url=HERE, clock=clock) as h:
        await h.add(work.task(0))
        assert ran == [0, 1, 2, 3]
        await h.handler.drain()


@pytest.mark.spec("IMM-01")
async def test_what_nobody_knows_is_given_back_and_not_waited_for(
    clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    executors, ran = TaskQueuesManager(), list[int]()

    @executors.task("resize", retries=1)
    async def resize(payload: int) -> None:
        ran.append(payload)
        if len(ran) < 3:
            raise ValueError("once more")

    async with harness(executors, url=HERE, clock=clock) as h:
        began = clock.now()
        [stranger] = await h.add(Task(type="rezise", payload=1))
        assert clock.now() - began < 1
        assert "given back" in caplog.text
        assert await h.handler.task(stranger).status() is TaskStatus.SCHEDULED
        await h.add(resize.task(2))
        assert ran == [2, 2], "a retry is waited for as ever"


@pytest.mark.spec("D-86")
async def test_a_chain_of_children_does_not_nest(clock: VirtualClock) -> None:
    executors, seen = TaskQueuesManager(), list[int]()

    @executors.executor("chain")
    async def chain(task: Task[int], actions: Actions) -> None:
        seen.append(task.payload)
        if task.payload < 3000:
            actions.add_tasks([Task(type="chain", payload=task.payload + 1)])
        actions.success(task)

    async with harness(executors, url=HERE, clock=clock) as h:
        await h.add(chain.task(0))
        assert seen == list(range(3001))


@pytest.mark.spec("IMM-03")
async def test_what_is_due_much_later_waits_and_a_warning_counts_it(
    clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    executors, runs = TaskQueuesManager(), list[int]()

    @executors.task("work")
    async def work(payload: None) -> None:
        runs.append(1)

    async with harness(executors, url=HERE, clock=clock) as h:
        with caplog.at_level(logging.WARNING):
            late = work.task(None, execute_at=to_datetime(clock.now() + 3600))
            soon = work.task(None, execute_at=to_datetime(clock.now() + 60))
            [task_id, *_] = await h.add(late, work.task(None), soon)
        assert runs == [1, 1], "what is due now, and what is due soon"
        assert "1 task is due later" in caplog.text
        assert await h.handler.task(task_id).status() is TaskStatus.SCHEDULED
        await h.later(3601)
        assert runs == [1, 1, 1]


@pytest.mark.spec("IMM-02")
async def test_a_queue_without_executors_is_refused_and_says_what_to_do(clock: VirtualClock) -> None:
    executors = TaskQueuesManager()

    @executors.task("work")
    async def work(payload: None) -> None: ...

    async with harness(executors, url=HERE, clock=clock) as h:
        with pytest.raises(InvalidInputError, match="register an executor"):
            await h.add(Task(type="work", queue_id="elsewhere"))


async def test_a_flow_has_joined_when_start_flow_returns(clock: VirtualClock) -> None:
    executors, joined = TaskQueuesManager(), list[Any]()

    @executors.task("step")
    async def step(payload: int) -> int:
        return payload * 2

    @executors.executor("join")
    async def join(task: Task[Any], actions: Actions) -> None:
        joined.append([entry["result"] for entry in task.payload["flow_results"]["steps"]])
        actions.success(task)

    async with harness(executors, url=HERE, clock=clock) as h:
        await h.handler.start_flow([FlowStep("step", payload=n) for n in range(3)], join=Join("join"))
        assert joined == [[0, 2, 4]]
        await h.assert_quiet()
