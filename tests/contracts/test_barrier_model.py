"""A barrier is a set of members and a verdict: whatever is called in whatever order, memory and SQLite are that set."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, NamedTuple, TypeVar, cast

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tq.memory import MemoryBackend
from tq.model import Flow, FlowState, Mark, Message, Reopen, StepStatus, Verdict, decide
from tq.ports import FlowBarrierProvider
from tq.testing import VirtualClock, VirtualLoop
from tq_sqlite import SqliteBackend, SqliteSettings

T = TypeVar("T")
STATUSES = st.sampled_from([StepStatus.SUCCESS, StepStatus.FAIL, StepStatus.CANCELLED])
NAMES = st.sampled_from(["f", "g"])


class Model:
    """What the port promises of one flow, in as few words as there are."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.members: dict[int, tuple[StepStatus, bytes | None]] = {}
        self.belated: dict[int, tuple[StepStatus, bytes | None]] = {}
        self.generation = 0
        self.verdict: Verdict | None = None
        self.confirmed = False
        self.judge()

    @property
    def succeeded(self) -> int:
        return sum(status is StepStatus.SUCCESS for status, _ in self.members.values())

    def judge(self) -> None:
        failed, flow = len(self.members) - self.succeeded, self.flow
        remaining = flow.total - len(self.members)
        self.verdict = decide(
            remaining=remaining, succeeded=self.succeeded, failed=failed, allowed=flow.allowed, needed=flow.needed
        )

    def mark(self, mark: Mark) -> None:
        success = mark.status is StepStatus.SUCCESS
        if not 0 <= mark.index < self.flow.total:
            return
        if self.verdict is not None:
            if success:
                self.belated.setdefault(mark.index, (mark.status, mark.result))
        elif success or mark.generation >= self.generation:
            self.members.setdefault(mark.index, (mark.status, mark.result))

    def reopen(self, generation: int) -> list[int] | None:
        if not self.confirmed or generation != self.generation + 1:
            return None
        kept = {index: it for index, it in self.members.items() if it[0] is StepStatus.SUCCESS}
        self.members, self.belated = self.belated | kept, {}
        self.generation, self.confirmed = generation, False
        self.judge()
        return [index for index in range(self.flow.total) if index not in self.members]


class Seen(NamedTuple):
    """How a flow stands, by model or by port."""

    members: dict[int, tuple[StepStatus, bytes | None]]
    counts: tuple[int, int, int]
    generation: int
    verdict: Verdict | None
    answer: int

    @classmethod
    def of(cls, model: Model) -> Seen:
        total, succeeded, known = model.flow.total, model.succeeded, len(model.members)
        answer = total - known if model.verdict is None else -1 if model.confirmed else 0
        counts = total - known, succeeded, known - succeeded
        return cls(model.members, counts, model.generation, model.verdict, answer)


class Barriers(RuleBasedStateMachine):
    """The model, and two barriers to which the same is done."""

    @initialize()
    def opened(self) -> None:
        self.runner = asyncio.Runner(loop_factory=VirtualLoop)
        self.clock = VirtualClock()
        self.sqlite = SqliteBackend(SqliteSettings(), self.clock)
        parts = [MemoryBackend(clock=self.clock).barrier, self.sqlite.barrier]
        self.barriers = [cast("FlowBarrierProvider", part) for part in parts]
        self.models: dict[str, Model] = {}

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.runner.run(self.sqlite.close())
            self.runner.close()

    def wait(self, call: Awaitable[T]) -> T:
        async def answer() -> T:
            return await call

        return self.runner.run(answer())

    @rule(name=NAMES, total=st.integers(0, 4), allowed=st.integers(0, 4), needed=st.integers(0, 4))
    def init(self, name: str, total: int, allowed: int, needed: int) -> None:
        needed = min(max(needed, 1), total) if total else 0
        join = Message(f"{name}.join", "default", "join", b"", 0.0)
        flow = Flow(id=name, total=total, allowed=allowed, needed=needed, join=join, started_at=self.clock.now())
        model = self.models.setdefault(name, Model(flow))
        for barrier in self.barriers:
            [state] = self.wait(barrier.init_barrier([flow]))
            assert (state.flow.total, state.answer) == (model.flow.total, Seen.of(model).answer), "never reset"

    @rule(marks=st.lists(st.tuples(NAMES, st.integers(-1, 4), STATUSES, st.integers(0, 2)), min_size=1, max_size=6))
    def mark(self, marks: list[tuple[str, int, StepStatus, int]]) -> None:
        made: list[Mark] = []
        for number, (name, index, status, generation) in enumerate(marks):
            result = b"%d" % number if status is StepStatus.SUCCESS else None
            made.append(Mark(name, index, status, generation, result))
        for mark in made:
            if mark.flow_id in self.models:
                self.models[mark.flow_id].mark(mark)
        for name in {mark.flow_id for mark in made} & {*self.models}:
            if self.models[name].verdict is None:
                self.models[name].judge()
        told = {name: Seen.of(self.models[name]).answer for name in {mark.flow_id for mark in made} & {*self.models}}
        for barrier in self.barriers:
            states = self.wait(barrier.batch_decrement_and_check(made))
            assert {state.id: state.answer for state in states} == told

    @rule(name=NAMES, verdict=st.sampled_from([Verdict.CANCELLED, Verdict.TIMED_OUT]))
    def abort(self, name: str, verdict: Verdict) -> None:
        model = self.models.get(name)
        if model is not None and model.verdict is None:
            model.verdict = verdict
        for barrier in self.barriers:
            state = self.wait(barrier.mark_aborted(name, verdict))
            assert (state and state.verdict) == (model and model.verdict)

    @rule(name=NAMES, generation=st.integers(0, 2))
    def confirm(self, name: str, generation: int) -> None:
        model = self.models.get(name)
        if model is not None and model.verdict is not None and generation == model.generation:
            model.confirmed = True
        for barrier in self.barriers:
            self.wait(barrier.confirm_join([(name, generation)]))

    @rule(name=NAMES, generation=st.integers(1, 3))
    def reopen(self, name: str, generation: int) -> None:
        model = self.models.get(name)
        missing = None if model is None else model.reopen(generation)
        join = Message(f"{name}.join.{generation}", "default", "join", b"", 0.0)
        for barrier in self.barriers:
            reopen = Reopen(flow_id=name, generation=generation, join=join, at=self.clock.now())
            assert self.wait(barrier.reopen(reopen)) == missing

    @invariant()
    def are_the_set(self) -> None:
        expected: dict[str, Any] = {name: Seen.of(model) for name, model in self.models.items()}
        for barrier in self.barriers:
            states = self.wait(barrier.get(["f", "g"]))
            assert {name: self._seen(barrier, state) for name, state in states.items()} == expected

    def _seen(self, barrier: FlowBarrierProvider, state: FlowState) -> Seen:
        results = self.wait(barrier.get_step_results(state.id))
        members = {it.index: (it.status, it.result) for it in results}
        counts = state.remaining, state.succeeded, state.failed
        return Seen(members, counts, state.flow.generation, state.verdict, state.answer)


TestBarriers = Barriers.TestCase
TestBarriers.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
