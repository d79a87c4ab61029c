"""One flow."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from tq.clock import Clock, seconds, to_datetime
from tq.errors import FlowStateError, MissingPortError, UnknownFlowError
from tq.flow import Explanation, close_flows, explain, plan_redrive, redriven
from tq.ids import join_id
from tq.model import Batch, FlowState, Verdict
from tq.ports import Backend, FlowBarrierProvider

from .looking import Looker, Told, locate
from .reviving import revive
from .task import TaskHandle

__all__ = ["FlowHandle", "FlowStatus"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowStatus:
    """How a flow stands."""

    id: str
    total: int
    succeeded: int
    failed: int
    remaining: int
    generation: int
    verdict: Verdict | None
    reason: str
    started_at: datetime
    deadline: datetime | None
    closed_at: datetime | None

    @classmethod
    def of(cls, state: FlowState) -> FlowStatus:
        flow = state.flow
        return cls(
            id=flow.id,
            total=flow.total,
            succeeded=state.succeeded,
            failed=state.failed,
            remaining=state.remaining,
            generation=flow.generation,
            verdict=state.verdict,
            reason=state.reason,
            started_at=to_datetime(flow.started_at),
            deadline=None if flow.deadline is None else to_datetime(flow.deadline),
            closed_at=None if state.closed_at is None else to_datetime(state.closed_at),
        )


class FlowHandle:
    """One flow, by id."""

    def __init__(self, backend: Backend, clock: Clock, flow_id: str, told: Told) -> None:
        self._backend = backend
        self._clock = clock
        self._told = told
        self.id = flow_id

    def _barrier(self) -> FlowBarrierProvider:
        if self._backend.barrier is None:
            raise MissingPortError("barrier", "a flow")
        return self._backend.barrier

    async def _state(self) -> FlowState:
        state = (await self._barrier().get([self.id])).get(self.id)
        if state is None:
            raise UnknownFlowError(self.id, f"no flow {self.id} is stored: never started, or forgotten by retention")
        return state

    async def status(self) -> FlowStatus:
        """Return how the flow stands.

        Raises:
            UnknownFlowError: nothing is stored under this id.
        """
        return FlowStatus.of(await self._state())

    async def wait(self, timeout: float | timedelta | None = None) -> FlowStatus:
        """Wait until the flow is decided and its join has ended; return how it stands.

        Raises:
            UnknownFlowError: nothing is stored under this id.
            TimeoutError: it has not ended in time.
        """
        looker = Looker(self._clock, timeout)
        while True:
            state = await self._state()
            if state.verdict is not None and state.confirmed:
                join = await locate(self._backend, join_id(self.id, state.flow.generation))
                if join is None:
                    return FlowStatus.of(state)
            await looker.again(f"flow {self.id}")

    async def join(self) -> TaskHandle:
        """Return the handle of the flow's join, in its present generation."""
        state = await self._state()
        return TaskHandle(self._backend, self._clock, join_id(self.id, state.flow.generation), self._told)

    async def cancel(self, reason: str = "cancelled") -> bool:
        """Close the flow now: its join runs and is told `cancelled`; members still open are cancelled.

        Returns:
            False when the flow was decided already.
        """
        await self._state()
        closed = await close_flows(self._backend, [(self.id, Verdict.CANCELLED, reason)], self._clock.now())
        for state in closed:
            await self._told(state)
        return bool(closed)

    async def redrive(self, timeout: float | timedelta | None = None) -> int:
        """Run the members that did not succeed again, and the join once more after them; return their number.

        Where only the join did not succeed, it runs again by itself, and the number is 0.

        Raises:
            UnknownFlowError: nothing is stored under this id.
            FlowStateError: the flow is still open, its join has not ended, every member and the join succeeded, or
                nothing is kept of the members that did not.
        """
        state = await self._state()
        limit = None if timeout is None else seconds("timeout", timeout, zero=False)
        now = self._clock.now()
        if state.confirmed:
            if await locate(self._backend, state.flow.join.id) is not None:  # tried again, it must be told the same
                raise FlowStateError(self.id, f"the join of flow {self.id} has not ended: redrive the flow afterwards")
            if state.succeeded >= state.flow.total and await revive(self._backend, [state.flow.join.id], now):
                return 0
        reopen = plan_redrive(state, now, limit)
        effects = await redriven(self._backend, state, reopen, now)
        await self._backend.commit(Batch(effects=[effects]))
        after = await self._state()
        if after.flow.generation != reopen.generation:
            raise FlowStateError(self.id, f"flow {self.id} was redriven by somebody else")
        return after.remaining

    async def explain(self) -> Explanation:
        """Say in words which members are missing, where each is, since when, and what happens next."""
        return await explain(self._backend, self.id, self._clock.now())
