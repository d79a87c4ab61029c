"""Which queues live workers serve."""

from __future__ import annotations

from collections.abc import Sequence

from .connection import Connection

__all__ = ["announce", "read_announced"]


def announce(db: Connection, worker: str, queues: Sequence[str], ttl: float) -> None:
    """Note what a worker serves, in place of what it said before; forget workers that have fallen silent."""
    db.execute("DELETE FROM tq_workers WHERE worker = ? OR until <= ?", (worker, db.now))
    db.executemany(
        "INSERT INTO tq_workers (worker, queue, until) VALUES (?, ?, ?)",
        [(worker, queue, db.now + ttl) for queue in dict.fromkeys(queues)],
    )


def read_announced(db: Connection) -> list[str]:
    """Return the queues that a live worker serves, sorted."""
    rows = db.execute("SELECT DISTINCT queue FROM tq_workers WHERE until > ? ORDER BY queue", (db.now,))
    return [row[0] for row in rows.fetchall()]
