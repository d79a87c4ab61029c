"""What may be handed out once it is due: rows enter and leave `tq_waiting` here, and by a claim.

A message waits there unless it is leased, held, or behind another one of its lane.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .connection import Connection
from .rows import numbers

__all__ = ["enter", "leave", "promote", "requeue"]

_DUE = "CASE WHEN cancelled_at > 0 THEN min(run_at, cancelled_at) ELSE run_at END"
"""A cancelled message is due at once: it only has to be ended."""

_ENTER = f"INSERT INTO tq_waiting (queue, type, due, seq) SELECT queue, type, {_DUE}, seq FROM tq_messages"


def enter(db: Connection, after: int) -> None:
    """Let the messages with a larger `seq` wait: they were added just now."""
    db.execute(
        f"{_ENTER} AS m WHERE seq > ? AND held = ''"
        " AND (lane = '' OR NOT EXISTS"
        " (SELECT 1 FROM tq_messages o WHERE o.lane = m.lane AND o.lane <> '' AND o.seq < m.seq))",
        (after,),
    )
    db.added = True


def requeue(db: Connection, seqs: Sequence[int]) -> None:
    """Let these wait again: their lease is over, and of their lane they are the oldest."""
    if seqs:
        db.execute(f"{_ENTER} WHERE held = '' AND seq IN (SELECT value FROM json_each(?))", (numbers(seqs),))
        db.added = True


def promote(db: Connection, gone: Iterable[tuple[int, str]]) -> None:
    """Let the next of each lane wait, given (seq, lane) of messages that are gone.

    Only where the oldest is gone: the oldest that is still there may be running.
    """
    for seq, lane in gone:
        if lane:
            db.execute(
                f"{_ENTER} WHERE seq = (SELECT min(seq) FROM tq_messages WHERE lane = ? AND lane <> '') AND seq > ?"
                " AND held = '' ON CONFLICT DO NOTHING",
                (lane, seq),
            )
            db.added = True


def leave(db: Connection, seqs: Sequence[int]) -> list[int]:
    """Take these out; return those that were waiting."""
    keys = db.execute(
        f"SELECT queue, type, {_DUE}, seq FROM tq_messages WHERE seq IN (SELECT value FROM json_each(?))",
        (numbers(seqs),),
    ).fetchall()
    sql = "DELETE FROM tq_waiting WHERE queue = ? AND type = ? AND due = ? AND seq = ?"
    return [key[3] for key in keys if db.execute(sql, key).rowcount]
