"""Many flows at once, with cancels, deadlines, failures and workers that die: the invariants hold in any order."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random
from typing import Any

import pytest

from tests.stories.flows import Stage, barrier, projection
from tq import Actions, Entity, FlowStep, Join, NonRetryableError, Task, TaskHandler, connect, quorum, tolerate
from tq.model import FlowState
from tq.testing import VirtualClock

POLICIES: list[Any] = ["continue", "continue", "abort", tolerate(1), tolerate(0.5), quorum(1)]


class Storm:
    """Flows drawn by a seed, some with members that are flows themselves, and three workers, of which some die."""

    def __init__(self, url: str, clock: VirtualClock, seed: int) -> None:
        self.clock = clock
        self.random = Random(seed)
        self.stage = Stage()
        self.backend = connect(url, clock=clock)
        self.ended: Counter[str] = Counter()
        """How often each join recorded its end."""
        self.told: dict[str, list[dict[str, Any]]] = {}
        self.stage.executors.executor("any", queue="media", retries=1)(self._any)
        self.stage.executors.executor("end", retries=1, store_on_success=True)(self._end)

    async def _any(self, task: Task[Any], actions: Actions) -> None:
        orders = task.payload
        await asyncio.sleep(orders["lasts"])
        match orders["kind"]:
            case "flow":
                inner = actions.start_flow(self.members(orders["of"], 0), join=Join("end"), entity=Entity("Inner", "i"))
                actions.success_when(inner)
            case "fail":
                actions.fail(task, "no")
            case "never":
                raise NonRetryableError("never")
            case "second" if task.attempt == 0:
                actions.fail(task, "not yet")
            case _:
                actions.success(task, orders["lasts"])

    async def _end(self, task: Task[Any], actions: Actions) -> None:
        told = task.payload["flow_results"]
        self.told.setdefault(task.id, []).append(told)
        await asyncio.sleep(self.random.choice([0.0, 0.0, 3.0]))
        self.ended[task.id] += 1
        actions.success(task, {"verdict": told["verdict"]})

    def members(self, count: int, depth: int) -> list[FlowStep]:
        draw = self.random
        kinds = ["success"] * 4 + ["fail", "never", "second"] + (["flow"] if depth else [])
        return [
            FlowStep(
                "any",
                queue="media",
                payload={"kind": draw.choice(kinds), "lasts": draw.choice([0, 1, 5, 60]), "of": draw.randint(0, 3)},
                retry_after=2.0,
            )
            for _ in range(count)
        ]

    def worker(self) -> TaskHandler:
        return TaskHandler.on(self.backend, self.stage.executors, clock=self.clock, concurrency=20)

    async def blow(self) -> dict[str, FlowState]:
        """Start everything, let it rage, wait until all is quiet; return every flow."""
        draw, workers = self.random, [self.worker() for _ in range(3)]
        producer = self.worker()
        for worker in workers:
            await worker.start()
        started: list[str] = []
        for number in range(12):
            count = draw.randint(0, 6)
            policy = draw.choice(POLICIES) if count else "continue"
            started.append(
                await producer.start_flow(
                    self.members(count, 1),
                    join=Join("end"),
                    failure_policy=policy,
                    cancel_siblings=draw.random() < 0.5,
                    timeout=draw.choice([None, None, 5.0, 30.0, 60.0]),
                    entity=Entity("Flow", f"{number}"),
                )
            )
            await self.clock.sleep(draw.choice([0.0, 0.0, 1.0, 4.0]))
            if draw.random() < 0.3:
                await producer.flow(draw.choice(started)).cancel("why not")
            if draw.random() < 0.2:
                await workers.pop(0).kill()
                workers.append(self.worker())
                await workers[-1].start()
        states: dict[str, FlowState] = {}
        for _ in range(60):
            await self.clock.sleep(30)
            states = {state.id: state for state in await barrier(producer).list(limit=1000)}
            counts = (await self.backend.queue.counts()).values()
            if not any(sum(kinds.values()) for kinds in counts) and all(it.confirmed for it in states.values()):
                break
        else:
            raise AssertionError([str(await producer.flow(it).explain()) for it in states])
        for handler in (*workers, producer):
            await handler.close()
        return states


@pytest.mark.spec("INV-05", "INV-06", "INV-07", "D-40", "D-43", "D-47", "D-50", "FLOW-23")
@pytest.mark.parametrize("seed", range(12))
async def test_whatever_comes_together_each_flow_joins_once_and_its_row_is_final(
    url: str, clock: VirtualClock, seed: int
) -> None:
    storm = Storm(url, clock, seed)
    states = await storm.blow()
    assert len(states) >= 12
    assert storm.backend.barrier is not None
    for id, state in states.items():
        join = state.flow.join.id
        assert state.verdict is not None
        runs = storm.told[join]
        assert runs == [runs[0]] * len(runs), "each run of a join is told the same"
        assert storm.ended[join] >= 1
        told = runs[0]
        assert told["verdict"] == state.verdict
        recorded = {step.index: step for step in await storm.backend.barrier.get_step_results(id)}
        assert [it["step_index"] for it in told["steps"]] == list(range(state.flow.total)), "an entry for everybody"
        for entry in told["steps"]:
            kept = recorded.get(entry["step_index"])
            absent = "cancelled" if state.flow.cancel_siblings or state.verdict == "cancelled" else "open"
            assert entry["status"] == (absent if kept is None else kept.status), "just what was recorded by the verdict"
        assert len(recorded) == state.flow.total - state.remaining
        handler = storm.worker()
        row = await projection(handler, id)
        assert row is not None
        expected = {"completed": "executed", "cancelled": "cancelled"}.get(str(state.verdict), "failed")
        assert str(row.status) == expected
    records = await storm.backend.store.records([state.flow.join.id for state in states.values()])
    assert len(records) == len(states), "each join has one ending"
    await storm.backend.close()
