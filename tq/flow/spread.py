"""Turns the chunks of a sealed plan into messages, a few at a time, and cancels what a verdict left behind."""

from __future__ import annotations

import logging
from typing import NamedTuple

from tq.ids import step_id
from tq.model import Batch, Effects, FlowState, State, Verdict, Whereabouts
from tq.ports import Backend

from .close import barrier_of, close_flows
from .plan import WIDTH
from .results import missing
from .rows import scheduled_rows

__all__ = ["cancel_members", "cancels_members", "locate", "spread_chunk"]

log = logging.getLogger("tq")


class Cancelled(NamedTuple):
    """What one walk over members came to."""

    found: int
    """Members that were alive."""
    reached: int
    """The index to go on from; the flow's total when all are through."""
    closed: list[FlowState]
    """Flows for which a member waited, cancelled with it."""


def cancels_members(state: FlowState) -> bool:
    """Whether the verdict ends members that have not ended."""
    return state.verdict is Verdict.CANCELLED or (state.verdict is not None and state.flow.cancel_siblings)


async def spread_chunk(backend: Backend, state: FlowState, number: int, now: float) -> int:
    """Turn one chunk of a plan into messages; return how many were written.

    Message and place kept are one commit: whoever comes after a death goes on where this one stopped. Members of a flow
    that is to cancel them are not begun at all.
    """
    flow = state.flow
    if cancels_members(state):
        await barrier_of(backend).advance(flow.id, spread=flow.chunks)
        return 0
    chunk = await backend.store.chunk(flow.plan, number)
    if chunk is None:  # its members are found to be lost in their time; the rest of the plan must not wait for them
        log.error("chunk %d of the plan of flow %s is gone", number, flow.id)
        await barrier_of(backend).advance(flow.id, spread=number + 1)
        return 0
    messages = tuple([message._replace(run_at=now) for message in chunk.messages])
    rows = scheduled_rows(messages, now)
    effects = Effects(messages=messages, projections=rows, spreads=((flow.id, number + 1),))
    await backend.commit(Batch(effects=[effects]))
    return len(messages)


async def cancel_members(backend: Backend, state: FlowState, now: float, after: int, limit: int) -> Cancelled:
    """Of the `limit` members that follow index `after`, cancel those that have not ended.

    The flow is closed, so that no more members are recorded and the walk misses none. A member that waits for a flow of
    its own is cancelled by cancelling that flow.
    """
    found, closed = 0, list[FlowState]()
    page = await missing(barrier_of(backend), state, after, limit)
    for start in range(0, len(page), WIDTH):
        ids = [step_id(state.id, index) for index in page[start : start + WIDTH]]
        # A message moves from queue to store, never back: asked in this order, none is missed.
        live = {*await backend.queue.cancel(ids), *await backend.store.cancel(ids)}
        found += len(live)
        held = [place.held_by for place in (await locate(backend, ids)).values() if place.state is State.HELD]
        reason = f"flow {state.id}, to which its task belongs, was {state.verdict or 'closed'}"
        closed += await close_flows(backend, [(flow_id, Verdict.CANCELLED, reason) for flow_id in held if flow_id], now)
    return Cancelled(found, min(after + limit, state.flow.total), closed)


async def locate(backend: Backend, ids: list[str]) -> dict[str, Whereabouts]:
    """Tell where these messages are; asked first of the queue, because custody moves from queue to store."""
    found = dict(await backend.queue.locate(ids))
    found.update(await backend.store.locate(ids))
    return found
