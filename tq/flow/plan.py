"""Turns a flow that was asked for into what is written: barrier, held join, members or the chunks of a wide plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from operator import attrgetter
from typing import Any, overload

from tq.clock import to_datetime
from tq.codec import dumps, message_of
from tq.ids import join_id, step_id
from tq.model import (
    Chunk,
    Effects,
    Ended,
    Flow,
    FlowRequest,
    Member,
    Message,
    Task,
)

from .about import describe
from .membership import JOIN_INDEX, entity_words, join_words, membership_of
from .parent import parent_words
from .rows import scheduled_rows, started_row

__all__ = ["WIDTH", "plan_flow", "split_wide"]

WIDTH = 500
"""Up to so many members are written along with their flow; of a wider plan, as many go into one chunk."""
TOGETHER = 8 << 20
"""Bytes of members that one commit carries at most."""
CHUNK = 1 << 20
"""Bytes of one chunk, about: some servers bound what one row, or one call, may hold."""


def plan_flow(request: FlowRequest, *, now: float, origin: Task[Any] | None, parent: Ended | None) -> Effects:
    """Return what makes a flow real; the same request gives the same ids, so that a second start changes nothing.

    `origin` is the task that starts it; what members inherit of its log context stands in the request, for a group has
    none to leave them (FLOW-08, ACT-05). `parent` is given when that task ends as the flow does (`success_when`); the
    flow then ends by the deadline of the flow that waits for it.
    """
    deadline = _deadline(request, now, parent)
    meta = _flow_meta(request, deadline)
    flow = Flow(
        id=request.id,
        total=len(request.members),
        allowed=request.policy.allowed,
        needed=request.policy.needed,
        join=_join(request, meta, request.log_context, parent, now),
        started_at=now,
        deadline=deadline,
        cancel_siblings=request.policy.cancel_siblings,
        parent=parent.task.id if parent is not None else "",
        meta=describe(request, request.log_context, _made_by(origin)),
    )
    rows = started_row(request, now)
    make = partial(_member, request, meta, to_datetime(now), now)
    head = len(make(0).body) - len(request.members[0].payload) if request.members else 0
    if not _is_wide(request, head):
        messages = tuple(map(make, range(flow.total)))
        return Effects(messages=messages, flows=(flow,), projections=(*rows, *scheduled_rows(messages, now)))
    chunks = _chunks(_plan_key(request.id, origin, now), request.members, head, make, now)
    flow = replace(flow, chunks=len(chunks), plan=chunks[0].plan)
    return Effects(flows=(flow,), projections=rows, chunks=chunks)


def split_wide(effects: Effects) -> tuple[Iterator[Effects], Effects]:
    """Part the chunks of wide plans, each to be committed by itself and first, from the seal that makes them count.

    Each is made when it is asked for: its messages are a moment's work, and those of the whole plan seconds'.
    """
    return (Effects(chunks=(chunk.whole(),)) for chunk in effects.chunks), effects._replace(chunks=())


def _deadline(request: FlowRequest, now: float, parent: Ended | None) -> float | None:
    own = None if request.timeout is None else now + request.timeout
    outer = membership_of(parent.task) if parent is not None else None
    if outer is None or outer.is_join or outer.deadline is None:
        return own
    return outer.deadline if own is None else min(own, outer.deadline)


def _flow_meta(request: FlowRequest, deadline: float | None) -> dict[str, Any]:
    meta: dict[str, Any] = {
        "flow_id": request.id,
        "total_steps": len(request.members),
        "join": join_words(request.join),
        "failure_policy": request.policy.words,
    }
    if request.entity is not None:
        meta["entity"] = entity_words(request.entity)
    if deadline is not None:
        meta["deadline"] = deadline
    return meta


def _metadata(meta: Mapping[str, Any], log_context: Mapping[str, str]) -> dict[str, Any]:
    return {"flow_meta": meta, "log_context": dict(log_context)} if log_context else {"flow_meta": meta}


def _member(request: FlowRequest, meta: Mapping[str, Any], created_at: datetime, now: float, index: int) -> Message:
    member = request.members[index]
    task = Task[object](
        type=member.type,
        queue_id=member.queue,
        id=step_id(request.id, index),
        entity=member.entity,
        retries=member.retries,
        retry_after=member.retry_after,
        partition_key=member.partition_key,
        created_at=created_at,
    )
    return message_of(task, member.payload, now, metadata=_metadata({**meta, "step_index": index}, request.log_context))


def _join(
    request: FlowRequest, meta: Mapping[str, Any], log_context: Mapping[str, str], parent: Ended | None, now: float
) -> Message:
    """The held join: no entity of its own (D-51), results attached when it is delivered (D-53)."""
    words = {**meta, "step_index": JOIN_INDEX, "is_join": True, "generation": 0}
    if parent is not None:
        words["parent"] = parent_words(parent)
    task = Task[object](
        type=request.join.type,
        queue_id=request.join.queue,
        id=join_id(request.id, 0),
        created_at=to_datetime(now),
    )
    return message_of(task, dumps({"flow_id": request.id}), now, metadata=_metadata(words, log_context))


def _plan_key(flow_id: str, origin: Task[Any] | None, now: float) -> str:
    """Name a plan after the hand-out that made it: parts of plans that differ can then never be mixed."""
    return f"{flow_id}:{_made_by(origin)}:{now:.6f}"


def _made_by(origin: Task[Any] | None) -> str:
    return f"{origin.attempt}.{origin.fence}" if origin is not None else "-"


# --- wide plans -------------------------------------------------------------------------------------------------------


class _Members(Sequence[Message]):
    """Messages that are made when they are asked for: those of a hundred thousand members are never there at once."""

    __slots__ = ("_indexes", "_make")

    def __init__(self, make: Callable[[int], Message], indexes: range) -> None:
        self._make = make
        self._indexes = indexes

    def __len__(self) -> int:
        return len(self._indexes)

    @overload
    def __getitem__(self, index: int) -> Message: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Message]: ...
    def __getitem__(self, index: int | slice) -> Message | Sequence[Message]:
        found = self._indexes[index]
        return self._make(found) if isinstance(found, int) else _Members(self._make, found)


def _is_wide(request: FlowRequest, head: int) -> bool:
    """Whether these are more members than one commit carries; each has about `head` bytes beside its payload."""
    members = request.members
    return len(members) > WIDTH or sum(head + len(member.payload) for member in members) > TOGETHER


def _chunks(
    plan: str, members: Sequence[Member], head: int, make: Callable[[int], Message], now: float
) -> tuple[Chunk, ...]:
    """Cut evenly: where a member stands then follows from total and number of chunks (`member_width`)."""
    total = len(members)
    largest = head + max(map(len, map(attrgetter("payload"), members)))
    count = -(-total // max(1, min(WIDTH, CHUNK // largest)))
    width = -(-total // count)
    starts = range(0, total, width)
    spans = [range(start, min(start + width, total)) for start in starts]
    return tuple([Chunk(plan, number, _Members(make, span), now) for number, span in enumerate(spans)])
