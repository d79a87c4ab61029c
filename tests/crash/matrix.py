"""Plays a scenario to its quiet end with one fault at one call, and holds the servers to what must be true then."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

from tests.crash.homes import EVERY, Home
from tests.crash.scenarios import SCENARIOS, Scenario, Stage, executors_of
from tq import TaskHandler
from tq.clock import Clock
from tq.runner.settings import WorkerSettings
from tq.testing import (
    Account,
    Fault,
    Faults,
    Plan,
    VirtualClock,
    changed_endings,
    plans,
    run_virtual,
    take_snapshot,
    violations,
)
from tq.testing.supervisor import Supervisor

__all__ = ["NOT_PLAYED", "ONE_IN", "Case", "Result", "play", "strike"]

LONGEST = 1200.0
"""Seconds within which everything must be quiet, whatever went wrong."""
LEASE = 6.0
HANG = 10.0
"""Seconds for which a call stands still: longer than a lease."""
AGAIN = {Fault.DIE_BEFORE: 1, Fault.DIE_AFTER: 1, Fault.HANG: 3}
"""How often a body may run once more because of a fault; a keeper that hangs misses more than one lease."""
ONE_IN = {
    "memory": 1,
    "sqlite": 1,
    "redis": 3,
    "mongo": 40,
    "servers": 2,
    "stream": 4,
    "kinesis": 12,
    "memory+sqlite": 4,
}
"""Of so many calls each fault strikes one; together, faults strike all. Parts of several servers make many calls."""
OFTEN = {
    "barrier.due": 6,
    "barrier.quiet": 6,
    "queue.announce": 6,
    "queue.announced": 6,
    "store.uncarried": 6,
    "store.purge": 6,
    "barrier.purge": 6,
    "queue.claim": 20,
    "store.claim": 20,
    "keeper.renew": 6,
    "tasks.find": 60,
    "tasks.update": 20,
    "meta.find": 6,
    "flows.find": 20,
    "workers.find": 3,
    "workers.write": 3,
    "workers.delete": 3,
    "chunks.find": 6,
    "outcomes.find": 6,
    "notes.find": 6,
    "parts.find": 3,
}
"""Calls that come again and again, whether or not anything is to be done; so many of each are struck."""


NOT_PLAYED = {("kinesis", "cancel"), ("kinesis", "reconciling")}
"""What a stream does not promise: that a cancel finds a task which nobody has read, and that somebody who reads no
shard may claim from it."""


class Case(NamedTuple):
    """What is played where, and which call goes wrong how; `number` 0 is nothing."""

    home: str
    scenario: str
    fault: Fault = Fault.BEFORE
    number: int = 0

    def __str__(self) -> str:
        return f"python -m tests.crash {self.home} '{self.scenario}' {self.fault} {self.number}"


class Result(NamedTuple):
    """How a case went."""

    case: Case
    calls: list[str]
    """What the first process called."""
    struck: str
    """The call that went wrong; empty where it was never made."""
    runs: Counter[str]
    """How often the body of each task began."""
    found: list[str]
    """What is not as it must be."""

    def __str__(self) -> str:
        return "\n    ".join([f"{self.case}  # {self.struck}", *self.found])


def strike(home: str, scenario: str, fault: Fault, folder: Path, *, every: int = 1) -> list[Result]:
    """Play a scenario undisturbed, then once for each of its calls, or for one in so many, with this fault.

    Which calls are left out depends on the fault: together, faults meet all of them.
    """
    calm = run_virtual(play(Case(home, scenario), folder))
    numbers = kill_points(calm.calls)[list(Fault).index(fault) % every :: every]
    results = [run_virtual(play(Case(home, scenario, fault, number), folder)) for number in numbers]
    for result in results:
        result.found.extend(_too_often(result, calm))
    return [calm, *results]


def _too_often(result: Result, calm: Result) -> list[str]:
    """Tell which bodies ran more often than what went wrong explains.

    What a member starts bears ids that tell when the member was made: later, where something went wrong before.
    """
    scenario, case = SCENARIOS[result.case.scenario], result.case
    if not scenario.keeps:
        return []
    extra = AGAIN.get(case.fault, 0)
    runs, usual = result.runs, Counter(calm.runs)
    others = max((n for id, n in usual.items() if id not in runs), default=0)
    usual.update({id: others for id in runs if id not in usual})
    return [f"task {id} ran {n} times, undisturbed {usual[id]}" for id, n in runs.items() if n > usual[id] + extra]


async def play(case: Case, folder: Path) -> Result:
    """Play one case to its end, in virtual time."""
    clock = VirtualClock()
    scenario, home = SCENARIOS[case.scenario], EVERY[case.home](clock, folder)
    account = Account()
    first = Faults(_plan(case, scenario), clock=clock, hang=HANG)
    try:
        with patch("tq.flow.plan.WIDTH", scenario.width):
            async with staged(scenario, home, clock, account, first) as stage:
                await at_rest(stage)
                rested = await take_snapshot(home.backend, account, home.rows)
                if case.number and case.fault is Fault.HANG:
                    await clock.sleep(HANG)  # what hung comes back to find that all is over
                snapshot = await take_snapshot(home.backend, account, home.rows)
    finally:
        if home.close is not None:
            await home.close()
    found = [*violations(snapshot, account), *scenario.surprises(snapshot)]
    found += changed_endings(rested.records, snapshot.records)
    struck = next((call.name for call, _ in first.done if call.number == case.number), "")
    return Result(case, first.calls, struck, Counter(it.task_id for it in account.began), found)


def _plan(case: Case, scenario: Scenario) -> Plan:
    struck = plans.at(case.number, case.fault)
    return struck if scenario.keeps else plans.either(struck, plans.on("keeper.renew", Fault.BEFORE, times=1_000))


@asynccontextmanager
async def staged(
    scenario: Scenario, home: Home, clock: Clock, account: Account, first: Faults
) -> AsyncGenerator[Stage]:
    """Start the process that will be struck, under a supervisor; and one more beside it, from the fault on."""

    def make(faults: Faults) -> TaskHandler:
        # One that is to be overtaken has no room to claim its own task back.
        room = 100 if scenario.keeps or faults is not first else 1
        settings = WorkerSettings(lease=LEASE, concurrency=room)
        parts = home.parts(faults)
        return TaskHandler(executors=executors, clock=clock, settings=settings, heartbeat_interval=60.0, **parts)

    async def living() -> TaskHandler:
        while supervisor.handler is None or supervisor.lives[-1].death.is_set():
            await clock.sleep(0.1)
        return supervisor.handler

    stage = Stage(clock, account, living, home)
    executors = executors_of(stage)
    supervisor = Supervisor(make, lambda life: first if life == 0 else Faults(clock=clock), clock=clock)
    beside = Supervisor(make, clock=clock)
    async with supervisor:
        helping = asyncio.create_task(_come_in(beside, scenario, first, clock))
        playing = asyncio.create_task(_played(scenario, stage))
        try:
            yield stage
            await playing
        finally:
            helping.cancel()
            playing.cancel()
            await asyncio.wait([helping, playing])
            await beside.stop()


async def _played(scenario: Scenario, stage: Stage) -> None:
    await scenario.play(stage)
    stage.over = True


async def _come_in(beside: Supervisor, scenario: Scenario, first: Faults, clock: Clock) -> None:
    while scenario.keeps and not first.done:
        await clock.sleep(0.25)
    await beside.start()


async def at_rest(stage: Stage) -> None:
    """Return when the play is over and nothing is left to do, or when that takes too long."""
    last = stage.clock.now() + LONGEST
    while stage.clock.now() < last:
        await stage.clock.sleep(1.0)
        if stage.over and await quiet(stage.home):
            return


async def quiet(home: Home) -> bool:
    """Tell whether nothing waits, runs, is held, open, unconfirmed or in the outbox."""
    for part in (home.backend.queue, home.backend.store):
        if any(any(kinds.values()) for kinds in (await part.counts()).values()):
            return False
    if home.backend.barrier is not None:
        for state in await home.backend.barrier.list(limit=100):
            if state.verdict is None or not state.confirmed:
                return False
    return not (await home.backend.store.stats()).get("outgoing", 0)


def kill_points(calls: list[str]) -> list[int]:
    """Return the numbers of the calls to strike: all, but for those that only ask once more whether there is work."""
    numbers: list[int] = []
    seen: Counter[str] = Counter()
    for number, name in enumerate(calls, start=1):
        seen[name] += 1
        if seen[name] <= OFTEN.get(name, number):
            numbers.append(number)
    return numbers
