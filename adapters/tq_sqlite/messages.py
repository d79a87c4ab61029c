"""Messages: how they come in, are replaced, cancelled, ended without a lease, and looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tq.model import Message, Place, State, Whereabouts

from .connection import Connection
from .leases import lower_bounds
from .rows import Insert, numbers, select_in
from .waiting import enter, leave, promote, requeue

__all__ = [
    "append",
    "cancel",
    "counts",
    "insert",
    "list_messages",
    "locate",
    "park",
    "pause",
    "put",
    "read_paused",
    "resolve",
]

_insert = Insert(
    "tq_messages",
    "id, queue, type, body, run_at, generation, attempt, lane, stats, fence",
    "ON CONFLICT (id) DO NOTHING",
)

_COUNTS = (
    "SELECT queue, due <= :now, count(*) FROM tq_waiting GROUP BY 1, 2",
    # Messages behind another one of their lane wait, too, though not in tq_waiting.
    """SELECT m.queue, m.cancelled_at > 0 OR m.run_at <= :now, count(*) FROM tq_messages m
        WHERE m.lane <> '' AND m.held = '' AND EXISTS
            (SELECT 1 FROM tq_messages o WHERE o.lane = m.lane AND o.lane <> '' AND o.seq < m.seq) GROUP BY 1, 2""",
    "SELECT m.queue, 2, count(*) FROM tq_leases l CROSS JOIN tq_messages m ON m.seq = l.seq GROUP BY 1, 2",
    "SELECT queue, 3, count(*) FROM tq_messages WHERE held <> '' GROUP BY 1, 2",
)
_STATES = ("delayed", "waiting", "running", "held")

_WHEREABOUTS = (
    "SELECT id, queue, type, run_at, generation, attempt, crashes, held, cancelled_at > 0, stats, seq FROM tq_messages"
)


def insert(db: Connection, messages: Sequence[Message]) -> list[str]:
    """Insert what is neither live nor recorded; return the ids that were taken."""
    if not messages:
        return []
    last = _last(db)
    written = _insert(db, messages)
    if db.execute("SELECT 1 FROM tq_records LIMIT 1").fetchone() is not None:
        written -= db.execute(
            "DELETE FROM tq_messages WHERE seq > ? AND EXISTS (SELECT 1 FROM tq_records r WHERE r.task_id = id)",
            (last,),
        ).rowcount
    if written:
        enter(db, last)
    return [] if written == len(messages) else _duplicates(db, messages, last)


def _last(db: Connection) -> int:
    last: int = db.execute("SELECT coalesce(max(seq), 0) FROM tq_messages").fetchone()[0]
    return last


def _duplicates(db: Connection, messages: Sequence[Message], last: int) -> list[str]:
    fresh = {row[0] for row in db.execute("SELECT id FROM tq_messages WHERE seq > ?", (last,))}
    taken: list[str] = []
    for message in messages:
        if message.id in fresh:
            fresh.discard(message.id)  # named twice, it is taken the second time
        else:
            taken.append(message.id)
    return taken


def append(db: Connection, lane: str, messages: Sequence[Message]) -> bool:
    """Add behind the lane's messages; False where it has none."""
    if db.execute("SELECT 1 FROM tq_messages WHERE lane = ? AND lane <> '' LIMIT 1", (lane,)).fetchone() is None:
        return False
    insert(db, messages)
    return True


def park(db: Connection, message: Message, token: str, lease: float) -> bool:
    """Insert a message that is running; False where the id is live."""
    last = _last(db)
    if not _insert(db, [message]):
        return False
    until = db.now + lease
    db.execute(
        "INSERT INTO tq_leases (token, seq, until) SELECT ?, seq, ? FROM tq_messages WHERE seq > ?",
        (token, until, last),
    )
    lower_bounds(db, [token], until)
    return True


def put(db: Connection, messages: Sequence[tuple[Message, str]]) -> None:
    """Insert or, over an older execution, replace: whoever ran the older one has lost it."""
    for message, flow in messages:
        last = _last(db)
        if _insert(db, [message]):
            db.execute("UPDATE tq_messages SET held = ? WHERE seq > ?", (flow, last))
            enter(db, last)
            continue
        found = db.execute(
            "SELECT seq, held <> '' FROM tq_messages WHERE id = ? AND (generation, attempt) < (?, ?)",
            (message.id, message.generation, message.attempt),
        ).fetchone()
        if found is None:
            continue
        seq: int = found[0]
        running = db.execute("DELETE FROM tq_leases WHERE seq = ?", (seq,)).rowcount
        ready = running or leave(db, [seq]) or found[1]
        db.execute(
            "UPDATE tq_messages SET body = ?, run_at = ?, generation = ?, attempt = ?, stats = ?, fence = ?,"
            " ended = max(fence + ended + ? - ?, 0), held = ? WHERE seq = ?",
            (
                message.body,
                message.run_at,
                message.generation,
                message.attempt,
                message.stats,
                message.fence,
                running,
                message.fence,
                flow,
                seq,
            ),
        )
        if ready:  # otherwise it stands behind another one of its lane, as it did
            requeue(db, [seq])


def resolve(db: Connection, task_id: str, flow_id: str) -> tuple[bytes, int] | None:
    """End a message that this flow holds; return its body and fence, or None where it is not held by it."""
    row = db.execute(
        "SELECT seq, lane, body, fence + ended FROM tq_messages WHERE id = ? AND held = ? AND held <> ''",
        (task_id, flow_id),
    ).fetchone()
    if row is None:
        return None
    db.execute("DELETE FROM tq_messages WHERE seq = ?", (row[0],))
    promote(db, [(row[0], row[1])])
    return row[2], row[3]


def cancel(db: Connection, ids: Sequence[str]) -> list[str]:
    """Ask for these to end; return the ids found."""
    rows = list(select_in(db, "SELECT id, seq FROM tq_messages WHERE id IN ({})", ids))
    seqs = [seq for _, seq in rows]
    waiting = leave(db, seqs)
    db.execute(
        "UPDATE tq_messages SET cancelled_at = ? WHERE cancelled_at = 0 AND seq IN (SELECT value FROM json_each(?))",
        (db.now, numbers(seqs)),
    )
    requeue(db, waiting)
    found = {id for id, _ in rows}
    return [id for id in dict.fromkeys(ids) if id in found]


# --- looking ----------------------------------------------------------------------------------------------------------


def locate(db: Connection, ids: Sequence[str], place: Place) -> dict[str, Whereabouts]:
    """Tell where live messages are."""
    rows = list(select_in(db, f"{_WHEREABOUTS} WHERE id IN ({{}})", ids))
    return {where.id: where for where in _whereabouts(db, rows, place)}


def list_messages(db: Connection, queue: str | None, after: str, limit: int, place: Place) -> list[Whereabouts]:
    """Return a page of live messages, by id."""
    rows = db.execute(
        f"{_WHEREABOUTS} WHERE id > ? AND (? IS NULL OR queue = ?) ORDER BY id LIMIT ?", (after, queue, queue, limit)
    ).fetchall()
    return _whereabouts(db, rows, place)


def _whereabouts(db: Connection, rows: Sequence[tuple[Any, ...]], place: Place) -> list[Whereabouts]:
    leases: dict[int, tuple[float, str]] = {
        seq: (until, token)
        for seq, until, token in db.execute(
            "SELECT seq, until, token FROM tq_leases WHERE seq IN (SELECT value FROM json_each(?))",
            (numbers([row[-1] for row in rows]),),
        )
    }
    found: list[Whereabouts] = []
    for id, queue, type, run_at, generation, attempt, crashes, held, cancelled, stats, seq in rows:
        until, token = leases.get(seq, (0.0, ""))
        state = State.RUNNING if token else State.HELD if held else State.WAITING
        found.append(
            Whereabouts(
                id,
                queue,
                type,
                state,
                run_at,
                generation,
                attempt,
                until,
                token,
                crashes,
                held,
                bool(cancelled),
                stats,
                place,
            )
        )
    return found


def counts(db: Connection) -> Mapping[str, Mapping[str, int]]:
    """Count live messages by queue and state; looks at what waits, runs or is held, never at bodies."""
    found: dict[str, dict[str, int]] = {}
    for sql in _COUNTS:
        for queue, kind, number in db.execute(sql, {"now": db.now}):
            row = found.setdefault(queue, {"waiting": 0, "delayed": 0, "running": 0, "held": 0})
            row[_STATES[kind]] += number
    return found


def pause(db: Connection, queue: str, paused: bool) -> None:  # noqa: FBT001 -- as the port says it
    """Stop or resume handing out a queue's messages."""
    if paused:
        db.execute("INSERT INTO tq_paused (queue) VALUES (?) ON CONFLICT DO NOTHING", (queue,))
    else:
        db.execute("DELETE FROM tq_paused WHERE queue = ?", (queue,))
        db.added = True


def read_paused(db: Connection) -> list[str]:
    """Return the names of paused queues, sorted."""
    return [row[0] for row in db.execute("SELECT queue FROM tq_paused ORDER BY queue")]
