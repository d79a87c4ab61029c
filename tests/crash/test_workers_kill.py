"""Workers are killed, frozen past their leases and stopped, their server is struck: nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

from tests.crash.connected import connected
from tests.crash.fired_upon import JOINS, KINDS, STEPS, Notes
from tests.crash.firing import Workers, fire, quiet
from tests.crash.targets import TARGETS, Target
from tq import Entity, FlowStep, Join, Task, TaskHandler
from tq.errors import BackendError
from tq.testing import Account, take_snapshot, violations

pytestmark = [pytest.mark.crash, pytest.mark.realtime]

TASKS = 1500
PARENTS = 150
ADDED = 100
"""Times that tasks and a flow are added later."""
SHOWN = 20
"""Faults that are told of: of one fault there may be hundreds."""
WIDTHS = (0, 1, 5, 20, 700)
"""Members of flows that are started from outside: 700 are more than one commit writes."""


def drawn(dice: random.Random, count: int) -> list[Task[Any]]:
    """Return so many tasks that stand for themselves."""
    entities = [None, Entity("Item", "i")]
    return [Task(type=dice.choice(KINDS), payload={"n": n}, entity=dice.choice(entities)) for n in range(count)]


async def given(handler: TaskHandler, account: Account, dice: random.Random) -> None:
    """Add what is to be done before anybody is shot."""
    tasks = drawn(dice, TASKS)
    tasks += [Task[Any](type="parent", payload={"depth": dice.randrange(3)}) for _ in range(PARENTS)]
    account.accept(*await handler.add_tasks(tasks))
    for width in WIDTHS:
        for timeout in (None, 3.0, 60.0):
            steps = [FlowStep("step", queue=STEPS, payload={"n": number}) for number in range(width)]
            entity = Entity("Batch", f"{width}")
            account.started(
                await handler.start_flow(steps, join=Join("join", queue=JOINS), timeout=timeout, entity=entity)
            )


async def go_on_adding(handler: TaskHandler, account: Account, dice: random.Random) -> None:
    """Add more while everybody is shot at: what is acknowledged counts."""
    for _ in range(ADDED):
        await asyncio.sleep(0.2)
        try:
            account.accept(*await handler.add_tasks(drawn(dice, 20)))
            steps = [FlowStep("step", queue=STEPS, payload={"n": number}) for number in range(dice.randrange(9))]
            account.started(await handler.start_flow(steps, join=Join("join", queue=JOINS)))
        except BackendError:
            continue


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", TARGETS)
async def test_workers_that_die_lose_nothing_and_double_nothing(name: str, tmp_path: Path) -> None:
    seed = int(os.environ.get("TQ_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
    print(f"TQ_SEED={seed}")
    with TARGETS[name](tmp_path) as target:
        await under_fire(target, tmp_path / "notes", random.Random(seed), f"TQ_SEED={seed}")


async def under_fire(target: Target, notes: Path, dice: random.Random, words: str) -> None:
    account = Notes(notes).account
    async with connected(target.parts) as handler:
        for queue in ("default", STEPS, JOINS):
            handler.executors.queue(queue)
        await given(handler, account, dice)
        workers = Workers(target, notes, 3)
        adding = asyncio.create_task(go_on_adding(handler, account, random.Random(dice.random())))
        try:
            shots = await fire(handler, workers, target, account, dice)
            adding.cancel()
            began = time.monotonic()
            await quiet(handler, workers)
            calm = time.monotonic() - began
        finally:
            adding.cancel()
            workers.end()
        told = Account.gathered((await asyncio.to_thread(notes.read_text)).splitlines())
        snapshot = await take_snapshot(handler.backend, told)
    found = violations(snapshot, told)
    assert not found, "\n  ".join([f"{words}: {len(found)} faults", *found[:SHOWN]])
    again = len(told.began) - len({(it.task_id, it.generation, it.attempt) for it in told.began})
    print(
        f"{dict(shots)}; {len(snapshot.records)} endings, {len(snapshot.flows)} flows, {len(told.began)} executions, "
        f"{again} of them once more, {len(told.joined)} joins told; quiet after {calm:.0f} s"
    )
    assert again > 0, "nobody was hit"
