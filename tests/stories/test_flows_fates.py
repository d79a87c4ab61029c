"""Whatever a task that waits for its flow was doing, it ends with it; however a step ends, its flow's policy holds."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.stories.flows import Stage, entries, steps
from tests.stories.homes import Home
from tq import Actions, AsyncTaskManager, Backoff, FlowStep, Join, Task, TaskQueuesManager, TaskStatus, tolerate
from tq.ids import flow_id

# --- whoever waits, whatever it is doing ------------------------------------------------------------------------------


class Waiting(Stage):
    """A task that ends as its flow does; `fate` says what comes in between."""

    def __init__(self, fate: str) -> None:
        super().__init__()
        self.fate = fate
        self.tried: list[int] = []
        once = Backoff(base=30.0, jitter=0)
        options: dict[str, Any] = {"handoff_timeout": 5.0} if fate == "handed over" else {}
        self.executors.executor("parent", queue="own", retries=1, backoff=once, store_on_success=True, **options)(
            self._parent
        )

    async def _parent(self, task: Task[Any], actions: Actions) -> None:
        first = not self.tried
        self.tried.append(task.attempt)
        flow = actions.start_flow(steps({"sleep": 10.0, "result": 1}), join=Join("join"))
        match self.fate:
            case "retried" if first:
                actions.fail(task, "not yet")
            case "put off" if first:
                actions.reschedule(300.0)
            case "killed" if first:
                await asyncio.sleep(1e9)
            case "handed over":
                await asyncio.sleep(20.0)
                actions.success_when(flow)
            case _:
                actions.success_when(flow)


@pytest.mark.spec("F-15", "INV-05")
@pytest.mark.parametrize("fate", ["held", "paused", "retried", "put off", "killed", "handed over", "cancelled"])
async def test_whoever_waits_for_a_flow_ends_with_it_whatever_it_was_doing(home: Home, fate: str) -> None:
    stage = Waiting(fate)
    first = home.handler(stage.executors, async_tasks=AsyncTaskManager(clock=home.clock))
    born = home.clock.now()
    [parent] = await first.add_tasks([Task(type="parent", queue_id="own")])
    await first.start()
    await home.clock.sleep(5)
    if fate == "paused":
        await first.queue("own").pause()
    if fate == "cancelled":
        assert await first.task(parent).cancel()
    if fate == "killed":
        await first.kill()
    second = home.handler(stage.executors, async_tasks=AsyncTaskManager(clock=home.clock))
    await second.start()
    await home.clock.sleep(600)
    told = stage.only
    assert told["flow_id"] == flow_id(parent, born, 0, "#0")
    ended = await second.task(parent).status()
    if fate == "cancelled":
        assert (told["verdict"], ended) == ("cancelled", TaskStatus.CANCELLED)
    else:
        assert entries(told) == [(0, "success", 1)]
        assert (told["verdict"], ended) == ("completed", TaskStatus.EXECUTED)
        assert await second.task(parent).result() == "joined"
    assert await home.left() == 0
    for handler in (first, second):
        await handler.close()


# --- every end under every policy -------------------------------------------------------------------------------------


class Ending(Stage):
    """Steps that end in every way but by success."""

    def __init__(self) -> None:
        super().__init__()
        endless: dict[str, dict[str, Any]] = {
            "crashes": {"max_crashes": 0},
            "hangs": {"handoff_timeout": 5.0, "max_duration": 50.0},
            "is late": {"timeout": 20.0},
            "is cancelled": {},
        }
        for type, options in endless.items():
            self.executors.executor(type, queue="media", retries=0, **options)(self._never)
        self.executors.executor("says no", queue="media", retries=0)(self._refuses)
        self.executors.task("is no number", queue="media")(_number)

    async def _never(self, task: Task[Any], actions: Actions) -> None:
        await asyncio.sleep(1e9)

    async def _refuses(self, task: Task[Any], actions: Actions) -> None:
        actions.fail(task, "no")


def _number(payload: int) -> None:
    raise AssertionError(payload)


WAYS = ["says no", "crashes", "hangs", "is late", "is cancelled", "is no number", "is unknown"]


@pytest.mark.spec("F-02", "F-14", "F-16", "D-47")
@pytest.mark.parametrize("bears", [0, 1])
@pytest.mark.parametrize("way", WAYS)
async def test_a_failure_policy_holds_for_every_way_to_end(home: Home, way: str, bears: int) -> None:
    """In another library each way to stall had to be taught each policy anew."""
    stage, declared = Ending(), TaskQueuesManager()
    for queue in ("media", "default"):
        declared.queue(queue)
    producer = home.handler(declared)
    members = [FlowStep(way, queue="media", payload="x"), *steps({"sleep": 600.0, "result": "slow"})]
    policy = tolerate(bears, cancel_siblings=True)
    flow = await producer.start_flow(members, join=Join("join"), failure_policy=policy)
    worker = home.handler(stage.executors, unknown_grace=60.0, async_tasks=AsyncTaskManager(clock=home.clock))
    await worker.start()
    await home.clock.sleep(5)
    if way == "is cancelled":
        assert await producer.task(f"{flow}.0").cancel()
    if way == "crashes":
        await worker.kill()
        worker = home.handler(stage.executors)
        await worker.start()
    await home.clock.sleep(295)
    status = "cancelled" if way == "is cancelled" else "fail"
    if bears:
        assert not stage.told
        await home.clock.sleep(700)
        assert stage.only["verdict"] == "completed"
        assert [it[1] for it in entries(stage.only)] == [status, "success"]
    else:
        assert stage.only["verdict"] == "aborted"
        assert [it[1] for it in entries(stage.only)] == [status, "cancelled"]
        assert f"{flow}.1" in stage.cancelled, "nothing is spent on what nobody wants any more"
    assert await home.left() == 0
    for handler in (worker, producer):
        await handler.close()
