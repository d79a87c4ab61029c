"""Turns a flow that was asked for into what is written: barrier, held join, members or the chunks of a wide plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tq.clock import to_datetime
from tq.codec import dumps, message_of
from tq.ids import join_id, step_id
from tq.model import (
    Chunk,
    Effects,
    Ended,
    Flow,
    FlowRequest,
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
    messages = _members(request, meta, request.log_context, now)
    flow = Flow(
        id=request.id,
        total=len(messages),
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
    if len(messages) <= WIDTH and sum(len(message.body) for message in messages) <= TOGETHER:
        return Effects(messages=messages, flows=(flow,), projections=(*rows, *scheduled_rows(messages, now)))
    plan = _plan_key(request.id, origin, now)
    chunks = _chunks(plan, messages, now)
    return Effects(flows=(replace(flow, chunks=len(chunks), plan=plan),), projections=rows, chunks=chunks)


def split_wide(effects: Effects) -> tuple[list[Effects], Effects]:
    """Part the chunks of wide plans, each to be committed by itself and first, from the seal that makes them count."""
    return [Effects(chunks=(chunk,)) for chunk in effects.chunks], effects._replace(chunks=())


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


def _members(
    request: FlowRequest, meta: Mapping[str, Any], log_context: Mapping[str, str], now: float
) -> tuple[Message, ...]:
    created_at = to_datetime(now)
    return tuple(
        [
            message_of(
                Task(
                    type=member.type,
                    queue_id=member.queue,
                    id=step_id(request.id, index),
                    entity=member.entity,
                    retries=member.retries,
                    retry_after=member.retry_after,
                    partition_key=member.partition_key,
                    created_at=created_at,
                ),
                member.payload,
                now,
                metadata=_metadata({**meta, "step_index": index}, log_context),
            )
            for index, member in enumerate(request.members)
        ]
    )


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


def _chunks(plan: str, messages: tuple[Message, ...], now: float) -> tuple[Chunk, ...]:
    """Cut evenly: where a member stands then follows from total and number of chunks (`member_width`)."""
    largest = max(len(message.body) for message in messages)
    count = -(-len(messages) // max(1, min(WIDTH, CHUNK // largest)))
    width = -(-len(messages) // count)
    starts = range(0, len(messages), width)
    return tuple([Chunk(plan, number, messages[start : start + width], now) for number, start in enumerate(starts)])
