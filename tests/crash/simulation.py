"""A small world made of a seed: several workers, a random graph of tasks, and everything that can go wrong at once.

Workers die, stand still and lose answers; servers are away for seconds; clocks differ; bodies last longer than leases;
a poison task kills whoever runs it; an operator cancels and redrives. After a while nothing goes wrong any more, all
comes to rest, and what must be true is checked. The same seed is the same world.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.crash.homes import HOMES
from tests.crash.matrix import LEASE, at_rest
from tests.crash.scenarios import Stage, Step, executors_of
from tq import Entity, FlowStep, Join, Task, TaskHandler
from tq.clock import to_datetime
from tq.errors import TqError
from tq.runner.settings import WorkerSettings
from tq.testing import (
    Account,
    Fault,
    Faults,
    ProcessDiedError,
    Snapshot,
    VirtualClock,
    changed_endings,
    plans,
    run_virtual,
    take_snapshot,
    violations,
)
from tq.testing.supervisor import Supervisor

__all__ = ["World", "simulate"]

ROUGH = 30.0
"""Seconds for which things go wrong."""
OFTEN = ["memory", "servers", "stream", "memory", "servers", "stream", "sqlite", "memory+sqlite"]


class World(NamedTuple):
    """How one simulation went."""

    seed: int
    home: str
    deaths: int
    faults: int
    executions: int
    joins: int
    found: list[str]

    def __str__(self) -> str:
        return "\n    ".join([f"make simulate SEEDS={self.seed}  # on {self.home}", *self.found])


def simulate(seed: int, folder: Path) -> World:
    """Play the world of this seed to its end."""
    return run_virtual(_World(seed, folder).play())


class _World:
    def __init__(self, seed: int, folder: Path) -> None:
        self.seed = seed
        self.dice = random.Random(f"world {seed}")
        self.clock = VirtualClock()
        self.name = self.dice.choice(OFTEN)
        self.home = HOMES[self.name](self.clock, folder)
        self.account = Account()
        self.deadly = self.dice.random() < 0.7
        self.poison = self.dice.random() < 0.3
        self.likely = self.dice.choice([0.0, 0.02, 0.05, 0.1])
        self.rough = self.clock.now() + ROUGH
        self.outage = plans.away(
            self.clock,
            since := self.clock.now() + self.dice.uniform(0.0, ROUGH / 2),
            since + self.dice.choice([0.0, 1.0, 8.0, 15.0]),
            port=self.dice.choice(["", "backend", "queue", "store", "barrier"]),
        )
        self.stage = Stage(self.clock, self.account, self._handler, self.home)
        self.workers = [self._worker(number) for number in range(self.dice.randint(1, 3))]

    # --- workers ------------------------------------------------------------------------------------------------------

    def _worker(self, number: int) -> Supervisor:
        skews = [0.0] if self.name == "stream" else [0.0, 0.0, -2.0, 3.0]  # that queue is given what is due, only
        clock = VirtualClock(skew=self.dice.choice(skews))
        room, slow = self.dice.choice([1, 3, 100]), self.dice.choice([0.0, 0.01, 0.3])
        blind = self.dice.random() < 0.3  # it cannot renew: what takes longer than a lease is another's, too

        def life(count: int) -> Faults:
            chance = random.Random(f"world {self.seed} worker {number} life {count}")
            deaths = [Fault.DIE_BEFORE, Fault.DIE_AFTER] if self.deadly else []
            thrown = plans.dice(chance, self.likely, [*list(Fault)[:4], *deaths])
            unrenewed = plans.on("keeper.renew", Fault.BEFORE, times=1_000 * blind)
            plan = plans.either(self.outage, plans.until(self.clock, self.rough, plans.either(thrown, unrenewed)))
            return Faults(plan, clock=self.clock, hang=chance.uniform(1.0, 3 * LEASE), latency=_latency(chance, slow))

        def make(faults: Faults) -> TaskHandler:
            executors = executors_of(self.stage, faults)
            settings = WorkerSettings(lease=LEASE, concurrency=room, grace_period=5.0)
            return TaskHandler(
                executors=executors, clock=clock, settings=settings, heartbeat_interval=60.0, **self.home.parts(faults)
            )

        return Supervisor(make, life, clock=self.clock, pause=self.dice.uniform(0.1, 5.0))

    async def _handler(self) -> TaskHandler:
        """Return the handler of some worker that lives."""
        while True:
            worker = self.dice.choice(self.workers)
            if worker.handler is not None and not worker.lives[-1].death.is_set():
                return worker.handler
            await self.clock.sleep(0.1)

    # --- tasks --------------------------------------------------------------------------------------------------------

    def _step(self, depth: int) -> tuple[str, Step]:
        kind = self.dice.choices(["work", "group", "long", "fan"], [8, 2, 1, 2 if depth else 0])[0]
        step: Step = {}
        match kind:
            case "work":
                step["lasts"] = self.dice.choice([0.0, 0.1, 0.1, 1.0, 5.0, 2 * LEASE])
                step["fails"] = self.dice.choice([0, 0, 0, 1, 2, 9])
                step["children"] = self.dice.choice([0, 0, 0, 1, 3])
                if self.dice.random() < 0.1:
                    step["later"] = self.dice.choice([1.0, 1.0, 20.0, 150.0])
                if self.dice.random() < 0.1:
                    step["again"] = self.dice.uniform(0.0, 10.0)
            case "long":
                step["lasts"] = self.dice.choice([1.0, 4.0, 3 * LEASE])
            case "fan":
                step |= self._fan(depth - 1)
            case _:
                pass
        return kind, step

    def _fan(self, depth: int) -> Step:
        width = self.dice.choice([0, 1, 2, 3, 5])
        options: Step = {"cancel_siblings": self.dice.random() < 0.4}
        match self.dice.randrange(4):
            case 0:
                options["failure_policy"] = "abort"
            case 1:
                options["tolerate"] = self.dice.randint(0, 2)
            case 2 if width:
                options["quorum"] = self.dice.randint(1, width)
            case _:
                pass
        if self.dice.random() < 0.3:
            options["timeout"] = self.dice.choice([0.5, 5.0, 20.0])
        steps = [self._step(depth) for _ in range(width)]
        entity = {"entity": f"f{self.dice.random()}"} if self.dice.random() < 0.5 else {}
        return {"steps": steps, "options": options, "waits": self.dice.random() < 0.5, **entity}

    def _task(self, number: int) -> Task[Any]:
        kind, step = self._step(depth=2)
        soon = to_datetime(self.clock.now() + self.dice.choice([0.0, 0.0, 0.0, 5.0, 15.0]))
        entity = Entity("Task", f"t{number}") if self.dice.random() < 0.5 else None
        return Task(type=kind, id=f"t{number}", payload=step, entity=entity, execute_at=soon)

    # --- what happens -------------------------------------------------------------------------------------------------

    async def play(self) -> World:
        try:
            async with self._working():
                rough = await self._rough()
                await at_rest(self.stage)
                snapshot = await take_snapshot(self.home.backend, self.account, self.home.rows)
        finally:
            if self.home.close is not None:
                await self.home.close()
        found = [*violations(snapshot, self.account), *changed_endings(rough.records, snapshot.records)]
        lives = [faults for worker in self.workers for faults in worker.lives]
        return World(
            seed=self.seed,
            home=self.name,
            deaths=sum(worker.deaths for worker in self.workers),
            faults=sum(len(faults.done) for faults in lives),
            executions=len(self.account.began),
            joins=len(self.account.joined),
            found=[*found, *self._convicted(snapshot)],
        )

    @asynccontextmanager
    async def _working(self) -> AsyncGenerator[None]:
        for worker in self.workers:
            await worker.start()
        asking = asyncio.create_task(self._ask())
        try:
            yield
        finally:
            asking.cancel()
            await asyncio.wait([asking])
            for worker in self.workers:
                await worker.stop()

    async def _rough(self) -> Snapshot:
        """Let the time pass in which things go wrong; return what had ended by then."""
        await self.clock.sleep(max(self.rough - self.clock.now(), 0.0))
        return await take_snapshot(self.home.backend, self.account, self.home.rows)

    async def _ask(self) -> None:
        """Add tasks and flows, and meddle with them."""
        tasks = [self._task(number) for number in range(self.dice.randint(1, 8))]
        if self.poison:
            tasks.insert(self.dice.randrange(len(tasks) + 1), Task(type="poison", id="poison", payload={}))
        for task in tasks:
            await self.stage.add(task)
            await self.clock.sleep(self.dice.choice([0.0, 0.0, 1.0, 5.0]))
        if self.dice.random() < 0.5:
            steps = [FlowStep(kind, payload=step) for kind, step in (self._step(0) for _ in range(3))]
            await self.stage.flow(steps, Join("join"), timeout=self.dice.choice([None, 5.0]))
        for _ in range(self.dice.randint(0, 4)):
            await self.clock.sleep(self.dice.uniform(0.0, 8.0))
            await self._meddle()
        self.stage.over = True

    async def _meddle(self) -> None:
        handler = await self._handler()
        barrier = self.home.backend.barrier
        flows = [] if barrier is None else sorted(state.id for state in await barrier.list(limit=100))
        tasks = sorted({*self.account.accepted} - {"poison"})
        try:
            match self.dice.randrange(4):
                case 0 if flows:
                    await handler.flow(self.dice.choice(flows)).cancel("no longer wanted")
                case 1 if flows:
                    await handler.flow(self.dice.choice(flows)).redrive()
                case 2 if tasks:
                    await handler.task(self.dice.choice(tasks)).cancel()
                case _ if tasks:
                    await handler.dead.replay(self.dice.choice(tasks))
                case _:
                    pass
        except (TqError, ProcessDiedError):  # it is over, or its join runs, or this worker is away: so it stays
            pass

    def _convicted(self, snapshot: Snapshot) -> list[str]:
        """Where only the poison kills, nobody else is convicted for it."""
        found = [it for it in snapshot.records.values() if "alone" in (it.error or "") and it.type != "poison"]
        return [] if self.deadly else [f"{it.task_id} ({it.type}) was convicted: {it.error}" for it in found]


def _latency(chance: random.Random, slow: float) -> Any:
    return (lambda: chance.random() * slow) if slow else None
