"""Counting members: each once, and each flow decided once per step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tq.model import FlowState, Mark, StepStatus, Verdict, decide

from .connection import Connection
from .flows import read_states
from .messages import insert
from .rows import Insert, select_in

__all__ = ["release_joins", "write_marks"]

_insert = Insert("tq_members", "flow, idx, status, result, error", "ON CONFLICT DO NOTHING RETURNING flow, idx")

_STATUS = {status: str(status) for status in StepStatus}


@dataclass(slots=True)
class _Count:
    """An open flow, and what this step adds to it."""

    generation: int
    total: int
    allowed: int
    needed: int
    remaining: int
    succeeded: int
    failed: int
    trigger: int = -1
    seen: dict[int, StepStatus] = field(default_factory=dict[int, StepStatus])

    def add(self, index: int) -> None:
        self.remaining -= 1
        if self.seen[index] is StepStatus.SUCCESS:
            self.succeeded += 1
            return
        self.failed += 1
        if self.failed == self.allowed + 1:
            self.trigger = index


def write_marks(db: Connection, marks: Sequence[tuple[Mark, bool]]) -> list[str]:
    """Record unseen members of open flows and decide; return the flows decided now.

    The second part of each says that the member's lease was held: then its generation does not matter.
    """
    if not marks:
        return []
    counts = _open(db, dict.fromkeys(mark.flow_id for mark, _ in marks))
    _keep_late(db, [mark for mark, _ in marks if mark.flow_id not in counts and mark.status is StepStatus.SUCCESS])
    rows: list[tuple[str, int, str, bytes | None, str | None]] = []
    for mark, fenced in marks:
        count = counts.get(mark.flow_id)
        if count is None or not 0 <= mark.index < count.total or mark.index in count.seen:
            continue
        if fenced or mark.generation >= count.generation or mark.status is StepStatus.SUCCESS:
            count.seen[mark.index] = mark.status
            rows.append((mark.flow_id, mark.index, _STATUS[mark.status], mark.result, mark.error))
    new = set(_insert.returning(db, rows))
    changed: dict[str, _Count] = {}
    for flow_id, index, *_ in rows:  # in the order of the marks: the answer comes in any order
        if (flow_id, index) in new:
            count = changed[flow_id] = counts[flow_id]
            count.add(index)
    return _decide(db, changed)


def _keep_late(db: Connection, marks: Sequence[Mark]) -> None:
    """Keep successes that came after the verdict: they count when the flow is opened again."""
    db.executemany(
        "INSERT INTO tq_late (flow, idx, result) SELECT ?, ?, ?"
        " WHERE EXISTS (SELECT 1 FROM tq_flows WHERE id = ? AND ? BETWEEN 0 AND total - 1) ON CONFLICT DO NOTHING",
        [(mark.flow_id, mark.index, mark.result, mark.flow_id, mark.index) for mark in marks],
    )


def _open(db: Connection, flow_ids: Iterable[str]) -> dict[str, _Count]:
    rows = select_in(
        db,
        "SELECT id, generation, total, allowed, needed, remaining, succeeded, failed FROM tq_flows"
        " WHERE verdict IS NULL AND id IN ({})",
        list(flow_ids),
    )
    return {row[0]: _Count(*row[1:]) for row in rows}


def _decide(db: Connection, changed: dict[str, _Count]) -> list[str]:
    closed: list[str] = []
    rows: list[tuple[object, ...]] = []
    for flow_id, count in changed.items():
        verdict = decide(
            remaining=count.remaining,
            succeeded=count.succeeded,
            failed=count.failed,
            allowed=count.allowed,
            needed=count.needed,
        )
        if verdict is not None:
            closed.append(flow_id)
        trigger = count.trigger if verdict is Verdict.ABORTED else -1
        rows.append(
            (
                count.remaining,
                count.succeeded,
                count.failed,
                verdict and str(verdict),
                trigger,
                None if verdict is None else db.now,
                flow_id,
            )
        )
    db.executemany(
        "UPDATE tq_flows SET remaining = ?, succeeded = ?, failed = ?, verdict = ?, trigger_index = ?, closed_at = ?"
        " WHERE id = ?",
        rows,
    )
    return closed


def release_joins(db: Connection, closed: Sequence[str]) -> list[FlowState]:
    """Let the joins of flows decided in this transaction run; return the flows' states.

    Nobody can see the verdict without the join, so it is on its way for good, and confirmed at once.
    """
    if not closed:
        return []
    db.executemany("UPDATE tq_flows SET confirmed = 1 WHERE id = ?", [(flow_id,) for flow_id in closed])
    found = read_states(db, closed)
    insert(db, [found[flow_id].flow.join._replace(run_at=db.now) for flow_id in closed])
    return [found[flow_id] for flow_id in closed]
