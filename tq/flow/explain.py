"""Tells in plain words what a flow is waiting for, and what will happen next."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from enum import StrEnum

from tq.clock import to_datetime
from tq.errors import UnknownFlowError
from tq.ids import step_id
from tq.model import FlowState, Record, State, Verdict, Whereabouts
from tq.ports import Backend

from .about import About, about
from .close import barrier_of
from .membership import member_width
from .repair import LOST_AFTER
from .results import missing
from .spread import cancels_members, locate

__all__ = ["Explanation", "MemberPlace", "Standing", "explain"]

LISTED = 20


class Standing(StrEnum):
    """What a member that has not been counted is doing."""

    WAITING = "waiting"
    PAUSED = "on a paused queue"
    RETRYING = "retrying"
    RUNNING = "running"
    EXPIRED_LEASE = "left by its worker"
    HELD = "held"
    ENDED = "ended, not counted"
    PLANNED = "in the plan"
    NOWHERE = "nowhere"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberPlace:
    """Where one missing member is."""

    index: int
    id: str
    type: str
    """Empty where it is not known."""
    queue: str
    standing: Standing
    attempt: int = 0
    until: float | None = None
    """Instant at which it falls due, its lease runs out, or it is given up."""
    since: float | None = None
    """Instant at which it ended, or fell due."""
    detail: str = ""
    """Worker, inner flow, or error."""
    cancelled: bool = False
    """Whether its cancel was asked for."""

    def __str__(self) -> str:
        kind = f"{self.type} on {self.queue}" if self.queue else self.type
        what = f"step {self.index}" + (f" ({kind})" if kind else "")
        tail: str = self.standing
        match self.standing:
            case Standing.WAITING if self.until is not None:
                tail = f"waits until {_at(self.until)}"
            case Standing.WAITING:
                tail = f"is due since {_at(self.since)} and waits for a worker"
            case Standing.PAUSED:
                tail = f"is due since {_at(self.since)} and waits: queue {self.queue} is paused"
            case Standing.RETRYING:
                tail = f"is retried: attempt {self.attempt + 1} is due at {_at(self.until or self.since)}"
            case Standing.RUNNING:
                lease = f"under a lease until {_at(self.until)}, due since {_at(self.since)}"
                tail = f"runs at worker {self.detail}, attempt {self.attempt + 1}, {lease}"
            case Standing.EXPIRED_LEASE:
                tail = f"was left by worker {self.detail} at {_at(self.since)} and is taken back at the next claim"
            case Standing.HELD:
                tail = f"waits for its own flow {self.detail}, due since {_at(self.since)}"
            case Standing.ENDED:
                tail = f"ended as {self.detail} at {_at(self.since)} and is not counted yet; it will be"
            case Standing.PLANNED:
                tail = "stands in the plan and is not written yet"
            case Standing.NOWHERE if self.until is not None:
                tail = f"is nowhere to be found and counts as failed, as lost, from {_at(self.until)} on"
            case Standing.NOWHERE:
                tail = "is nowhere to be found and is written again from the plan"
        return f"{what} {tail}" + ("; its cancel was asked for" if self.cancelled else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """How a flow stands; `str()` says it in words."""

    flow_id: str
    policy: str
    generation: int
    total: int
    succeeded: int
    failed: int
    remaining: int
    opened_at: float
    deadline: float | None
    verdict: Verdict | None
    reason: str
    trigger: int
    closed_at: float | None
    members: tuple[MemberPlace, ...]
    """Missing members by index, twenty at most; of a closed flow none."""
    more: int
    """How many further members are missing."""
    next: tuple[str, ...]
    """What will happen next, and when."""

    def __str__(self) -> str:
        counts = f"{self.succeeded} of {self.total} succeeded, {self.failed} failed, {self.remaining} missing"
        redriven = f", generation {self.generation}" if self.generation else ""
        if self.verdict is None:
            head = f"Flow {self.flow_id} is open since {_at(self.opened_at)} ({self.policy}{redriven}): {counts}."
        else:
            why = f" because {self.reason}" if self.reason else ""
            why += f", by step {self.trigger}" if self.trigger >= 0 else ""
            head = f"Flow {self.flow_id} was {self.verdict.replace('_', ' ')} at {_at(self.closed_at)}{why}: {counts}."
        lines = [head, *[f"  {member}" for member in self.members]]
        if self.more:
            lines.append(f"  and {self.more} more")
        return "\n".join([*lines, *self.next])


def _at(instant: float | None) -> str:
    return "an unknown time" if instant is None else to_datetime(instant).isoformat(sep=" ", timespec="seconds")


async def explain(backend: Backend, flow_id: str, now: float) -> Explanation:
    """Look up where a flow, its missing members and its join are.

    Raises:
        UnknownFlowError: nothing is stored under this id.
    """
    state = (await barrier_of(backend).get([flow_id])).get(flow_id)
    if state is None:
        raise UnknownFlowError(flow_id, f"nothing is stored about flow {flow_id}: it never began, or was forgotten")
    told = about(state.flow)
    members = await _members(backend, state, told, now) if state.verdict is None else ()
    return Explanation(
        flow_id=flow_id,
        policy=told.policy,
        generation=state.flow.generation,
        total=state.flow.total,
        succeeded=state.succeeded,
        failed=state.failed,
        remaining=state.remaining,
        opened_at=state.opened_at,
        deadline=state.flow.deadline,
        verdict=state.verdict,
        reason=state.reason,
        trigger=state.trigger,
        closed_at=state.closed_at,
        members=members,
        more=max(state.remaining - len(members), 0) if state.verdict is None else 0,
        next=tuple(_open_next(state) if state.verdict is None else await _closed_next(backend, state, now)),
    )


# --- members ----------------------------------------------------------------------------------------------------------


async def _members(backend: Backend, state: FlowState, told: About, now: float) -> tuple[MemberPlace, ...]:
    indexes, after = list[int](), -1
    while len(indexes) < LISTED and after < state.flow.total - 1:
        indexes += await missing(barrier_of(backend), state, after, 2000)
        after += 2000
    ids = {step_id(state.id, index): index for index in indexes[:LISTED]}
    live = await locate(backend, list(ids))
    paused = set(await backend.queue.paused())
    records = await backend.store.records([id for id in ids if id not in live])
    return tuple(
        [
            _live(index, live[id], now, paused) if id in live else _not_live(state, told, index, id, records.get(id))
            for id, index in ids.items()
        ]
    )


def _live(index: int, place: Whereabouts, now: float, paused: Container[str] = ()) -> MemberPlace:
    due = place.run_at <= now
    standing, detail = Standing.WAITING, ""
    until: float | None = None
    since: float | None = place.run_at
    match place.state:
        case State.HELD:
            standing, detail = Standing.HELD, place.held_by
        case State.RUNNING:
            detail = place.token.partition(":")[0]
            if place.lease_until > now:
                standing, until = Standing.RUNNING, place.lease_until
            else:
                standing, since = Standing.EXPIRED_LEASE, place.lease_until
        case State.WAITING:
            standing = Standing.RETRYING if place.attempt else Standing.WAITING
            until, since = (None, place.run_at) if due else (place.run_at, None)
            if due and place.queue in paused:
                standing = Standing.PAUSED
    return MemberPlace(
        index=index,
        id=place.id,
        type=place.type,
        queue=place.queue,
        standing=standing,
        attempt=place.attempt,
        until=until,
        since=since,
        detail=detail,
        cancelled=place.cancelled,
    )


def _not_live(state: FlowState, told: About, index: int, id: str, record: Record | None) -> MemberPlace:
    if record is not None:
        error = f" ({record.error})" if record.error else ""
        detail = f"{'dead letter' if record.dead else record.status}{error}"
        return MemberPlace(
            index=index,
            id=id,
            type=record.type,
            queue=record.queue,
            standing=Standing.ENDED,
            attempt=record.attempt,
            since=record.at,
            detail=detail,
        )
    planned = state.flow.chunks and index // member_width(state.flow) >= state.spread
    type = told.step_types[index] if index < len(told.step_types) else ""
    if len(told.type_counts) == 1:
        (type,) = told.type_counts
    standing = Standing.PLANNED if planned else Standing.NOWHERE
    until = None if state.flow.chunks else state.opened_at + LOST_AFTER
    return MemberPlace(index=index, id=id, type=type, queue="", standing=standing, until=until)


# --- what comes next --------------------------------------------------------------------------------------------------


def _open_next(state: FlowState) -> list[str]:
    flow = state.flow
    lines: list[str] = []
    if flow.needed < flow.total:
        lines.append(f"It completes at {flow.needed} successes, {flow.needed - state.succeeded} more than now.")
    else:
        lines.append(f"It completes when nobody is missing: now {state.remaining}.")
    if flow.allowed < flow.total:
        lines.append(f"It is aborted at {flow.allowed + 1} failures, {flow.allowed + 1 - state.failed} more than now.")
    if flow.deadline is not None:
        lines.append(f"Its deadline is {_at(flow.deadline)}; its join then runs with what there is.")
    else:
        lines.append("It has no deadline.")
    if state.spread < flow.chunks:
        lines.append(f"{flow.chunks - state.spread} of {flow.chunks} parts of its plan are still to be written.")
    return lines


async def _closed_next(backend: Backend, state: FlowState, now: float) -> Sequence[str]:
    lines: list[str] = []
    join = state.flow.join
    place = (await locate(backend, [join.id])).get(join.id)
    record = (await backend.store.records([join.id])).get(join.id) if place is None else None
    name = f"Its join {join.id} ({join.type} on {join.queue})"
    if place is not None:
        told = str(_live(-1, place, now)).partition(") ")[2]
        lines.append(f"{name} {told}.")
    elif record is not None:
        error = f": {record.error}" if record.error else ""
        lines.append(f"{name} ended as {record.status} at {_at(record.at)}{error}.")
    elif state.confirmed:
        lines.append(f"{name} was sent and has ended; nothing of it was kept.")
    else:
        lines.append(f"{name} is about to be sent.")
    if cancels_members(state) and not state.tidied:
        lines.append(f"Its {state.remaining} members that had not ended are being cancelled.")
    return lines
