"""One connection to the file, and what a transaction on it knows."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TypeVar

from tq.errors import ConfigurationError

from .errors import mapped
from .opened import check_folder
from .schema import check_file, migrate
from .settings import SqliteSettings

__all__ = ["Connection", "connect", "transact"]

T = TypeVar("T")

_LEAST_VERSION = (3, 35, 0)
_SWITCH_TRIALS = 200


class Connection(sqlite3.Connection):
    """A connection, with the instant of its transaction and what it remembers between two of them."""

    now: float = 0.0
    """The server's present, read once per transaction, after the write lock was won."""
    added: bool = False
    """Whether this transaction made something due that somebody may be waiting for."""
    seqs: dict[str, int]
    """Id → row of messages handed out here, without a lane: what saves a look-up when they are settled.

    Only a hint: a lease is found by token and row together, and no token is ever used twice.
    """


def connect(settings: SqliteSettings, *, readonly: bool = False) -> Connection:
    """Open the database, as ours, and bring its schema forward.

    Raises:
        ConfigurationError: SQLite is too old.
        BackendError: as `tq_sqlite.errors` maps it.
    """
    if sqlite3.sqlite_version_info < _LEAST_VERSION:
        raise ConfigurationError(f"tq needs SQLite 3.35 or newer, for RETURNING; this is {sqlite3.sqlite_version}")
    place = settings.path or ":memory:"
    if not settings.private:
        check_folder(place)
        check_file(place)
    with mapped(place):
        db = sqlite3.connect(
            place,
            timeout=settings.busy_timeout,
            isolation_level=None,  # transactions are ours to begin
            check_same_thread=False,  # opened by one thread, then used by another, never by two at once
            cached_statements=512,
            factory=Connection,
        )
        try:
            db.seqs = {}
            if not readonly:
                migrate(db, place)
                if not settings.private:
                    _use_log(db)
            for pragma in (
                f"synchronous = {settings.synchronous}",
                f"cache_size = -{max(settings.cache_bytes // 1024, 1)}",
                f"wal_autocheckpoint = {settings.checkpoint_pages}",
                f"journal_size_limit = {64 * 1024 * 1024}",  # after a burst the log shrinks again
                "temp_store = MEMORY",
                *(["query_only = 1"] if readonly else []),
            ):
                db.execute(f"PRAGMA {pragma}")
        except BaseException:
            db.close()
            raise
    return db


def _use_log(db: Connection) -> None:
    """Switch to the write-ahead log: readers then never block.

    The switch needs the file for itself for a moment and does not wait for it; taking the write lock does.
    """
    for left in reversed(range(_SWITCH_TRIALS)):
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or not left:
                raise
            db.execute("BEGIN IMMEDIATE")
            db.execute("ROLLBACK")
        else:
            return  # a file system that cannot share memory keeps its old journal: slower, but as safe


def transact(
    db: Connection, now: Callable[[], float], work: Callable[[Connection], T], begin: str = "BEGIN IMMEDIATE"
) -> T:
    """Run `work` as one transaction."""
    db.execute(begin)
    try:
        db.now = now()
        db.added = False
        value = work(db)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # SQLite itself rolls back when the disk is full
            db.execute("ROLLBACK")
        raise
    return value
