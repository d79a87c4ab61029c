"""A worker for `test_workers_kill.py`: `python fired_upon.py URL LOG LEASE`. Notes every join that runs, by a line."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from typing import Any

from tq import Actions, Backoff, FlowStep, Join, Task, TaskHandler, TaskQueuesManager

executors = TaskQueuesManager()
# Whoever shoots at random kills also the innocent while they run alone.
KEPT: dict[str, Any] = {
    "store_on_success": True,
    "result_ttl": 3600,
    "max_crashes": 1_000_000,
    "backoff": Backoff(base=0.1),
}


def dice(task: Task[Any]) -> random.Random:
    """Return dice that fall alike in every execution of one attempt."""
    return random.Random(f"{task.id}:{task.generation}:{task.attempt}")


@executors.executor("plain", retries=3, **KEPT)
async def plain(task: Task[Any], actions: Actions) -> None:
    chance = dice(task)
    await asyncio.sleep(chance.random() / 4)
    if chance.random() < 0.3 and task.attempt < 3:
        raise ValueError("not yet")
    children = actions.add_tasks([Task(type="child", payload=task.id) for _ in range(chance.randrange(4))])
    actions.success(task, children)


@executors.executor("child", **KEPT)
async def child(task: Task[Any], actions: Actions) -> None:
    actions.success(task)


@executors.executor("long", handoff_timeout=0.2, **KEPT)
async def long(task: Task[Any], actions: Actions) -> None:
    await asyncio.sleep(1.2)
    actions.success(task, [])


@executors.task("thread", **KEPT)
def thread(payload: int) -> list[str]:
    time.sleep(0.05)
    return []


@executors.executor("step", **KEPT)
async def step(task: Task[Any], actions: Actions) -> None:
    chance = dice(task)
    await asyncio.sleep(chance.random() / 10)
    if chance.random() < 0.2:
        raise ValueError("a step may fail")
    actions.success(task, task.payload)


@executors.executor("parent", retries=2, **KEPT)
async def parent(task: Task[Any], actions: Actions) -> None:
    chance, depth = dice(task), int(task.payload)
    steps = [
        FlowStep("parent", payload=depth - 1) if depth and chance.random() < 0.3 else FlowStep("step", payload=number)
        for number in range(chance.randrange(8))
    ]
    flow = actions.start_flow(
        steps,
        join=Join("join"),
        failure_policy=chance.choice(["continue", "abort"]),
        cancel_siblings=chance.random() < 0.5,
        timeout=chance.choice([None, 2.0, 60.0]),
    )
    await asyncio.sleep(chance.random() / 5)
    actions.success_when(flow)


@executors.executor("join", **KEPT)
async def join(task: Task[Any], actions: Actions) -> None:
    entries = [[entry["step_index"], entry["status"]] async for entry in actions.flow_results(task)]
    line = json.dumps({"join": task.id, "entries": entries}) + "\n"
    descriptor = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, line.encode())
    os.close(descriptor)
    actions.success(task, [])


async def main() -> None:
    url, _, lease = sys.argv[1:]
    handler = TaskHandler.connect(url, executors, lease=float(lease), concurrency=20, grace_period=1)
    async with handler:
        await handler.run()


if __name__ == "__main__":
    asyncio.run(main())
