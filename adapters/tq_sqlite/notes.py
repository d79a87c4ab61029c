"""Outgoing notes: what is owed to somebody else's system, in order."""

from __future__ import annotations

from collections.abc import Sequence

from tq.model import Outgoing

from .connection import Connection
from .rows import Insert

__all__ = ["put_outgoing", "read_outgoing", "sent"]

_insert = Insert("tq_outgoing", "topic, id, body", "ON CONFLICT (topic, id) DO NOTHING")


def put_outgoing(db: Connection, notes: Sequence[Outgoing]) -> None:
    """Append in order; a note whose (topic, id) is there stays as it is."""
    _insert(db, [note[:3] for note in notes])


def read_outgoing(db: Connection, topic: str, limit: int) -> list[Outgoing]:
    """Return the oldest notes of a topic."""
    rows = db.execute(
        "SELECT topic, id, body, seq FROM tq_outgoing WHERE topic = ? ORDER BY seq LIMIT ?", (topic, limit)
    )
    return [Outgoing(*row) for row in rows.fetchall()]


def sent(db: Connection, notes: Sequence[Outgoing]) -> None:
    """Remove notes that were handed over."""
    db.executemany(
        "DELETE FROM tq_outgoing WHERE seq = ? AND topic = ? AND id = ?",
        [(note.seq, note.topic, note.id) for note in notes],
    )
