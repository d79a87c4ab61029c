"""Parts of wide plans: messages in waiting, not yet anybody's."""

from __future__ import annotations

from collections.abc import Sequence

from tq.model import Chunk, Message

from .connection import Connection
from .rows import Insert

__all__ = ["purge_chunks", "put_chunks", "read_chunk"]

_MESSAGE = "id, queue, type, body, run_at, generation, attempt, lane, stats, fence"

_insert = Insert("tq_chunk_messages", f"plan, number, place, {_MESSAGE}")


def put_chunks(db: Connection, chunks: Sequence[Chunk]) -> None:
    """Write parts of plans; one that is there stays as it is."""
    for part in chunks:
        if db.execute(
            "INSERT INTO tq_chunks (plan, number, at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            (part.plan, part.number, part.at),
        ).rowcount:
            _insert(db, [(part.plan, part.number, place, *message) for place, message in enumerate(part.messages)])


def read_chunk(db: Connection, plan: str, number: int) -> Chunk | None:
    """Return a part of a plan."""
    row = db.execute("SELECT at FROM tq_chunks WHERE plan = ? AND number = ?", (plan, number)).fetchone()
    if row is None:
        return None
    messages = db.execute(
        f"SELECT {_MESSAGE} FROM tq_chunk_messages WHERE plan = ? AND number = ? ORDER BY place", (plan, number)
    ).fetchall()
    return Chunk(plan, number, tuple(Message(*message) for message in messages), row[0])


def purge_chunks(db: Connection, before: float, limit: int) -> int:
    """Drop parts written before this instant; return how many."""
    gone = db.execute("SELECT plan, number FROM tq_chunks WHERE at < ? ORDER BY at LIMIT ?", (before, limit)).fetchall()
    for table in ("tq_chunk_messages", "tq_chunks"):
        db.executemany(f"DELETE FROM {table} WHERE plan = ? AND number = ?", gone)
    return len(gone)
