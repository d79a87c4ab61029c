"""Flows across servers: what the barrier decides, and the joins that follow from it."""

from __future__ import annotations

import logging
from collections.abc import Container, Iterable, Sequence
from dataclasses import replace

from tq.errors import ContentRefusedError, MissingPortError
from tq.ids import step_id
from tq.model import Effects, Flow, FlowState, Mark, Reopen, StepStatus
from tq.ports import FlowBarrierProvider, MessageQueue, TaskStore

from .custody import Custodian
from .work import Work

__all__ = ["Flows", "start_of"]

log = logging.getLogger("tq.commit")

TOGETHER = 500


def start_of(flow: Flow) -> tuple[str, float, str]:
    """Return what tells one start of a flow from another one under the same id."""
    return flow.id, flow.started_at, flow.plan


class _Seen:
    """The latest states that the barrier answered with."""

    def __init__(self) -> None:
        self._states: dict[str, FlowState] = {}

    def note(self, states: Iterable[FlowState]) -> None:
        for state in states:
            self._states[state.id] = state

    def generation(self, mark: Mark) -> int:
        """Return the generation of a mark's flow where it is open, or -1."""
        state = self._states.get(mark.flow_id)
        return -1 if state is None or state.verdict is not None else state.flow.generation

    def is_late(self, mark: Mark) -> bool:
        """Tell whether a mark was not counted because its flow has been opened again."""
        return mark.status is not StepStatus.SUCCESS and mark.generation < self.generation(mark)

    def unconfirmed(self) -> list[FlowState]:
        """Return those that are over, and whose join is not known to be on its way."""
        return [state for state in self._states.values() if state.verdict is not None and not state.confirmed]


class Flows:
    """Brings effects to the barrier, and joins to the store.

    A join is a row of the store, due at the verdict, and claimed there. Only when it is written is the barrier told;
    until then everybody who asks about the flow is told that it is over, and does the same.
    """

    def __init__(
        self, barrier: FlowBarrierProvider | None, queue: MessageQueue, store: TaskStore, custodian: Custodian
    ) -> None:
        self._barrier = barrier
        self._queue = queue
        self._store = store
        self._custodian = custodian

    def check(self, every: Iterable[Effects]) -> None:
        """Refuse flows where nobody keeps them.

        Raises:
            MissingPortError: nothing was written.
        """
        if self._barrier is None and any(
            it.flows or it.marks or it.confirms or it.spreads or it.reopens or it.verdicts for it in every
        ):
            raise MissingPortError("barrier", "a flow")

    async def carry(
        self, every: Sequence[Effects], fresh: Sequence[Work], now: float, closed: list[FlowState]
    ) -> dict[tuple[str, float, str], FlowState]:
        """Open flows, count marks, decide, dispatch joins; in this order (D-44).

        Args:
            every: all effects.
            fresh: those works among them whose outcome this very commit recorded: nobody has carried them out before.
            now: when a join is due whose verdict does not tell.
            closed: grows by the flows decided.

        Returns:
            The starts, as `start_of` names them, that came too late, and their flows: such a plan counts for nothing.
        """
        self.check(every)
        if self._barrier is None:
            return {}
        seen, late = _Seen(), dict[tuple[str, float, str], FlowState]()
        if flows := [flow for effects in every for flow in effects.flows]:
            states = await self._barrier.init_barrier(flows)
            pairs = [(start_of(flow), state) for flow, state in zip(flows, states, strict=True)]
            late = {start: state for start, state in pairs if start != start_of(state.flow)}
            seen.note(states)
        for effects in every:
            for reopen in effects.reopens:
                await self._reopen(self._barrier, reopen, seen)
        await self._mark(self._barrier, every, fresh, seen)
        for effects in every:
            for flow_id, verdict, reason in effects.verdicts:
                state = await self._barrier.mark_aborted(flow_id, verdict, reason)
                seen.note([] if state is None else [state])
        over = seen.unconfirmed()
        sent = await self._dispatch(over, now)
        confirms = [(state.id, state.flow.generation) for state in sent]
        confirms += [confirm for effects in every for confirm in effects.confirms]
        if confirms:
            # Before it is confirmed: afterwards nobody else would ever tell of it.
            closed += [replace(state, confirmed=True) for state in sent]
            await self._barrier.confirm_join(list(dict.fromkeys(confirms)))
        return late

    async def _mark(
        self, barrier: FlowBarrierProvider, every: Sequence[Effects], fresh: Sequence[Work], seen: _Seen
    ) -> None:
        marks = [mark for effects in every for mark in effects.marks]
        if not marks:
            return
        seen.note(await barrier.batch_decrement_and_check(marks))
        # A member that ran on while its flow was opened again counts there: the redrive found it alive, and left it.
        late = [(work, mark) for work in fresh for mark in work.effects.marks if seen.is_late(mark)]
        if late:
            # Not one whose lease ran out: whoever had it then has counted it, and it may run once more by now.
            holding = await self._custodian.holding([work for work, _ in late])
            lifted = [mark._replace(generation=seen.generation(mark)) for work, mark in late if work in holding]
            seen.note(await barrier.batch_decrement_and_check(lifted) if lifted else [])

    async def _reopen(self, barrier: FlowBarrierProvider, reopen: Reopen, seen: _Seen) -> None:
        """Open the next generation and revive its members; a death in between is mended by the reconciler."""
        missing = await barrier.reopen(reopen)
        if missing is None:
            return
        for start in range(0, len(missing), TOGETHER):
            ids = [step_id(reopen.flow_id, index) for index in missing[start : start + TOGETHER]]
            await self._store.revive(ids, reopen.at, reopen.stats)
        seen.note((await barrier.get([reopen.flow_id])).values())

    async def _dispatch(self, states: Sequence[FlowState], now: float) -> Sequence[FlowState]:
        """Write joins to the store; return the flows whose join is there.

        A join that the store refuses must not fail the step that completed the flow: it is left to the reconciler,
        which tries it again (D-41).
        """
        if not states:
            return []
        joins = [
            state.flow.join._replace(run_at=now if state.closed_at is None else state.closed_at) for state in states
        ]
        live: Container[str] = ()
        if self._queue.guarantees.locates:
            live = await self._queue.locate([join.id for join in joins])
        try:
            await self._store.add([join for join in joins if join.id not in live])
        except ContentRefusedError:
            if len(states) > 1:
                return [state for one in states for state in await self._dispatch([one], now)]
            log.exception("the join of flow %s is refused; it is tried again", states[0].id)
            return []
        return states

    async def advance(self, spreads: Sequence[tuple[str, int]]) -> None:
        """Note how far plans have become messages."""
        if self._barrier is not None:
            for flow_id, number in spreads:
                await self._barrier.advance(flow_id, spread=number)
