"""Ends flows by deadline or cancel, and sends joins that nobody is known to have sent."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from tq.errors import ContentRefusedError, MissingPortError
from tq.model import Batch, Effects, FlowState, Verdict
from tq.ports import Backend, FlowBarrierProvider

from .rows import verdict_rows

__all__ = ["barrier_of", "close_flows", "commit_closing", "dispatch_joins"]

log = logging.getLogger("tq")


def barrier_of(backend: Backend) -> FlowBarrierProvider:
    """Return the backend's barrier.

    Raises:
        MissingPortError: it has none.
    """
    if backend.barrier is None:
        raise MissingPortError("barrier", "a flow")
    return backend.barrier


async def close_flows(backend: Backend, verdicts: Sequence[tuple[str, Verdict, str]], now: float) -> list[FlowState]:
    """Close those of the flows (id, verdict, reason) that are open, and release their joins; return what was closed.

    Repeating it changes nothing: a flow that is closed stays as it is (D-43). Where the servers differ, a death in
    between leaves a closed flow whose join the reconciler sends.
    """
    if not verdicts:
        return []
    barrier = barrier_of(backend)
    if backend.atomic:
        return await commit_closing(backend, Effects(verdicts=tuple(verdicts)), now)
    closed = list[FlowState]()
    for flow_id, verdict, reason in verdicts:
        state = await barrier.mark_aborted(flow_id, verdict, reason)
        if state is not None and state.verdict is verdict and not state.confirmed:
            closed.append(state)
    await dispatch_joins(backend, closed, now)
    await _tell(backend, closed, now)
    return closed


async def commit_closing(backend: Backend, effects: Effects, now: float) -> list[FlowState]:
    """Write effects that may decide flows; return what they decided, its rows written."""
    closed = list((await backend.commit(Batch(effects=[effects]))).closed)
    await _tell(backend, closed, now)
    return closed


async def _tell(backend: Backend, closed: Sequence[FlowState], now: float) -> None:
    rows = verdict_rows(closed, now)
    if rows:
        await backend.commit(Batch(effects=[Effects(projections=rows)]))


async def dispatch_joins(backend: Backend, states: Sequence[FlowState], now: float) -> int:
    """Send the joins of closed flows once more and confirm them; harmless where they are on their way already.

    A join that its server refuses is left for the next time; the others go (D-41). Returns how many went.
    """
    if not states:
        return 0
    joins = tuple([state.flow.join._replace(run_at=now) for state in states])
    try:
        await backend.commit(Batch(effects=[Effects(messages=joins)]))
    except ContentRefusedError:
        if len(states) == 1:
            log.exception("the join of flow %s is refused; it is tried again", states[0].id)
            return 0
        half = len(states) // 2
        return sum([await dispatch_joins(backend, part, now) for part in (states[:half], states[half:])])
    await barrier_of(backend).confirm_join([(state.id, state.flow.generation) for state in states])
    return len(states)
