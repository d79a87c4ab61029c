"""Ends held tasks whose flow is over and told nobody so."""

from __future__ import annotations

import logging
from typing import NamedTuple

from tq.codec import loads
from tq.model import (
    Effects,
    Failed,
    FlowState,
    Mark,
    Outcome,
    Record,
    Resolve,
    State,
    StepStatus,
    Succeeded,
    TaskStatus,
    Whereabouts,
)
from tq.ports import Backend

from .close import barrier_of, commit_closing
from .spread import locate

__all__ = ["end_forgotten"]

log = logging.getLogger("tq")

PAGE = 500
KEPT = 7 * 86_400.0


class Forgotten(NamedTuple):
    """What one look came to."""

    after: str
    """Where the next one goes on."""
    ended: int
    closed: list[FlowState]
    """Flows that this decided."""


async def end_forgotten(backend: Backend, after: str, now: float, quiet_after: float) -> Forgotten:
    """Look over one page of the store for held tasks whose flow will not end them, and end these.

    The usual way is the flow's join. It does not lead here where an earlier attempt had started the same flow without
    waiting for it: the join then knows of no parent. What a held task was is not read back, so that an entity's row is
    left as it stands; that it ends, and counts in its own flow, is what matters.
    """
    page = await backend.store.list(None, after, PAGE)
    held = [place for place in page if place.state is State.HELD and place.held_by]
    ended, closed = 0, list[FlowState]()
    if held:
        states = await barrier_of(backend).get(sorted({place.held_by for place in held}))
        over = [place for place in held if _over(states.get(place.held_by), now, quiet_after)]
        joins = [states[place.held_by].flow.join.id for place in over]
        live = await locate(backend, joins) if joins else {}
        records = await backend.store.records(joins) if joins else {}
        for place, join in zip(over, joins, strict=True):
            if join not in live:
                closed += await _end(backend, place, records.get(join), now)
                ended += 1
    return Forgotten(page[-1].id if len(page) >= PAGE else "", ended, closed)


def _over(state: FlowState | None, now: float, quiet_after: float) -> bool:
    return (
        state is not None and state.confirmed and state.closed_at is not None and state.closed_at <= now - quiet_after
    )


async def _end(backend: Backend, place: Whereabouts, record: Record | None, now: float) -> list[FlowState]:
    log.warning("task %s was held by flow %s, which is over; it ends now", place.id, place.held_by)
    outcome = _outcome(record)
    effects = Effects(records=(_record(place, outcome, now),), marks=await _marks(backend, place, outcome))
    return await commit_closing(backend, Effects(resolves=(Resolve(place.id, place.held_by, effects),)), now)


def _outcome(record: Record | None) -> Outcome:
    """A join without a record succeeded without a result that was to be kept: failures leave one."""
    if record is None or record.status is TaskStatus.EXECUTED:
        return Succeeded(record.result if record is not None else None)
    return Failed(record.error or "Join task failed", final=True, status=record.status)


def _record(place: Whereabouts, outcome: Outcome, now: float) -> Record:
    failed = outcome if isinstance(outcome, Failed) else None
    return Record(
        place.id,
        place.queue,
        place.type,
        failed.status if failed is not None else TaskStatus.EXECUTED,
        now,
        now + KEPT,
        place.generation,
        place.attempt,
        result=outcome.result if isinstance(outcome, Succeeded) else None,
        error=failed.error if failed is not None else None,
        stats=place.stats,
    )


async def _marks(backend: Backend, place: Whereabouts, outcome: Outcome) -> tuple[Mark, ...]:
    """Members are named after their flow, so that a task's id alone says where it counts."""
    flow_id, _, number = place.id.rpartition(".")
    if not flow_id or not number.isdecimal() or flow_id not in await barrier_of(backend).get([flow_id]):
        return ()
    generation = loads(place.stats).get("flow_generation", 0) if place.stats else 0
    index = int(number)
    if isinstance(outcome, Failed):
        return (Mark(flow_id, index, StepStatus.FAIL, generation, None, outcome.error),)
    result = outcome.result if isinstance(outcome, Succeeded) else None
    return (Mark(flow_id, index, StepStatus.SUCCESS, generation, result),)
