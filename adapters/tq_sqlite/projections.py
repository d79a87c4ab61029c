"""Projection rows, in the table `tq_projections`, which anybody may SELECT from.

task_id       TEXT     the task, or flow, that the row is about; its key
entity_id     TEXT     entity_type TEXT, task_type TEXT, queue_id TEXT: what it works on, and where
status        TEXT     scheduled, processing, executed, failed, expired, ignored or cancelled
version       INTEGER  only ever grows: ms of created_at × 2048 + generation × 4 + 0 scheduled, 1 processing, 2 ended;
                       0 where it is scheduled for the first time
created_at    REAL     seconds since 1970-01-01T00:00Z: `datetime(created_at, 'unixepoch')` makes it readable
updated_at    REAL     as created_at
payload       TEXT     JSON, or NULL
result        TEXT     JSON, or NULL
error         TEXT     or NULL
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tq.model import Projection, TaskStatus

from .connection import Connection
from .rows import Insert, select_in

__all__ = ["find_projections", "read_projections", "write_projections"]

_COLUMNS = (
    "task_id, entity_id, entity_type, task_type, queue_id, status, version, created_at, updated_at, payload, result,"
    " error"
)
_NAMES = _COLUMNS.split(", ")
_READ = _COLUMNS.replace("payload", "CAST(payload AS BLOB)").replace("result", "CAST(result AS BLOB)")

_insert = Insert(
    "tq_projections",
    _COLUMNS,
    "ON CONFLICT (task_id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _NAMES[1:])
    + " WHERE excluded.version > version",
)


def write_projections(db: Connection, rows: Sequence[Projection]) -> None:
    """Write each row whose version is larger than the stored one's."""
    if rows:
        _insert(
            db,
            [(*row[:5], str(row.status), *row[6:9], _text(row.payload), _text(row.result), row.error) for row in rows],
        )


def _text(json: bytes | None) -> str | None:
    return None if json is None else json.decode()


def _row(row: tuple[Any, ...]) -> Projection:
    task_id, entity_id, entity_type, task_type, queue_id, status, *rest = row
    return Projection(task_id, entity_id, entity_type, task_type, queue_id, TaskStatus(status), *rest)


def read_projections(db: Connection, task_ids: Sequence[str]) -> dict[str, Projection]:
    """Return rows by task id."""
    rows = select_in(db, f"SELECT {_READ} FROM tq_projections WHERE task_id IN ({{}})", task_ids)
    return {row[0]: _row(row) for row in rows}


def find_projections(
    db: Connection,
    *,
    entity_type: str | None,
    entity_id: str | None,
    status: TaskStatus | None,
    task_type: str | None,
    updated_from: float | None,
    updated_to: float | None,
    after: tuple[float, str] | None,
    limit: int,
) -> list[Projection]:
    """Return rows, newest first."""
    where: list[str] = []
    values: list[object] = []
    for words, value in (
        ("entity_type = ?", entity_type),
        ("entity_id = ?", entity_id),
        ("status = ?", status and str(status)),
        ("task_type = ?", task_type),
        ("updated_at >= ?", updated_from),
        ("updated_at < ?", updated_to),
    ):
        if value is not None:
            where.append(words)
            values.append(value)
    if after is not None:
        where.append("(updated_at, task_id) < (?, ?)")
        values.extend(after)
    rows = db.execute(
        f"SELECT {_READ} FROM tq_projections WHERE {' AND '.join(where) or '1'}"
        " ORDER BY updated_at DESC, task_id DESC LIMIT ?",
        (*values, limit),
    )
    return [_row(row) for row in rows.fetchall()]
