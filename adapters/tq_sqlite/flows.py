"""Flows: stored, looked up, opened again, closed and forgotten. Their members are counted in `marks`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tq.ids import step_id
from tq.model import Flow, FlowState, Message, Reopen, StepResult, StepStatus, Verdict, decide

from .connection import Connection
from .records import revive
from .rows import Insert, select_in
from .schema import UNFINISHED

__all__ = [
    "advance_flow",
    "close_flow",
    "confirm_joins",
    "due_flows",
    "list_flows",
    "open_flows",
    "purge_flows",
    "quiet_flows",
    "read_states",
    "read_step_results",
    "reopen_flow",
    "revive_members",
]

_FLOW = (
    "id, total, allowed, needed, started_at, generation, deadline, cancel_siblings, parent, chunks, plan, meta,"
    " join_id, join_queue, join_type, join_body, join_run_at, join_generation, join_attempt, join_lane, join_stats,"
    " join_fence"
)
_COUNTS = (
    "remaining, succeeded, failed, verdict, reason, trigger_index, closed_at, opened_at, confirmed, spread, tidied"
)

_SELECT = f"SELECT {_FLOW}, {_COUNTS} FROM tq_flows"

_insert = Insert(
    "tq_flows",
    f"{_FLOW}, remaining, opened_at, verdict, closed_at",
    "ON CONFLICT (id) DO NOTHING RETURNING id, verdict",
)


def open_flows(db: Connection, flows: Sequence[Flow]) -> dict[str, bool]:
    """Store flows whose id is new; return those, and whether they are closed from the start, for want of members."""
    rows: list[tuple[object, ...]] = []
    for flow in flows:
        verdict = decide(remaining=flow.total, succeeded=0, failed=0, allowed=flow.allowed, needed=flow.needed)
        rows.append(
            (
                flow.id,
                flow.total,
                flow.allowed,
                flow.needed,
                flow.started_at,
                flow.generation,
                flow.deadline,
                int(flow.cancel_siblings),
                flow.parent,
                flow.chunks,
                flow.plan,
                flow.meta,
                *flow.join,
                flow.total,
                flow.started_at,
                verdict and str(verdict),
                None if verdict is None else db.now,
            )
        )
    return {id: verdict is not None for id, verdict in _insert.returning(db, rows)}


def close_flow(db: Connection, flow_id: str, verdict: Verdict, reason: str) -> bool:
    """Close an open flow; False where it is closed or unknown."""
    return bool(
        db.execute(
            "UPDATE tq_flows SET verdict = ?, reason = ?, closed_at = ? WHERE id = ? AND verdict IS NULL",
            (str(verdict), reason, db.now, flow_id),
        ).rowcount
    )


def confirm_joins(db: Connection, joins: Sequence[tuple[str, int]]) -> None:
    """Note that joins are on their way for good."""
    db.executemany(
        "UPDATE tq_flows SET confirmed = 1 WHERE id = ? AND generation = ? AND verdict IS NOT NULL AND confirmed = 0",
        joins,
    )


def reopen_flow(db: Connection, asked: Reopen) -> list[int] | None:
    """Open the next generation; return the indexes that are missing again, or None if it was not possible.

    A flow whose join is not yet on its way stays as it is: that join would be lost.
    """
    row = db.execute(
        "SELECT total, allowed, needed FROM tq_flows"
        " WHERE id = ? AND generation = ? AND verdict IS NOT NULL AND confirmed = 1",
        (asked.flow_id, asked.generation - 1),
    ).fetchone()
    if row is None:
        return None
    total, allowed, needed = row
    done = f"SELECT idx FROM tq_members WHERE flow = ? AND status = '{StepStatus.SUCCESS}'"
    db.execute(f"DELETE FROM tq_members WHERE flow = ? AND status <> '{StepStatus.SUCCESS}'", (asked.flow_id,))
    db.execute(
        f"INSERT INTO tq_members (flow, idx, status, result) SELECT flow, idx, '{StepStatus.SUCCESS}', result"
        " FROM tq_late WHERE flow = ? ON CONFLICT DO NOTHING",
        (asked.flow_id,),
    )
    db.execute("DELETE FROM tq_late WHERE flow = ?", (asked.flow_id,))
    succeeded_ones = {index for (index,) in db.execute(done, (asked.flow_id,))}
    succeeded = len(succeeded_ones)
    remaining = total - succeeded
    verdict = decide(remaining=remaining, succeeded=succeeded, failed=0, allowed=allowed, needed=needed)
    db.execute(
        "UPDATE tq_flows SET generation = ?, deadline = ?, join_id = ?, join_queue = ?, join_type = ?, join_body = ?,"
        " join_run_at = ?, join_generation = ?, join_attempt = ?, join_lane = ?, join_stats = ?, join_fence = ?,"
        " remaining = ?, succeeded = ?, failed = 0, verdict = ?, reason = '', trigger_index = -1, closed_at = ?,"
        " opened_at = ?, confirmed = 0, tidied = 0 WHERE id = ?",
        (
            asked.generation,
            asked.deadline,
            *asked.join,
            remaining,
            succeeded,
            verdict and str(verdict),
            None if verdict is None else db.now,
            asked.at,
            asked.flow_id,
        ),
    )
    return [index for index in range(total) if index not in succeeded_ones]


def revive_members(db: Connection, asked: Reopen, missing: Sequence[int]) -> list[str]:
    """Turn the records of members that are missing again into messages; return the ids revived."""
    return revive(db, [step_id(asked.flow_id, index) for index in missing], asked.at, asked.stats)


def advance_flow(db: Connection, flow_id: str, spread: int | None, tidied: bool | None) -> None:  # noqa: FBT001 -- as the port
    """Note how far spreading has come, never back, or that nothing is left to tidy up."""
    if spread is not None:
        db.execute("UPDATE tq_flows SET spread = ? WHERE id = ? AND spread < ?", (spread, flow_id, spread))
    if tidied is not None:
        db.execute("UPDATE tq_flows SET tidied = ? WHERE id = ?", (int(tidied), flow_id))


def purge_flows(db: Connection, before: float, limit: int) -> int:
    """Drop confirmed, closed flows that closed before this instant, members included; return how many."""
    gone = db.execute(
        "SELECT id FROM tq_flows WHERE confirmed = 1 AND verdict IS NOT NULL AND closed_at < ?"
        " ORDER BY closed_at LIMIT ?",
        (before, limit),
    ).fetchall()
    db.executemany("DELETE FROM tq_members WHERE flow = ?", gone)
    db.executemany("DELETE FROM tq_late WHERE flow = ?", gone)
    db.executemany("DELETE FROM tq_flows WHERE id = ?", gone)
    return len(gone)


# --- looking ----------------------------------------------------------------------------------------------------------


def read_states(db: Connection, flow_ids: Sequence[str]) -> dict[str, FlowState]:
    """Return the states of the flows that are known."""
    return {row[0]: _state(row) for row in select_in(db, f"{_SELECT} WHERE id IN ({{}})", flow_ids)}


def read_step_results(db: Connection, flow_id: str, after: int, limit: int) -> list[StepResult]:
    """Return recorded members by index."""
    rows = db.execute(
        "SELECT idx, status, result, error FROM tq_members WHERE flow = ? AND idx > ? ORDER BY idx LIMIT ?",
        (flow_id, after, limit),
    )
    return [StepResult(index, StepStatus(status), result, error) for index, status, result, error in rows.fetchall()]


def list_flows(db: Connection, active: bool | None, after: tuple[float, str] | None, limit: int) -> list[FlowState]:  # noqa: FBT001 -- as the port
    """Return flows, newest first."""
    where = {None: "1", True: "verdict IS NULL", False: "verdict IS NOT NULL"}[active]
    page = "" if after is None else " AND (started_at, id) < (?, ?)"
    sql = f"{_SELECT} WHERE {where}{page} ORDER BY started_at DESC, id DESC LIMIT ?"
    return [_state(row) for row in db.execute(sql, (*(after or ()), limit)).fetchall()]


def due_flows(db: Connection, now: float, limit: int) -> list[FlowState]:
    """Return flows that something must be done for."""
    late = db.execute(
        f"{_SELECT} WHERE verdict IS NULL AND deadline IS NOT NULL AND deadline <= ? ORDER BY deadline LIMIT ?",
        (now, limit),
    ).fetchall()
    todo = db.execute(f"{_SELECT} WHERE {UNFINISHED} ORDER BY id LIMIT ?", (limit,)).fetchall()
    found = {row[0]: row for row in (*late, *todo)}
    return [_state(row) for row in list(found.values())[:limit]]


def quiet_flows(db: Connection, since: float, after: str, limit: int) -> list[FlowState]:
    """Return open flows opened before `since`, by id."""
    rows = db.execute(
        f"{_SELECT} WHERE verdict IS NULL AND id > ? AND opened_at < ? ORDER BY id LIMIT ?", (after, since, limit)
    )
    return [_state(row) for row in rows.fetchall()]


def _state(row: tuple[Any, ...]) -> FlowState:
    flow = Flow(
        id=row[0],
        total=row[1],
        allowed=row[2],
        needed=row[3],
        started_at=row[4],
        generation=row[5],
        deadline=row[6],
        cancel_siblings=bool(row[7]),
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
        confirmed=bool(row[30]),
        spread=row[31],
        tidied=bool(row[32]),
    )
