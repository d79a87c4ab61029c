"""How tasks ended: records, dead letters among them, and how they become messages again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tq.model import Message, Record, TaskStatus

from .connection import Connection
from .messages import insert
from .rows import Insert, select_in

__all__ = ["forget", "list_records", "purge_records", "read_records", "revive", "write_records"]

_COLUMNS = "task_id, queue, type, status, at, expires_at, generation, attempt, fence, dead, result, error, stats, body"

_OVER_OLDER = (
    "ON CONFLICT (task_id) DO UPDATE SET queue = excluded.queue, type = excluded.type, status = excluded.status,"
    " at = excluded.at, expires_at = excluded.expires_at, generation = excluded.generation,"
    " attempt = excluded.attempt, fence = excluded.fence, dead = excluded.dead, result = excluded.result,"
    " error = excluded.error, stats = excluded.stats, body = excluded.body WHERE excluded.generation > generation"
)

_insert = Insert("tq_records", _COLUMNS, _OVER_OLDER)
_insert_plain = Insert("tq_records", _COLUMNS.replace("dead, ", "").replace(", error, stats, body", ""), _OVER_OLDER)
"""For successes: what is not bound costs nothing, and they are the many."""

_STATUS = {status: str(status) for status in TaskStatus}  # SQLite binds a plain str much faster than one of a subclass


def write_records(db: Connection, records: Sequence[Record]) -> None:
    """Insert; over a record of the same id only if the generation is larger."""
    plain: list[tuple[object, ...]] = []
    rest: list[tuple[object, ...]] = []
    for record in records:
        task_id, queue, type, status, at, expires, generation, attempt, fence, dead, result, error, stats, body = record
        if dead or error is not None or stats or body is not None:
            rest.append((*record[:3], _STATUS[status], *record[4:9], 1 if dead else 0, *record[10:]))
        else:
            plain.append((task_id, queue, type, _STATUS[status], at, expires, generation, attempt, fence, result))
    if plain and rest and len({record.task_id for record in records}) < len(records):
        # Of two endings of one task the first counts: they go in one after the other.
        for record in records:
            write_records(db, [record])
        return
    if plain:
        _insert_plain(db, plain)
    if rest:
        _insert(db, rest)


def read_records(db: Connection, ids: Sequence[str]) -> dict[str, Record]:
    """Return what is recorded for these ids."""
    rows = select_in(db, f"SELECT {_COLUMNS} FROM tq_records WHERE task_id IN ({{}})", ids)
    return {row[0]: _record(row) for row in rows}


def _record(row: tuple[Any, ...]) -> Record:
    task_id, queue, type, status, at, expires_at, generation, attempt, fence, dead, *rest = row
    status, dead = TaskStatus(status), bool(dead)
    return Record(task_id, queue, type, status, at, expires_at, generation, attempt, fence, dead, *rest)


def list_records(
    db: Connection,
    *,
    dead: bool | None,
    status: TaskStatus | None,
    queue: str | None,
    type: str | None,
    after: tuple[float, str] | None,
    limit: int,
) -> list[Record]:
    """Return records, newest first."""
    where: list[str] = []
    values: list[object] = []
    if dead is not None:
        where.append(f"dead = {int(dead)}")  # not bound: the partial index must be seen to fit
    for column, value in (("status", status and _STATUS[status]), ("queue", queue), ("type", type)):
        if value is not None:
            where.append(f"{column} = ?")
            values.append(value)
    if after is not None:
        where.append("(at, task_id) < (?, ?)")
        values.extend(after)
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM tq_records WHERE {' AND '.join(where) or '1'} ORDER BY at DESC, task_id DESC LIMIT ?",
        (*values, limit),
    )
    return [_record(row) for row in rows.fetchall()]


def revive(db: Connection, ids: Sequence[str], at: float, stats: bytes) -> list[str]:
    """Turn records that kept a body into messages of the next generation; return the ids revived."""
    rows = list(
        select_in(
            db,
            "SELECT task_id, queue, type, body, generation, fence FROM tq_records r WHERE body IS NOT NULL"
            " AND NOT EXISTS (SELECT 1 FROM tq_messages m WHERE m.id = r.task_id) AND task_id IN ({})",
            ids,
        )
    )
    found = {
        id: Message(id, queue, type, body, at, generation + 1, stats=stats, fence=fence)
        for id, queue, type, body, generation, fence in rows
    }
    revived = [found[id] for id in dict.fromkeys(ids) if id in found]
    forget(db, [message.id for message in revived])
    insert(db, revived)
    return [message.id for message in revived]


def forget(db: Connection, ids: Sequence[str]) -> list[str]:
    """Remove records; return the ids removed."""
    rows = select_in(db, "DELETE FROM tq_records WHERE task_id IN ({}) RETURNING task_id", ids)
    removed = {row[0] for row in rows}
    return [id for id in dict.fromkeys(ids) if id in removed]


def purge_records(db: Connection, now: float, limit: int) -> int:
    """Drop records whose time has come; return how many."""
    return db.execute(
        "DELETE FROM tq_records WHERE task_id IN"
        " (SELECT task_id FROM tq_records WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)",
        (now, limit),
    ).rowcount
