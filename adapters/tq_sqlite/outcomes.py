"""Outcomes of executions whose effects go to other servers: the first one recorded counts for everybody."""

from __future__ import annotations

from collections.abc import Sequence

from tq.ports import OutcomeKey, Stored

from .connection import Connection
from .rows import Insert, select_in

__all__ = ["carried", "list_uncarried", "purge_outcomes", "put_outcomes", "read_outcomes"]

_insert = Insert("tq_outcomes", "task_id, generation, attempt, outcome, at")


def put_outcomes(db: Connection, given: Sequence[tuple[OutcomeKey, bytes]], at: float) -> dict[OutcomeKey, Stored]:
    """Record each unless its key has one; return those that were there before."""
    before = read_outcomes(db, [key for key, _ in given])
    _insert(db, [(*key, outcome, at) for key, outcome in given if key not in before])
    return before


def read_outcomes(db: Connection, keys: Sequence[OutcomeKey]) -> dict[OutcomeKey, Stored]:
    """Return what is recorded."""
    wanted = set(keys)
    found: dict[OutcomeKey, Stored] = {}
    rows = select_in(
        db,
        "SELECT task_id, generation, attempt, outcome, carried, at FROM tq_outcomes WHERE task_id IN ({})",
        list(dict.fromkeys(key.task_id for key in keys)),
    )
    for task_id, generation, attempt, outcome, carried, at in rows:
        key = OutcomeKey(task_id, generation, attempt)
        if key in wanted:
            found[key] = Stored(key, outcome, bool(carried), at)
    return found


def carried(db: Connection, keys: Sequence[OutcomeKey]) -> None:
    """Note that the effects of these are carried out."""
    db.executemany("UPDATE tq_outcomes SET carried = 1 WHERE task_id = ? AND generation = ? AND attempt = ?", keys)


def list_uncarried(db: Connection, after: OutcomeKey | None, limit: int) -> list[Stored]:
    """Return a page of those that are not noted as carried out, by key."""
    where = "" if after is None else " AND (task_id, generation, attempt) > (?, ?, ?)"
    rows = db.execute(
        f"SELECT task_id, generation, attempt, outcome, at FROM tq_outcomes WHERE carried = 0{where}"
        " ORDER BY task_id, generation, attempt LIMIT ?",
        (*(after or ()), limit),
    )
    return [Stored(OutcomeKey(*key), outcome, carried=False, at=at) for *key, outcome, at in rows]


def purge_outcomes(db: Connection, before: float, limit: int) -> int:
    """Drop carried outcomes recorded before this instant; return how many."""
    return db.execute(
        "DELETE FROM tq_outcomes WHERE (task_id, generation, attempt) IN (SELECT task_id, generation, attempt"
        " FROM tq_outcomes WHERE carried = 1 AND at < ? ORDER BY at LIMIT ?)",
        (before, limit),
    ).rowcount
