"""In mode "sync" whoever tells waits for who hears; in mode "async" nobody does (TLC-09, D-56)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tq import Actions, AsyncTaskManager, FlowStep, Join, Task, TaskQueuesManager
from tq.testing import Probe, VirtualClock
from tq.testing.harness import harness

FAMILIES = ("lifecycle", "workers", "flow_lifecycle", "queue_lifecycle", "notifications")


class Slow:
    """Takes its time with one callback."""

    def __init__(self, clock: VirtualClock, name: str, seconds: float) -> None:
        self.clock = clock
        self.name = name
        self.seconds = seconds
        self.heard: list[float] = []

    def __getattr__(self, name: str) -> Any:
        if name != self.name:
            raise AttributeError(name)

        async def callback(event: object) -> None:
            await self.clock.sleep(self.seconds)
            self.heard.append(self.clock.now())

        return callback


@pytest.mark.spec("TLC-09", "D-56")
@pytest.mark.parametrize(
    ("family", "callback"),
    [
        ("lifecycle", "on_task_scheduled"),
        ("lifecycle", "on_task_started"),
        ("lifecycle", "on_task_batch_started"),
        ("workers", "on_worker_started"),
        ("workers", "on_consumer_started"),
        ("workers", "on_batch_started"),
        ("queue_lifecycle", "on_message_published"),
        ("queue_lifecycle", "on_message_consumed"),
        ("queue_lifecycle", "on_consumer_connected"),
    ],
)
@pytest.mark.parametrize("mode", ["async", "sync"])
async def test_in_mode_sync_a_body_waits_for_what_is_told_before_it(
    clock: VirtualClock, mode: str, family: str, callback: str
) -> None:
    executors, began = TaskQueuesManager(), list[float]()

    class Group:
        async def on_tasks(self, tasks: list[Task[Any]], actions: Actions) -> None:
            began.append(clock.now())
            actions.success(tasks[0])

    executors.register("work", Group())
    provider = Slow(clock, callback, 7.0)
    given: dict[str, Any] = {family: provider, "lifecycle_mode": mode}
    async with harness(executors, clock=clock, **given) as h:
        start = clock.now()
        await h.add(Task(type="work"))
        await h.handler.start()
        await clock.sleep(30)
        assert provider.heard == [start + 7]
        assert began == ([start + 7] if mode == "sync" else [start])


@pytest.mark.spec("TLC-09", "D-56")
@pytest.mark.parametrize(
    "callback", ["on_task_completed", "on_flow_started", "on_flow_completed", "on_batch_completed", "on_task_failed"]
)
@pytest.mark.parametrize("mode", ["async", "sync"])
async def test_in_mode_sync_what_follows_waits_for_what_is_told_after(
    clock: VirtualClock, mode: str, callback: str
) -> None:
    executors, ends = TaskQueuesManager(), list[float]()

    @executors.executor("first", concurrency=1)
    async def first(task: Task[Any], actions: Actions) -> None:
        actions.add_tasks([Task(type="next")])
        actions.start_flow([], join=Join("next"))
        if callback == "on_task_failed":
            actions.fail(task, "told")
        else:
            actions.success(task)

    @executors.executor("next")
    async def after(task: Task[Any], actions: Actions) -> None:
        ends.append(clock.now())
        actions.success(task)

    provider = Slow(clock, callback, 7.0)
    families: dict[str, Any] = dict.fromkeys(FAMILIES, provider)
    async with harness(executors, clock=clock, lifecycle_mode=mode, **families) as h:
        start = clock.now()
        await h.add(first.task(None))
        await h.handler.start()
        await clock.sleep(60)
        assert len(ends) == 2
        assert min(ends) == (start + 7 if mode == "sync" else start)
        assert start + 7 in provider.heard


async def test_in_mode_sync_a_task_keeps_its_lease_while_a_callback_takes_its_time(
    url: str, clock: VirtualClock
) -> None:
    executors, runs = TaskQueuesManager(), list[int]()

    @executors.executor("long", handoff_timeout=2, store_on_success=True)
    async def long(task: Task[Any], actions: Actions) -> None:
        runs.append(task.fence)
        await asyncio.sleep(200)
        actions.success(task)

    provider = Slow(clock, "on_batch_completed", 100.0)
    options: dict[str, Any] = {"workers": provider, "lifecycle_mode": "sync", "async_tasks": AsyncTaskManager()}
    async with harness(executors, url=url, clock=clock, **options) as h:
        [task_id] = await h.add(long.task(None))
        await h.handler.start()
        await clock.sleep(400)
        assert runs == [1], "told at the hand-over, between two leases"
        await h.assert_succeeded(task_id)


@pytest.mark.spec("D-39", "TLC-01")
@pytest.mark.parametrize("mode", ["async", "sync"])
async def test_on_a_queue_that_runs_at_once_scheduled_is_told_before_anything_else(
    clock: VirtualClock, probe: Probe, mode: str
) -> None:
    executors = TaskQueuesManager()

    @executors.executor("parent")
    async def parent(task: Task[int], actions: Actions) -> None:
        if task.payload:
            actions.add_tasks([Task(type="parent", payload=task.payload - 1)])
        actions.success(task)

    async with harness(executors, url="immediate://", clock=clock, lifecycle=probe, lifecycle_mode=mode) as h:
        await h.add(parent.task(1))
        await h.handler.start_flow([FlowStep("parent", payload=0)], join=Join("parent"))
        await clock.sleep(1)
        seen: dict[str, list[str]] = {}
        for event in probe.events:
            seen.setdefault(event.value.task_id, []).append(event.name)
        lives = list(seen.values())
        assert lives[:3] == [["on_task_scheduled", "on_task_started", "on_task_completed"]] * 3
        assert lives[3][0] == "on_task_scheduled", "the join: its payload does not fit, it never starts"
        assert len(lives) == 4


@pytest.mark.spec("INV-09")
async def test_a_provider_that_never_answers_costs_no_memory_and_no_task(clock: VirtualClock) -> None:
    executors, runs = TaskQueuesManager(), list[int]()

    @executors.task("work")
    async def work(payload: int) -> None:
        runs.append(payload)

    provider = Slow(clock, "on_task_completed", 1e6)
    async with harness(executors, clock=clock, lifecycle=provider) as h:
        await h.add(*[work.task(number) for number in range(12_000)])
        await h.drain()
        assert len(runs) == 12_000
        [outbox] = h.handler._events._audience._outboxes.values()
        assert len(outbox._waiting) <= 10_000
