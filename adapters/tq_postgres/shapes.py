"""Values as the columns that go in, and as what is made of the rows that come out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tq.model import (
    Claim,
    Delivery,
    Flow,
    FlowState,
    Mark,
    Message,
    Place,
    Projection,
    Receipt,
    Record,
    State,
    TaskStatus,
    Verdict,
    Whereabouts,
)
from tq.ports import Claimed

from .connection import Row

__all__ = [
    "FLOW",
    "MESSAGE",
    "RECORD",
    "WHEREABOUTS",
    "claimed",
    "columns",
    "flow_columns",
    "flow_state",
    "mark_columns",
    "message_columns",
    "named",
    "projection_columns",
    "record",
    "record_columns",
    "whereabouts",
]

Columns = Sequence[Sequence[object]]

MESSAGE = "id, queue, type, body, run_at, generation, attempt, lane, stats, fence"
RECORD = "task_id, queue, type, status, at, expires_at, generation, attempt, fence, dead, result, error, stats, body"
WHEREABOUTS = "id, queue, type, run_at, generation, attempt, until, token, crashes, held, cancelled_at > 0, stats"
FLOW = (
    "id, total, allowed, needed, started_at, generation, deadline, cancel_siblings, parent, chunks, plan, meta,"
    " join_id, join_queue, join_type, join_body, join_run_at, join_generation, join_attempt, join_lane, join_stats,"
    " join_fence,"
    " remaining, succeeded, failed, verdict, reason, trigger_index, closed_at, opened_at, confirmed, spread, tidied"
)

# Every task passes here, and a tuple made as what it is costs half of what a call by name does.
_made = tuple.__new__  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] -- items of any type

_STATUS = {status: str(status) for status in TaskStatus}


# --- in ---------------------------------------------------------------------------------------------------------------


def columns(rows: Iterable[Sequence[object]], width: int) -> Columns:
    """Turn rows into so many columns: what `unnest` turns into rows again."""
    return list(zip(*rows, strict=True)) or [()] * width


def message_columns(messages: Sequence[Message]) -> Columns:
    """Return what `add` takes."""
    return columns(messages, 10)


def record_columns(records: Sequence[Record]) -> Columns:
    """Return what `record` takes."""
    return columns([(*it[:3], _STATUS[it.status], *it[4:]) for it in records], 14)


def projection_columns(rows: Sequence[Projection]) -> Columns:
    """Return what `project` takes."""
    return columns(
        [(*it[:5], _STATUS[it.status], *it[6:9], _text(it.payload), _text(it.result), it.error) for it in rows], 12
    )


def _text(json: bytes | None) -> str | None:
    return None if json is None else json.decode()


def mark_columns(marks: Sequence[tuple[Mark, bool]]) -> Columns:
    """Return what `mark` takes; the second part of each says that the member's lease was held."""
    return columns(
        [(it.flow_id, it.index, str(it.status), it.generation, it.result, it.error, fenced) for it, fenced in marks], 7
    )


def flow_columns(flows: Sequence[Flow]) -> Columns:
    """Return what `open` takes."""
    return columns(
        [
            (
                it.id,
                it.total,
                it.allowed,
                it.needed,
                it.started_at,
                it.generation,
                it.deadline,
                it.cancel_siblings,
                it.parent,
                it.chunks,
                it.plan,
                it.meta,
                *it.join,
            )
            for it in flows
        ],
        22,
    )


# --- out --------------------------------------------------------------------------------------------------------------


def named(places: Sequence[int] | None, given: Sequence[Any]) -> list[Any]:
    """Return what stands at these places, which are counted from 1."""
    return [given[place - 1] for place in places or ()]


def claimed(rows: Sequence[Row], claim: Claim, place: Place) -> Claimed:
    """Make the answer to a claim: deliveries in their order, and what its last row tells."""
    *handed, last = rows
    token = claim.token
    deliveries: list[Delivery] = [
        _made(Delivery, (_made(Message, row[:10]), token, row[10], row[11], row[12], row[13], row[14], place))
        for row in sorted(handed, key=_by_due)
    ]
    told = [Receipt(id, token) for id, token in zip(last[17] or (), last[18] or (), strict=True)]
    return Claimed(deliveries, last[15], tuple(told))


def _by_due(row: Row) -> tuple[float, int]:
    return row[15], row[16]


def record(row: Row) -> Record:
    """Make a record of a row of `RECORD`."""
    task_id, queue, type, status, *rest = row
    return Record(task_id, queue, type, TaskStatus(status), *rest)


def projection(row: Row) -> Projection:
    """Make a projection of a row of `tq_projections`."""
    task_id, entity_id, entity_type, task_type, queue_id, status, version, created, updated, payload, result, error = (
        row
    )
    return Projection(
        task_id,
        entity_id,
        entity_type,
        task_type,
        queue_id,
        TaskStatus(status),
        version,
        created,
        updated,
        None if payload is None else payload.encode(),
        None if result is None else result.encode(),
        error,
    )


def whereabouts(row: Row, place: Place) -> Whereabouts:
    """Make whereabouts of a row of `WHEREABOUTS`."""
    id, queue, type, run_at, generation, attempt, until, token, crashes, held, cancelled, stats = row
    state = State.RUNNING if token else State.HELD if held else State.WAITING
    return Whereabouts(
        id, queue, type, state, run_at, generation, attempt, until, token, crashes, held, cancelled, stats, place
    )


def flow_state(row: Row) -> FlowState:
    """Make the state of a flow of a row of `FLOW`."""
    flow = Flow(
        id=row[0],
        total=row[1],
        allowed=row[2],
        needed=row[3],
        started_at=row[4],
        generation=row[5],
        deadline=row[6],
        cancel_siblings=row[7],
        parent=row[8],
        chunks=row[9],
        plan=row[10],
        meta=row[11],
        join=Message(*row[12:22]),
    )
    return FlowState(
        flow=flow,
        remaining=row[22],
        succeeded=row[23],
        failed=row[24],
        verdict=None if row[25] is None else Verdict(row[25]),
        reason=row[26],
        trigger=row[27],
        closed_at=row[28],
        opened_at=row[29],
        confirmed=row[30],
        spread=row[31],
        tidied=row[32],
    )
