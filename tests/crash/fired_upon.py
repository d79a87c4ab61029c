"""A worker to be shot, started by `firing` as a process of its own: it writes down what it begins, line by line."""

from __future__ import annotations

import asyncio
import json
import os
import random
import secrets
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.crash.connected import connected
from tests.stories.flows import Deaf
from tq import Actions, Backoff, Entity, FlowStep, Join, Task, TaskQueuesManager
from tq.model import events
from tq.ports import WorkerLifecycleProvider
from tq.testing import Account

KINDS = ("plain", "plain", "plain", "plain", "thread", "thread", "thread", "long")
"""Types of tasks that stand for themselves; as often as they are to be drawn."""
STEPS, JOINS = "steps", "joins"
"""Queues of their own, which other servers may serve; everything else is on the default one."""
LONG = 2.0
"""Seconds that some bodies take: longer than the lease that `firing` gives."""
# Whoever shoots at random kills also the innocent while they run alone.
KEPT: dict[str, Any] = {
    "store_on_success": True,
    "result_ttl": 3600,
    "max_crashes": 1_000_000,
    "backoff": Backoff(base=0.1),
}


class Notes:
    """Accounts of one process in one file: each line is with the system before the body goes on, whatever is killed."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._mine = threading.local()

    @property
    def account(self) -> Account:
        """The account of the calling thread: stamps are numbered, and threads would get the same ones."""
        if not hasattr(self._mine, "account"):
            self._mine.account = Account(secrets.token_hex(6), lambda line: os.write(self._file, line.encode()))
        account: Account = self._mine.account
        return account


def dice(task: Task[Any]) -> random.Random:
    """Return dice that fall alike in every execution of one attempt."""
    return random.Random(f"{task.id}:{task.generation}:{task.attempt}")


def working(notes: Notes) -> TaskQueuesManager:
    """Return executors of every kind; each hands its stamp on in its result, and in what it brings forth."""
    executors = TaskQueuesManager()

    @executors.executor("plain", retries=3, **KEPT)
    async def plain(task: Task[Any], actions: Actions) -> None:
        stamp, chance = notes.account.begin(task), dice(task)
        actions.add_tasks([Task(type="child", payload={"stamp": stamp, "n": n}) for n in range(chance.randrange(4))])
        await asyncio.sleep(LONG if chance.random() < 0.05 else chance.random() / 4)
        if chance.random() < 0.3 and task.attempt < 3:
            raise ValueError("not yet")
        actions.success(task, stamp)

    @executors.executor("child", **KEPT)
    async def child(task: Task[Any], actions: Actions) -> None:
        actions.success(task, notes.account.begin(task))

    @executors.executor("long", handoff_timeout=0.2, **KEPT)
    async def long(task: Task[Any], actions: Actions) -> None:
        stamp = notes.account.begin(task)
        await asyncio.sleep(LONG)
        actions.add_tasks([Task(type="child", payload={"stamp": stamp})])
        actions.success(task, stamp)

    @executors.executor("thread", **KEPT)
    def thread(task: Task[Any], actions: Actions) -> None:
        stamp = notes.account.begin(task)
        time.sleep(0.05)
        actions.success(task, stamp)

    @executors.executor("step", queue=STEPS, **KEPT)
    async def step(task: Task[Any], actions: Actions) -> None:
        stamp, chance = notes.account.begin(task), dice(task)
        await asyncio.sleep(chance.random() / 10)
        if chance.random() < 0.2:
            raise ValueError("a step may fail")
        actions.success(task, {"stamp": stamp})

    @executors.executor("parent", retries=2, **KEPT)
    async def parent(task: Task[Any], actions: Actions) -> None:
        stamp, chance, depth = notes.account.begin(task), dice(task), int(task.payload["depth"])
        flow = actions.start_flow(
            [
                FlowStep("parent", payload={"stamp": stamp, "depth": depth - 1})
                if depth and chance.random() < 0.3
                else FlowStep("step", queue=STEPS, payload={"stamp": stamp})
                for _ in range(chance.randrange(8))
            ],
            join=Join("join", queue=JOINS),
            failure_policy=chance.choice(["continue", "abort"]),
            cancel_siblings=chance.random() < 0.5,
            timeout=chance.choice([None, 2.0, 60.0]),
            entity=chance.choice([None, Entity("Flow", task.id)]),
        )
        await asyncio.sleep(chance.random() / 5)
        if chance.random() < 0.1 and task.attempt < 2:
            raise ValueError("what it started is dropped")
        actions.success_when(flow)

    @executors.executor("join", queue=JOINS, **KEPT)
    async def join(task: Task[Any], actions: Actions) -> None:
        actions.success(task, {"stamp": await notes.account.join(task, actions.flow_results(task))})

    return executors


class Up(WorkerLifecycleProvider):
    """Leaves a file as the worker begins: until then a shot would hit nobody."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def on_worker_started(self, event: events.WorkerStarted, /) -> None:
        self._path.touch()


async def main(parts: dict[str, Any], notes: str, up: str, lease: float, *, deaf: bool) -> None:
    executors = working(Notes(Path(notes)))
    options: dict[str, Any] = {"workers": Up(Path(up)), "lease": lease, "concurrency": 20, "grace_period": 1}
    async with connected(parts, executors, **options) as handler:
        if deaf:  # its leases run out while it works, and it does not know: only the server can refuse what it says
            handler.backend.keeper = Deaf  # type: ignore[method-assign]
        await handler.run()


if __name__ == "__main__":
    asyncio.run(main(**json.loads(sys.argv[1])))
