"""Carries on, from what is stored alone, what nobody else did (F1): deadlines, joins, plans, cancels, lost marks."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from tq.clock import Clock, seconds
from tq.errors import BackendUnavailableError, TqError
from tq.model import FlowState, Verdict
from tq.ports import Backend

from .close import barrier_of, close_flows, dispatch_joins
from .plan import WIDTH
from .repair import LOST_AFTER, Repaired, Suspect, repair
from .results import missing
from .spread import cancel_members, cancels_members, spread_chunk
from .waiting import end_forgotten, end_told

__all__ = ["Reconciler", "Tick"]

log = logging.getLogger("tq")


@dataclass(slots=True, kw_only=True)
class Tick:
    """What one tick did."""

    closed: list[FlowState] = field(default_factory=list[FlowState])
    """Flows that this tick decided, for events."""
    dispatched: int = 0
    """Joins sent, once more or for the first time."""
    spread: int = 0
    """Members of wide plans written."""
    cancelled: int = 0
    """Members cancelled because their flow is over."""
    marked: int = 0
    """Members that had ended without being counted."""
    revived: int = 0
    """Members of an earlier generation that were to run again and did not."""
    respread: int = 0
    """Members that were nowhere, written again from their plan."""
    lost: int = 0
    """Members that were nowhere, for good."""
    woken: int = 0
    """Held tasks that were ended because a note told of them and their flow is over."""
    resolved: int = 0
    """Held tasks that nobody had told of, ended because their flow is over."""
    more: bool = False
    """Whether work was left for the next tick: call again soon."""

    @property
    def repairs(self) -> int:
        """How many things were found that the usual way had missed."""
        return self.marked + self.revived + self.respread + self.lost + self.resolved


class Reconciler:
    """Idempotent, and harmless where several run at once; each tick does a bounded amount of work.

    `tick_due` is cheap where nothing is due and belongs beside the poller, every second or so, and at once after a wide
    flow was sealed. `tick_quiet` looks over flows that have been open for a while, a page at a time, every ten seconds
    or so; it reads on where it stopped, so that a hundred thousand open flows are gone through, not read again.
    """

    def __init__(
        self,
        backend: Backend,
        clock: Clock,
        *,
        quiet_after: float = 60.0,
        lost_after: float = LOST_AFTER,
        page: int = 100,
        members: int = 5000,
    ) -> None:
        self._backend = backend
        self._clock = clock
        self._quiet_after = seconds("quiet_after", quiet_after)
        self._lost_after = seconds("lost_after", lost_after)
        self._page = page
        self._members = members
        self._cancelled: dict[str, int] = {}
        """How far the cancelling of a flow's members has come; forgotten with the process, and then begun again."""
        self._looked: tuple[str, int] = ("", -1)
        """The flow, and the member of the one after it, up to which quiet flows were looked over."""
        self._held = ""

    # --- what must be done now ----------------------------------------------------------------------------------------

    async def tick_due(self, now: float | None = None) -> Tick:
        """Do what is due: deadlines, joins not known to be sent, plans to spread, members to cancel, tasks that waited.

        Raises:
            BackendUnavailableError: the next tick does the rest.
        """
        now = self._clock.now() if now is None else now
        tick, budget = Tick(), self._members
        states = await barrier_of(self._backend).due(now, self._page)
        tick.more = len(states) >= self._page
        self._cancelled = {state.id: self._cancelled[state.id] for state in states if state.id in self._cancelled}
        await self._deadlines([state for state in states if state.verdict is None], now, tick)
        unsent = [state for state in states if state.verdict is not None and not state.confirmed]
        tick.dispatched = await dispatch_joins(self._backend, unsent, now)
        for state in states:
            if budget <= 0:
                tick.more = True
                break
            if state.spread < state.flow.chunks:
                budget -= await self._guarded(state, self._spread, now, tick)
            if cancels_members(state) and not state.tidied:
                budget -= await self._guarded(state, self._cancel, now, tick)
        woken = await end_told(self._backend, now)
        tick.woken = woken.ended
        tick.closed += woken.closed
        tick.more |= bool(woken.ended)
        return tick

    async def _deadlines(self, states: list[FlowState], now: float, tick: Tick) -> None:
        passed = [state for state in states if state.flow.deadline is not None and state.flow.deadline <= now]
        verdicts = [(state.id, Verdict.TIMED_OUT, "") for state in passed]
        closed = await close_flows(self._backend, verdicts, now)
        tick.closed += closed
        tick.more |= any(cancels_members(state) for state in closed)

    async def _spread(self, state: FlowState, now: float, tick: Tick) -> int:
        flow, written = state.flow, 0
        reached = min(state.spread + max(1, self._members // WIDTH), flow.chunks)
        for number in range(state.spread, reached):
            written += await spread_chunk(self._backend, state, number, now)
            await self._clock.sleep(0)  # a server that never waits must not let others wait for all of them
        tick.spread += written
        tick.more |= reached < flow.chunks
        return written

    async def _cancel(self, state: FlowState, now: float, tick: Tick) -> int:
        if state.remaining <= 0:  # every one of them has ended, and was counted: there is nobody to look for
            await barrier_of(self._backend).advance(state.id, tidied=True)
            return 1
        after = self._cancelled.get(state.id, -1)
        found, reached, closed = await cancel_members(self._backend, state, now, after, self._members)
        tick.cancelled += found
        tick.closed += closed
        tick.more |= bool(closed)
        if reached >= state.flow.total:
            self._cancelled.pop(state.id, None)
            await barrier_of(self._backend).advance(state.id, tidied=True)
        else:
            self._cancelled[state.id] = reached
            tick.more = True
        return reached - after

    async def _guarded(
        self, state: FlowState, work: Callable[[FlowState, float, Tick], Awaitable[int]], now: float, tick: Tick
    ) -> int:
        """Keep trouble with one flow from the others (D-41); it is met again at the next tick."""
        try:
            return await work(state, now, tick)
        except BackendUnavailableError:
            raise
        except TqError:
            log.exception("flow %s could not be carried on; it is tried again", state.id)
            return 0

    # --- what may have been forgotten ---------------------------------------------------------------------------------

    async def tick_quiet(self, now: float | None = None) -> Tick:
        """Look over some flows that have been open for `quiet_after`, and some held tasks.

        Raises:
            BackendUnavailableError: the next tick looks again.
        """
        now = self._clock.now() if now is None else now
        suspects = await self._suspects(now)
        result: Repaired = await repair(self._backend, suspects, now, self._lost_after)
        tick = Tick(
            closed=list(result.closed),
            marked=result.marked,
            revived=result.revived,
            respread=result.respread,
            lost=result.lost,
        )
        self._held, tick.resolved, closed = await end_forgotten(self._backend, self._held, now, self._quiet_after)
        tick.closed += closed
        if tick.repairs:
            log.warning(
                "looking over open flows: %d marked, %d revived, %d written again, %d lost, %d held tasks ended",
                tick.marked,
                tick.revived,
                tick.respread,
                tick.lost,
                tick.resolved,
            )
        return tick

    async def _suspects(self, now: float) -> list[Suspect]:
        """Return the next members that are not recorded, up to the work of one tick; from the start after the last."""
        barrier, budget = barrier_of(self._backend), self._members
        flow_id, member = self._looked
        states = await barrier.quiet(now - self._quiet_after, flow_id, self._page)
        suspects: list[Suspect] = []
        for state in states:
            while member < state.flow.total - 1 and budget > 0:
                count = min(budget, state.flow.total - 1 - member)
                suspects += [Suspect(state, index) for index in await missing(barrier, state, member, count)]
                member, budget = member + count, budget - count
            if budget <= 0:
                self._looked = (flow_id, member)
                return suspects
            flow_id, member = state.id, -1
        self._looked = (flow_id, -1) if len(states) >= self._page else ("", -1)
        return suspects
