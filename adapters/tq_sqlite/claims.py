"""The claim: take back what dead workers left, choose what is due, and hand it out under a lease."""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from tq.model import Claim, Delivery, Message, Place, Receipt
from tq.ports import Claimed

from .connection import Connection
from .rows import numbers
from .waiting import requeue

__all__ = ["claim_messages", "reclaim"]

_REMEMBERED = 200_000
"""Rows of handed-out messages kept in mind; what is forgotten is looked up again."""

# A hand that edits rows leaves text where bytes were: what is read is bytes again, and no worker dies of it.
_COLUMNS = (
    "m.id, m.queue, m.type, CAST(m.body AS BLOB), m.run_at, m.generation, m.attempt, m.lane, CAST(m.stats AS BLOB),"
    " m.fence,"
    " m.ended, m.crashes, m.solo_crashes, m.unknown_since, m.cancelled_at, m.seq"
)

# The types that wait, by queue: one step of the index for each, however many messages there are.
_KINDS = """
    WITH RECURSIVE served (queue) AS (
        SELECT value FROM json_each(?) WHERE value NOT IN (SELECT queue FROM tq_paused)
    ), kinds (queue, type) AS (
        SELECT queue, (SELECT min(type) FROM tq_waiting w WHERE w.queue = served.queue) FROM served
        UNION ALL
        SELECT queue, (SELECT min(type) FROM tq_waiting w WHERE w.queue = kinds.queue AND w.type > kinds.type)
        FROM kinds WHERE type IS NOT NULL
    ) SELECT queue, type FROM kinds WHERE type IS NOT NULL"""

_DUE = "WHERE w.queue = ? AND w.type = ? AND w.due <= ? ORDER BY w.due, w.seq LIMIT ?"

# Every task passes here, and a tuple made as what it is costs half of what a call by name does.
_made = tuple.__new__  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] -- items of any type

Kind = tuple[str, str]
Row = tuple[Any, ...]


def claim_messages(db: Connection, claim: Claim, place: Place) -> Claimed:
    """Hand out due messages, those that came due first before the others."""
    reclaim(db)
    if claim.limit <= 0 or not claim.queues:
        return Claimed([], None, _told(db, claim.worker))
    served: list[Kind] = db.execute(_KINDS, (json.dumps(list(dict.fromkeys(claim.queues))),)).fetchall()
    caps = claim.caps
    kinds = [kind for kind in served if caps.get(kind, 1) > 0] if caps else served
    rows = _take(db, kinds, claim.limit, caps)
    deliveries = _hand_out(db, rows, claim, place) if rows else []
    next_due = None if len(deliveries) == claim.limit else _next_due(db, _uncapped(kinds, caps, deliveries))
    return Claimed(deliveries, next_due, _told(db, claim.worker))


def reclaim(db: Connection) -> None:
    """Make due again what was left under leases that have run out: a crash is counted."""
    if db.execute("SELECT 1 FROM tq_claims WHERE until <= ? LIMIT 1", (db.now,)).fetchone() is None:
        return
    dead = db.execute(
        "SELECT l.solo, l.seq, l.token FROM tq_claims c CROSS JOIN tq_leases l ON l.token = c.token"
        " WHERE c.until <= ? AND l.until <= ?",
        (db.now, db.now),
    ).fetchall()
    if dead:
        db.executemany("DELETE FROM tq_leases WHERE token = ? AND seq = ?", [(token, seq) for _, seq, token in dead])
        db.executemany(
            "UPDATE tq_messages SET crashes = crashes + 1, solo_crashes = solo_crashes + ?, ended = ended + 1"
            " WHERE seq = ?",
            [(solo, seq) for solo, seq, _ in dead],
        )
        requeue(db, [seq for _, seq, _ in dead])
    _tighten(db, "until <= ?", db.now)


def _tighten(db: Connection, where: str, value: float) -> None:
    """Let the rows of `tq_claims` say what their leases say; those without leases go."""
    of_claim = "FROM tq_leases l WHERE l.token = tq_claims.token"
    db.execute(f"DELETE FROM tq_claims WHERE {where} AND NOT EXISTS (SELECT 1 {of_claim})", (value,))
    db.execute(f"UPDATE tq_claims SET until = (SELECT min(l.until) {of_claim}) WHERE {where}", (value,))


def _told(db: Connection, worker: str) -> tuple[Receipt, ...]:
    """Return what this worker runs and should not."""
    if db.execute("SELECT 1 FROM tq_messages WHERE cancelled_at > 0 LIMIT 1").fetchone() is None:
        return ()
    rows = db.execute(
        "SELECT m.id, l.token FROM tq_leases l CROSS JOIN tq_messages m ON m.seq = l.seq"
        " WHERE l.token >= ? AND l.token < ? AND m.cancelled_at > 0",
        (f"{worker}:", f"{worker};"),  # ";" comes right after ":"
    )
    return tuple(Receipt(id, token) for id, token in rows)


def _uncapped(kinds: list[Kind], caps: Mapping[Kind, int], deliveries: Sequence[Delivery]) -> list[Kind]:
    """Return the kinds of which more might be handed out; for the others the worker knows when it has slots."""
    if not caps:
        return kinds
    taken = Counter((delivery.message.queue, delivery.message.type) for delivery in deliveries)
    return [kind for kind in kinds if kind not in caps or taken[kind] < caps[kind]]


def _take(db: Connection, kinds: Sequence[Kind], most: int, caps: Mapping[Kind, int]) -> list[Row]:
    """Take the first `most` due messages of all kinds out of the waiting ones, of each kind no more than its cap."""
    limit = most
    if len(kinds) == 1:
        limit = min(most, caps.get(kinds[0], most))
        rows: list[Row] = db.execute(
            f"SELECT {_COLUMNS}, w.due FROM tq_waiting w CROSS JOIN tq_messages m ON m.seq = w.seq {_DUE}",
            (*kinds[0], db.now, limit),
        ).fetchall()
        if rows:
            *_, seq, due = rows[-1]
            _pass(db, kinds[0], due, seq)
        return rows
    cursors = [
        db.execute(
            f"SELECT w.due, w.seq, {number} FROM tq_waiting w {_DUE}", (*kind, db.now, min(most, caps.get(kind, most)))
        )
        for number, kind in enumerate(kinds)
    ]
    chosen = list(islice(heapq.merge(*cursors), most))
    for cursor in cursors:
        cursor.close()
    last: dict[int, tuple[float, int]] = {number: (due, seq) for due, seq, number in chosen}
    for number, (due, seq) in last.items():
        _pass(db, kinds[number], due, seq)
    # CROSS JOIN keeps the order of the list, which is the order of handing out.
    return db.execute(
        f"SELECT {_COLUMNS} FROM json_each(?) j CROSS JOIN tq_messages m ON m.seq = j.value",
        (numbers([seq for _, seq, _ in chosen]),),
    ).fetchall()


def _pass(db: Connection, kind: Kind, due: float, seq: int) -> None:
    """Let what waits up to this place wait no longer."""
    db.execute("DELETE FROM tq_waiting WHERE queue = ? AND type = ? AND (due, seq) <= (?, ?)", (*kind, due, seq))


def _hand_out(db: Connection, rows: Sequence[Row], claim: Claim, place: Place) -> list[Delivery]:
    token, until = claim.token, db.now + claim.lease
    db.execute(
        "INSERT INTO tq_leases (token, seq, until) SELECT ?, value, ? FROM json_each(?)",
        (token, until, numbers([row[15] for row in rows])),
    )
    db.execute(
        "INSERT INTO tq_claims (token, until) VALUES (?, ?)"
        " ON CONFLICT (token) DO UPDATE SET until = min(until, excluded.until)",
        (token, until),
    )
    remembered = db.seqs
    if len(remembered) > _REMEMBERED:
        remembered.clear()
    remembered.update([(row[0], row[15]) for row in rows if not row[7]])
    return [
        _made(
            Delivery,
            (_made(Message, row[:10]), token, row[9] + row[10] + 1, row[11], row[12], row[13], row[14] > 0, place),
        )
        for row in rows
    ]


def _next_due(db: Connection, kinds: Sequence[Kind]) -> float | None:
    """Return when something will fall due: the next of each kind, or the first lease to run out."""
    instants: list[float] = []
    for kind in kinds:
        row = db.execute(
            "SELECT due FROM tq_waiting WHERE queue = ? AND type = ? AND due > ? ORDER BY due LIMIT 1", (*kind, db.now)
        ).fetchone()
        if row is not None:
            instants.append(row[0])
    first = _first_end(db)
    if first is not None:
        instants.append(first)
    return min(instants, default=None)


def _first_end(db: Connection) -> float | None:
    """Return the end of the first lease. Bounds in `tq_claims` are made exact as far as needed, each of them once."""
    while (row := db.execute("SELECT token, until FROM tq_claims ORDER BY until LIMIT 1").fetchone()) is not None:
        token, bound = row
        exact: float | None = db.execute("SELECT min(until) FROM tq_leases WHERE token = ?", (token,)).fetchone()[0]
        if exact == bound:
            return exact
        if exact is None:
            db.execute("DELETE FROM tq_claims WHERE token = ?", (token,))
        else:
            db.execute("UPDATE tq_claims SET until = ? WHERE token = ?", (exact, token))
    return None
