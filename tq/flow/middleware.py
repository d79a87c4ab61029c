"""The flow room's face to a worker: what an ending brings, and what a join is given before it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tq.errors import MissingPortError
from tq.model import NO_EFFECTS, Deferred, Effects, Ended, FlowState, Task
from tq.ports import Attachment, Continuation, FlowBarrierProvider

from .ending import ending_effects
from .membership import membership_of
from .plan import plan_flow
from .results import attach_results
from .rows import verdict_rows
from .waiting import may_be_unknown, waiting_note

__all__ = ["FlowMiddleware"]


class FlowMiddleware(Continuation, Attachment):
    """Turns endings into marks, flows that were asked for into plans, and gives joins their results."""

    def __init__(self, barrier: FlowBarrierProvider | None) -> None:
        self._barrier = barrier

    def begin(self, task: Task[Any], now: float) -> Effects:
        return NO_EFFECTS

    def decided(self, states: Sequence[FlowState], now: float) -> Effects:
        return Effects(projections=verdict_rows(states, now))

    def follow(self, ended: Ended) -> Effects:
        effects = NO_EFFECTS
        for request in ended.flows:
            parent = ended if ended.outcome == Deferred(request.id) else None
            effects += plan_flow(request, now=ended.now, origin=ended.task, parent=parent)
        if isinstance(ended.outcome, Deferred) and may_be_unknown(ended.task):
            effects += Effects(outgoing=(waiting_note(ended, ended.outcome.flow_id),))
        return effects + ending_effects(ended.task, ended.outcome, ended.now) if ended.final else effects

    async def attach(self, task: Task[Any]) -> object:
        """Return the payload of a join with `flow_results` (FLOW-18), and of any other task what it has.

        Raises:
            UnknownFlowError: the flow was forgotten; the join can never be given its results.
            BackendUnavailableError: the task is given back and comes again.
        """
        membership = membership_of(task)
        if membership is None or not membership.is_join:
            return task.payload
        if self._barrier is None:
            raise MissingPortError("barrier", f"the join {task.id!r}")
        return await attach_results(self._barrier, membership)
