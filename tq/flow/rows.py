"""The projection row of a flow: one per flow, keyed by its id, last written by its verdict or by its join."""

from __future__ import annotations

from collections.abc import Iterable

from tq.codec import entity_tasks
from tq.model import (
    Entity,
    Failed,
    FlowRequest,
    FlowState,
    Join,
    Message,
    Outcome,
    Projection,
    Record,
    Succeeded,
    TaskStatus,
    Verdict,
    build_projection,
    projection_version,
)

from .about import about

__all__ = ["again_rows", "ended_row", "flow_version", "reopened_row", "scheduled_rows", "started_row", "verdict_rows"]

_VERDICTS = {
    Verdict.ABORTED: (TaskStatus.FAILED, "flow_aborted"),
    Verdict.TIMED_OUT: (TaskStatus.FAILED, "flow_timeout"),
    Verdict.CANCELLED: (TaskStatus.CANCELLED, "flow_cancelled"),
}


REPLAYS = 1 << 10
"""How often the join of one generation may be run again by hand, and the flow's row tell so."""


def flow_version(created_at: float, generation: int, replays: int, status: TaskStatus) -> int:
    """Return the version of a flow's row: what its join came to when it was run again by hand is newer (D-50).

    The first row replaces nothing: its flow may have been started before, at another instant, by half.
    """
    if not generation and status is TaskStatus.PROCESSING:
        return 1
    return projection_version(created_at, generation * REPLAYS + min(replays, REPLAYS - 1), status)


def scheduled_rows(messages: Iterable[Message], now: float) -> tuple[Projection, ...]:
    """Return the rows of those messages that have an entity of their own (FLOW-07)."""
    rows = [build_projection(task, TaskStatus.SCHEDULED, now=now) for task, _ in entity_tasks(messages)]
    return tuple([row for row in rows if row is not None])


def again_rows(records: Iterable[Record], now: float) -> tuple[Projection, ...]:
    """Return the rows of ended tasks that are to run again: scheduled, in the generation that follows."""
    messages = [
        Message(it.task_id, it.queue, it.type, it.body, now, it.generation + 1) for it in records if it.body is not None
    ]
    return scheduled_rows(messages, now)


def _row(
    flow_id: str,
    entity: Entity,
    join: Join,
    status: TaskStatus,
    *,
    generation: int,
    created_at: float,
    now: float,
    replays: int = 0,
    result: bytes | None = None,
    error: str | None = None,
) -> Projection:
    version = flow_version(created_at, generation, replays, status)
    head = (flow_id, entity.id, entity.type, join.type, join.queue)
    return Projection(*head, status, version, created_at, now, None, result, error)


def started_row(request: FlowRequest, now: float) -> tuple[Projection, ...]:
    """Return the row of a flow that starts (FLOW-09), if it is to have one."""
    if request.entity is None:
        return ()
    status = TaskStatus.PROCESSING
    return (_row(request.id, request.entity, request.join, status, generation=0, created_at=now, now=now),)


def verdict_rows(states: Iterable[FlowState], now: float) -> tuple[Projection, ...]:
    """Return the last rows of those flows that did not complete (FLOW-27); what a join comes to cannot change them."""
    rows: list[Projection] = []
    for state in states:
        told = about(state.flow)
        if state.verdict is not None and state.verdict in _VERDICTS and told.entity is not None:
            status, error = _VERDICTS[state.verdict]
            began, generation = state.flow.started_at, state.flow.generation
            rows.append(
                _row(
                    state.id,
                    told.entity,
                    told.join,
                    status,
                    generation=generation,
                    created_at=began,
                    now=now,
                    error=error,
                )
            )
    return tuple(rows)


def ended_row(
    flow_id: str,
    entity: Entity | None,
    join: Join,
    verdict: Verdict | None,
    outcome: Outcome,
    *,
    generation: int,
    replays: int,
    created_at: float,
    now: float,
) -> tuple[Projection, ...]:
    """Return the last row of a flow whose join has ended: by verdict, or as the join ended (FLOW-26, D-50).

    `replays` is how often the join of this generation was run again by hand: its last ending is what the row tells.
    """
    if entity is None:
        return ()
    result: bytes | None = None
    error: str | None = None
    if verdict is not None and verdict in _VERDICTS:
        status, error = _VERDICTS[verdict]
    elif isinstance(outcome, Succeeded):
        status, result = TaskStatus.EXECUTED, outcome.result
    elif isinstance(outcome, Failed):
        status = TaskStatus.CANCELLED if outcome.status is TaskStatus.CANCELLED else TaskStatus.FAILED
        error = outcome.error or "Join task failed"
    else:
        return ()
    return (
        _row(
            flow_id,
            entity,
            join,
            status,
            generation=generation,
            created_at=created_at,
            now=now,
            replays=replays,
            result=result,
            error=error,
        ),
    )


def reopened_row(state: FlowState, now: float) -> tuple[Projection, ...]:
    """Return the row of a flow that is opened again, if it has one: processing, in the generation that follows."""
    told = about(state.flow)
    if told.entity is None:
        return ()
    began, generation = state.flow.started_at, state.flow.generation + 1
    status = TaskStatus.PROCESSING
    return (_row(state.id, told.entity, told.join, status, generation=generation, created_at=began, now=now),)
