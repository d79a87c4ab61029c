"""One run under fire: what is to be done, who is shot meanwhile, and what must be so when all is quiet."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.crash.connected import connected
from tests.crash.fired_upon import JOINS, KINDS, STEPS, Notes
from tests.crash.firing import Workers, fire, quiet
from tests.crash.targets import Target
from tq import Entity, FlowStep, Join, Task, TaskHandler
from tq.errors import BackendError
from tq.testing import Account, take_snapshot, violations

__all__ = ["Load", "under_fire"]

PORTION = 1000
"""Tasks that are added in one call."""
DEADLINES = (None, 3.0, 60.0)
ODD = (0, 1, 5, 700)
"""Members of flows that are seldom so narrow, or so wide: 700 are more than one commit writes."""
STEPS_OF_A_FLOW = 20


@dataclass(frozen=True, kw_only=True)
class Load:
    """How much is to be done, by how many, and how often they are shot at."""

    tasks: int = 1500
    """Tasks that stand for themselves; a tenth as many more start flows, which may be nested."""
    flows: int = 3
    """Flows of twenty steps that are started from outside, beside a few odd ones."""
    added: int = 100
    """Times that tasks and a flow are added later."""
    workers: int = 3
    shots: int = 50

    def times(self, size: float) -> Load:
        """Return so much of it, for a target that can do no more."""
        return replace(self, tasks=round(self.tasks * size), added=round(self.added * size))


def drawn(dice: random.Random, count: int) -> list[Task[Any]]:
    """Return so many tasks that stand for themselves."""
    entities = [None, Entity("Item", "i")]
    return [Task(type=dice.choice(KINDS), payload={"n": n}, entity=dice.choice(entities)) for n in range(count)]


def widths(load: Load) -> Iterator[tuple[int, float | None]]:
    """Yield how many steps each flow from outside has, and its deadline."""
    for width in ODD:
        for deadline in DEADLINES if width <= load.tasks else ():
            yield width, deadline
    for number in range(load.flows):
        yield STEPS_OF_A_FLOW, DEADLINES[number % len(DEADLINES)]


async def given(handler: TaskHandler, account: Account, dice: random.Random, load: Load) -> None:
    """Add what is to be done before anybody is shot."""
    tasks = drawn(dice, load.tasks)
    tasks += [Task[Any](type="parent", payload={"depth": dice.randrange(3)}) for _ in range(load.tasks // 10)]
    for start in range(0, len(tasks), PORTION):
        account.accept(*await handler.add_tasks(tasks[start : start + PORTION]))
    for width, deadline in widths(load):
        steps = [FlowStep("step", queue=STEPS, payload={"n": number}) for number in range(width)]
        join, entity = Join("join", queue=JOINS), Entity("Batch", f"{width}")
        account.started(await handler.start_flow(steps, join=join, timeout=deadline, entity=entity))


async def go_on_adding(handler: TaskHandler, account: Account, dice: random.Random, times: int) -> None:
    """Add more while everybody is shot at: what is acknowledged counts."""
    for _ in range(times):
        await asyncio.sleep(0.2)
        try:
            account.accept(*await handler.add_tasks(drawn(dice, 20)))
            steps = [FlowStep("step", queue=STEPS, payload={"n": number}) for number in range(dice.randrange(9))]
            account.started(await handler.start_flow(steps, join=Join("join", queue=JOINS)))
        except BackendError:
            continue


async def under_fire(target: Target, notes: Path, dice: random.Random, load: Load) -> tuple[list[str], str]:
    """Let workers do it all while they, and their servers, are shot at; return what is wrong, and what happened."""
    load = load.times(target.size)
    account = Notes(notes).account
    async with connected(target.parts) as handler:
        for queue in ("default", STEPS, JOINS):
            handler.executors.queue(queue)
        began = time.monotonic()
        await given(handler, account, dice, load)
        workers = Workers(target, notes, load.workers)
        adding = asyncio.create_task(go_on_adding(handler, account, random.Random(dice.random()), load.added))
        try:
            shots = await fire(handler, workers, target, account, dice, load.shots)
            adding.cancel()
            fired = time.monotonic()
            await quiet(handler, workers)
            calm = time.monotonic()
        finally:
            adding.cancel()
            workers.end()
        told = Account.gathered((await asyncio.to_thread(notes.read_text)).splitlines())
        snapshot = await take_snapshot(handler.backend, told)
    again = len(told.began) - len({(it.task_id, it.generation, it.attempt) for it in told.began})
    happened = (
        f"{dict(shots)}; {len(told.accepted)} tasks and {len(told.flows)} flows given, {len(snapshot.records)} endings,"
        f" {len(snapshot.flows)} flows, {len(told.began)} executions, {again} of them once more, {len(told.joined)}"
        f" joins told; quiet {calm - fired:.0f} s after the last shot, {calm - began:.0f} s after the beginning"
    )
    found = violations(snapshot, told)
    if not again:
        found.append("nobody was hit")
    return found, happened
