"""Callbacks may be few, slow or faulty: tasks go their way, whoever listens; in mode "sync" they wait."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from tq import Actions, Backoff, Entity, FlowStep, Join, Task, TaskQueuesManager, TaskStatus
from tq.model import events
from tq.testing import VirtualClock
from tq.testing.harness import Harness, harness


class Group:
    async def on_tasks(self, tasks: list[Task[Any]], actions: Actions) -> None:
        for task in tasks:
            actions.success(task)


def everything() -> TaskQueuesManager:
    """Executors of every kind, with every ending."""
    executors = TaskQueuesManager()

    @executors.executor("parent", store_on_success=True)
    async def parent(task: Task[Any], actions: Actions) -> None:
        actions.add_tasks([Task(type="group")])
        actions.start_flow([FlowStep("flaky"), FlowStep("bad")], join=Join("join"))
        actions.success(task, "parent")

    @executors.executor("flaky", retries=1, backoff=Backoff(jitter=0))
    async def flaky(task: Task[Any], actions: Actions) -> None:
        if task.attempt == 0:
            raise ValueError("once")
        actions.success(task, "flaky")

    @executors.task("bad")
    async def bad(payload: None) -> None:
        raise ValueError("for good")

    @executors.executor("join", store_on_success=True)
    async def join(task: Task[Any], actions: Actions) -> None:
        steps = task.payload["flow_results"]["steps"]
        actions.success(task, sorted(entry["status"] for entry in steps))

    @executors.executor("long", handoff_timeout=2, store_on_success=True)
    async def long(task: Task[Any], actions: Actions) -> None:
        await asyncio.sleep(20)
        actions.success(task, "long")

    executors.register("group", Group())
    return executors


async def run_everything(h: Harness) -> list[str]:
    """Run one of each; return how the parent, its join, the long task and the bad step ended."""
    entity = Entity("Item", "i-1")
    parent, long = await h.add(Task(type="parent", entity=entity), Task(type="long"))
    await h.handler.start()
    await h.clock.sleep(60)
    [flow] = await h.flows()
    join = await h.handler.flow(flow.id).join()
    assert await join.result() == ["fail", "success"]
    ended = [parent, join.id, long, f"{flow.id}.1"]
    statuses = [str(await h.handler.task(task_id).status()) for task_id in ended]
    await h.assert_quiet()
    await h.handler.stop()
    return statuses


GOOD = [TaskStatus.EXECUTED] * 3 + [TaskStatus.FAILED]
FAMILIES = ("lifecycle", "workers", "flow_lifecycle", "queue_lifecycle", "notifications")


class OnlyOne:
    """Has a single callback of each family, and no other."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def on_task_completed(self, event: events.TaskCompleted) -> None:
        self.heard.append(event.task_type)

    async def on_worker_stopped(self, event: events.WorkerStopped) -> None:
        self.heard.append("stopped")

    async def on_flow_completed(self, event: events.FlowCompleted) -> None:
        self.heard.append("flow")

    def on_message_consumed(self, event: events.MessageConsumed) -> None: ...


@pytest.mark.spec("TLC-07", "QLC-01", "NTP-01", "AAC-06")
@pytest.mark.parametrize("mode", ["async", "sync"])
async def test_every_callback_is_optional(url: str, clock: VirtualClock, mode: str) -> None:
    provider = OnlyOne()
    given: dict[str, Any] = dict.fromkeys(FAMILIES, provider)
    async with harness(everything(), url=url, clock=clock, lifecycle_mode=mode, **given) as h:
        assert await run_everything(h) == GOOD
    told = sorted(provider.heard)
    assert told == ["flaky", "flow", "group", "join", "long", "parent", "stopped"]


@pytest.mark.spec("TLC-07")
async def test_without_anybody_who_listens_all_is_the_same(url: str, clock: VirtualClock) -> None:
    async with harness(everything(), url=url, clock=clock) as h:
        assert await run_everything(h) == GOOD


class Faulty:
    """Raises in every callback, of every family: at once, or later."""

    def __init__(self) -> None:
        self.called: set[str] = set()
        self.complaints: list[events.CallbackFailed] = []

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("on_"):
            raise AttributeError(name)

        async def later(event: object) -> None:
            await asyncio.sleep(0.001)
            raise KeyError(name)

        def callback(event: object) -> Any:
            self.called.add(name)
            if len(self.called) % 2:
                raise RuntimeError(name)
            return later(event)

        return callback

    def on_lifecycle_error(self, event: events.CallbackFailed) -> None:
        self.complaints.append(event)


@pytest.mark.spec("TLC-08", "D-59", "INV-08", "QLC-07", "NTP-01", "AAC-06")
@pytest.mark.parametrize("mode", ["async", "sync"])
async def test_errors_of_callbacks_change_nothing_and_are_told(
    url: str, clock: VirtualClock, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    provider = Faulty()
    given: dict[str, Any] = dict.fromkeys(FAMILIES, provider)
    with caplog.at_level(logging.ERROR):
        async with harness(everything(), url=url, clock=clock, lifecycle_mode=mode, **given) as h:
            assert await run_everything(h) == GOOD
    failed = {event.callback for event in provider.complaints}
    assert failed == provider.called
    assert failed >= {
        "on_task_scheduled",
        "on_task_started",
        "on_task_completed",
        "on_task_failed",
        "on_task_exhausted",
        "on_task_batch_started",
        "on_task_batch_completed",
        "on_worker_started",
        "on_worker_heartbeat",
        "on_worker_stopped",
        "on_batch_started",
        "on_batch_completed",
        "on_consumer_started",
        "on_consumer_stopped",
        "on_flow_started",
        "on_flow_completed",
        "on_message_published",
        "on_message_consumed",
        "on_consumer_connected",
        "on_consumer_disconnected",
        "on_final_stats",
    }
    for event in provider.complaints:
        assert event.callback in str(event.error)
    [scheduled, *_] = [event.event for event in provider.complaints if event.callback == "on_task_scheduled"]
    assert isinstance(scheduled, events.TaskScheduled)
    assert "callback on_task_started raised" in caplog.text
