"""Whole flows on the memory backend, with workers that die, say things twice, and are late: the promises hold."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.flow.doubles import request_of
from tq.codec import decode_body, dumps, loads, message_of, stats_of, task_of
from tq.flow import FlowMiddleware, Reconciler, close_flows, plan_flow, plan_redrive, reopened_row, split_wide
from tq.ids import flow_id, join_id, step_id
from tq.memory import MemoryBackend
from tq.model import (
    Batch,
    Claim,
    Deferred,
    Delivery,
    Effects,
    Ended,
    Entity,
    Failed,
    FlowRequest,
    FlowState,
    Hold,
    Keep,
    Member,
    Outcome,
    Rearm,
    Remove,
    Settlement,
    StepStatus,
    Succeeded,
    Task,
    TaskStatus,
    Verdict,
)
from tq.ports import ProjectionQuery
from tq.testing import VirtualClock

LEASE = 30.0


class Mill:
    """A worker of a few lines, and everything that can go wrong with it."""

    def __init__(self, seed: int = 0, *, crashes: float = 0.0, failures: float = 0.0) -> None:
        self.clock = VirtualClock()
        self.backend = MemoryBackend(clock=self.clock)
        self.reconciler = Reconciler(self.backend, self.clock, quiet_after=5.0, members=700)
        assert self.backend.barrier is not None
        self.barrier = self.backend.barrier
        self.middleware = FlowMiddleware(self.barrier)
        self.random = Random(seed)
        self.crashes, self.failures = crashes, failures
        self.inner: dict[str, FlowRequest] = {}
        """Flows that tasks of type "nest" wait for, by task id."""
        self.joins: Counter[tuple[str, int]] = Counter()
        """How often the end of each join took effect."""
        self.told: dict[tuple[str, int], dict[str, Any]] = {}
        self.ran: Counter[str] = Counter()
        self.failing: set[str] = set()
        self._claims = 0

    async def start(self, request: FlowRequest) -> None:
        effects = plan_flow(request, now=self.clock.now(), origin=None, parent=None)
        preparatory, seal = split_wide(effects)
        for part in (*preparatory, seal):
            await self.backend.commit(Batch(effects=[part]))

    async def turn(self, limit: int = 50) -> int:
        """Claim, run, settle; return how many were handed out."""
        self._claims += 1
        claim = Claim(("default", "media"), limit, f"w:{self._claims}", LEASE)
        deliveries = (await self.backend.commit(Batch(), claim)).deliveries
        for delivery in deliveries:
            settlement, join = await self._run(delivery)
            if self.random.random() < self.crashes:
                continue  # it died before it could say so
            hop = await self.backend.commit(Batch(settlements=[settlement]))
            if join is not None and not hop.refused and isinstance(settlement.ending, Remove):
                self.joins[join] += 1
            again = await self.backend.commit(Batch(settlements=[settlement]))  # the answer was lost
            assert again.refused == [delivery.receipt]
            assert not again.closed
        return len(deliveries)

    async def _run(self, delivery: Delivery) -> tuple[Settlement, tuple[str, int] | None]:
        body = decode_body(delivery.message.body)
        task = task_of(body, delivery, loads(body["payload"]))
        self.ran[task.id] += 1
        join = None
        if task.flow_meta and task.flow_meta.get("is_join"):
            payload = cast("dict[str, Any]", await self.middleware.attach(task))
            join = (payload["flow_results"]["flow_id"], payload["flow_results"]["generation"])
            self.told[join] = payload["flow_results"]
            task = task_of(body, delivery, payload)
        return self._settle(delivery, task), join

    def _settle(self, delivery: Delivery, task: Task[Any]) -> Settlement:
        now, message = self.clock.now(), delivery.message
        outcome: Outcome = self._outcome(delivery, task)
        flows: tuple[FlowRequest, ...] = ()
        if isinstance(outcome, Failed) and not outcome.final and message.attempt < 1:
            again = Rearm(now + 1, message.attempt + 1, dumps({**stats_of(message), "retry_count": 1}))
            return Settlement(delivery.receipt, again, place=delivery.place, message=message)
        if task.id in self.inner and not isinstance(outcome, Failed):
            outcome, flows = Deferred(self.inner[task.id].id), (self.inner[task.id],)
        final = not isinstance(outcome, Deferred)
        keep = Keep(result_ttl=3600.0)
        member = bool(task.flow_meta) and not (task.flow_meta or {}).get("is_join")
        record = keep.record(message, delivery.fence, outcome, now, stats=message.stats, member=member)
        effects = self.middleware.follow(
            Ended(task=task, outcome=outcome, final=final, now=now, keep=keep, flows=flows, body=message.body)
        )
        effects += Effects(records=(record,) if record else ())
        ending = Hold(outcome.flow_id) if isinstance(outcome, Deferred) else Remove()
        return Settlement(delivery.receipt, ending, effects, delivery.place, message)

    def _outcome(self, delivery: Delivery, task: Task[Any]) -> Outcome:
        if delivery.cancelled:
            return Failed("cancelled", final=True, status=TaskStatus.CANCELLED)
        if task.id in self.failing or self.random.random() < self.failures:
            return Failed("boom")
        return Succeeded(dumps(task.id))

    async def until_quiet(self, turns: int = 400) -> None:
        """Work until nothing is left to do."""
        for _ in range(turns):
            busy = await self.turn(self.random.randint(1, 60))
            tick = await self.reconciler.tick_due()
            quiet = await self.reconciler.tick_quiet()
            live = await self.backend.queue.list(None, "", 1)
            if (
                not busy
                and not tick.more
                and not quiet.repairs
                and not live
                and not await self.barrier.list(active=True)
            ):
                return
            await self.clock.sleep(self.random.choice([0.1, 1.0, LEASE + 1]))
        raise AssertionError([await self.barrier.list(active=True), await self.backend.queue.list(None, "", 10)])

    async def state(self, id: str = "f") -> FlowState:
        return (await self.barrier.get([id]))[id]

    async def row(self, id: str) -> tuple[TaskStatus, str | None]:
        (row,) = (await cast("ProjectionQuery", self.backend.projections).get_projections([id])).values()
        return row.status, row.error


def check_join(mill: Mill, id: str, generation: int, total: int) -> dict[str, Any]:
    """The join took effect once and was told of every member."""
    assert mill.joins[id, generation] == 1
    told = mill.told[id, generation]
    assert [step["step_index"] for step in told["steps"]] == list(range(total))
    return told


# --- one after the other ----------------------------------------------------------------------------------------------


@pytest.mark.spec("INV-05", "FLOW-13")
async def test_a_flow_runs_through() -> None:
    mill = Mill()
    await mill.start(request_of(3, entity=Entity("Item", "i")))
    await mill.until_quiet()
    told = check_join(mill, "f", 0, 3)
    assert [step["result"] for step in told["steps"]] == [step_id("f", index) for index in range(3)]
    assert (await mill.state()).verdict is Verdict.COMPLETED
    assert await mill.row("f") == (TaskStatus.EXECUTED, None)


async def test_an_empty_flow_joins_at_once() -> None:
    mill = Mill()
    await mill.start(request_of(0))
    await mill.until_quiet()
    check_join(mill, "f", 0, 0)


async def test_a_wide_flow_runs_through() -> None:
    mill = Mill()
    await mill.start(request_of(1300))
    assert await mill.turn() == 0, "nothing runs before it is spread"
    await mill.until_quiet()
    check_join(mill, "f", 0, 1300)
    assert set(mill.ran.values()) == {1}


async def test_a_task_that_waits_for_its_flow_ends_with_it_also_as_a_step() -> None:
    mill = Mill()
    mill.inner = {step_id("f", 1): request_of(2, id="g"), step_id("g", 0): request_of(1, id="h")}
    await mill.start(request_of(2))
    await mill.until_quiet()
    assert await mill.backend.store.list(None, "", 10) == []
    told = check_join(mill, "f", 0, 2)
    assert [step["result"] for step in told["steps"]] == [step_id("f", 0), join_id("g", 0)]


async def test_a_deadline_ends_the_flow_and_the_flows_that_its_steps_wait_for() -> None:
    mill = Mill()
    mill.inner = {step_id("f", 0): request_of(1, id="g", members=[Member("resize", "elsewhere", b"1")])}
    await mill.start(request_of(1, timeout=100.0))
    await mill.turn()
    await mill.clock.sleep(101)
    await mill.reconciler.tick_due()
    assert (await mill.state("g")).verdict is Verdict.TIMED_OUT
    assert (await mill.state("f")).verdict is Verdict.TIMED_OUT
    await mill.turn()
    assert mill.joins == {("f", 0): 1, ("g", 0): 1}
    assert [place.queue for place in await mill.backend.queue.list(None, "", 10)] == ["elsewhere"]


async def test_a_cancel_reaches_waiting_members_and_inner_flows() -> None:
    mill = Mill()
    mill.inner = {step_id("f", 0): request_of(1, id="g", members=[Member("resize", "elsewhere", b"1")])}
    await mill.start(request_of(2, members=[Member("nest", "media", b"1"), Member("resize", "elsewhere", b"1")]))
    await mill.turn()
    await close_flows(mill.backend, [("f", Verdict.CANCELLED, "stop")], mill.clock.now())
    tick = await mill.reconciler.tick_due()
    assert [state.id for state in tick.closed] == ["g"], "events are told of it"
    assert tick.more
    await mill.reconciler.tick_due()
    assert (await mill.state("g")).verdict is Verdict.CANCELLED
    await mill.turn()
    assert [step["status"] for step in check_join(mill, "f", 0, 2)["steps"]] == ["cancelled", "cancelled"]
    assert {place.cancelled for place in await mill.backend.queue.list("elsewhere", "", 10)} == {True}


async def test_a_redrive_runs_what_failed_and_joins_once_more() -> None:
    mill = Mill()
    mill.failing = {step_id("f", 1)}
    await mill.start(request_of(3, entity=Entity("Item", "i"), policy="abort"))
    await mill.until_quiet()
    assert check_join(mill, "f", 0, 3)["aborted"] is True
    assert await mill.row("f") == (TaskStatus.FAILED, "flow_aborted")

    mill.failing.clear()
    state = await mill.state()
    now = mill.clock.now()
    effects = Effects(reopens=(plan_redrive(state, now),), projections=reopened_row(state, now))
    await mill.backend.commit(Batch(effects=[effects]))
    assert await mill.row("f") == (TaskStatus.PROCESSING, None)
    await mill.until_quiet()
    again = await mill.state()
    assert again.flow.generation == 1
    assert mill.joins["f", 1] == 1
    assert mill.joins["f", 0] == 1
    assert mill.told["f", 1]["steps"][1]["status"] == "success"


async def test_a_task_held_by_a_flow_that_knows_nothing_of_it_is_ended_in_the_end() -> None:
    """The first attempt started the flow and failed; the second waits for it, and the join is over."""
    mill = Mill()
    await mill.start(request_of(1, id="g"))
    await mill.until_quiet()
    mill.inner["p-1"] = request_of(1, id="g")
    await mill.backend.queue.add([message_of(Task[object](type="t", id="p-1"), b"1", mill.clock.now())])
    await mill.turn()
    (place,) = (await mill.backend.store.locate(["p-1"])).values()
    assert place.held_by == "g"
    await mill.until_quiet()
    assert mill.joins["g", 0] == 1
    record = (await mill.backend.store.records(["p-1"]))["p-1"]
    assert record.status is TaskStatus.EXECUTED


# --- everything at once -----------------------------------------------------------------------------------------------

REQUESTS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "count": st.integers(0, 12),
        "policy": st.sampled_from(["continue", "abort"]),
        "timeout": st.none() | st.floats(0.5, 120.0),
        "cancel_siblings": st.booleans(),
    }
)


@pytest.mark.spec("INV-05", "INV-06", "INV-07", "D-40", "D-43", "FLOW-23")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(REQUESTS, min_size=1, max_size=4),
    st.integers(0, 2**32),
    st.sampled_from([0.0, 0.1, 0.4]),
    st.sampled_from([0.0, 0.2, 0.6]),
    st.booleans(),
)
async def test_whatever_happens_every_flow_joins_once_with_an_entry_for_everybody(
    plans: list[dict[str, Any]],
    seed: int,
    crashes: float,
    failures: float,
    cancel: bool,  # noqa: FBT001 -- drawn
) -> None:
    mill = Mill(seed, crashes=crashes, failures=failures)
    requests = {
        f"f{number}": request_of(id=f"f{number}", entity=Entity("I", "i"), **plan) for number, plan in enumerate(plans)
    }
    for id, request in list(requests.items()):
        for index in range(len(request.members)):
            if mill.random.random() < 0.3:
                inner = flow_id(step_id(id, index), 0.0, 0, "0")
                requests[inner] = mill.inner[step_id(id, index)] = request_of(mill.random.randint(0, 3), id=inner)
        await mill.start(request)
    await mill.turn(5)
    if cancel:
        await close_flows(mill.backend, [("f0", Verdict.CANCELLED, "stop")], mill.clock.now())
    await mill.until_quiet()

    states = await mill.barrier.get(list(requests))
    for id, state in states.items():
        told = check_join(mill, id, 0, len(requests[id].members))
        recorded = {step.index: step for step in await mill.barrier.get_step_results(id)}
        assert state.verdict is not None
        assert told["verdict"] == state.verdict
        for step in told["steps"]:
            kept = recorded.get(step["step_index"])
            assert step["status"] == (kept.status if kept is not None else step["status"])
            assert kept is not None or step["status"] in {StepStatus.OPEN, StepStatus.CANCELLED}
            assert step.get("result") == (loads(kept.result) if kept is not None and kept.result else None)
        assert state.confirmed
        if id.startswith("f") and len(id) == 2:
            assert (await mill.row(id))[0].terminal
    assert not await mill.backend.store.list(None, "", 10)
    assert not await mill.barrier.due(mill.clock.now(), 10)
