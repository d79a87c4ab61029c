"""The one place where exceptions of sqlite3 become errors of tq."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Mapping
from contextlib import contextmanager

from tq.errors import (
    BackendError,
    BackendUnavailableError,
    ContentRefusedError,
    DatabaseFullError,
    DatabaseLockedError,
    ForeignDatabaseError,
    ReadOnlyDatabaseError,
)

__all__ = ["ERRORS", "mapped"]

ERRORS: Mapping[int, type[BackendError]] = {
    sqlite3.SQLITE_BUSY: DatabaseLockedError,
    sqlite3.SQLITE_LOCKED: DatabaseLockedError,
    sqlite3.SQLITE_PROTOCOL: DatabaseLockedError,  # the race for the locks of the write-ahead log was lost too often
    sqlite3.SQLITE_FULL: DatabaseFullError,
    sqlite3.SQLITE_NOLFS: DatabaseFullError,  # the file system holds no larger file
    sqlite3.SQLITE_READONLY: ReadOnlyDatabaseError,
    sqlite3.SQLITE_PERM: ReadOnlyDatabaseError,
    sqlite3.SQLITE_AUTH: ReadOnlyDatabaseError,
    sqlite3.SQLITE_NOTADB: ForeignDatabaseError,
    sqlite3.SQLITE_FORMAT: ForeignDatabaseError,
    sqlite3.SQLITE_TOOBIG: ContentRefusedError,
    sqlite3.SQLITE_CONSTRAINT: ContentRefusedError,
    sqlite3.SQLITE_MISMATCH: ContentRefusedError,
    sqlite3.SQLITE_CANTOPEN: BackendUnavailableError,  # also when the process has no file descriptor left
    sqlite3.SQLITE_IOERR: BackendUnavailableError,
    sqlite3.SQLITE_NOMEM: BackendUnavailableError,
    sqlite3.SQLITE_INTERRUPT: BackendUnavailableError,
    sqlite3.SQLITE_ABORT: BackendUnavailableError,
    sqlite3.SQLITE_SCHEMA: BackendUnavailableError,  # another process migrated while the statement was prepared
    # What is left says that the file is damaged, or that a statement of ours is wrong: trying again helps nobody.
    sqlite3.SQLITE_CORRUPT: BackendError,
    sqlite3.SQLITE_ERROR: BackendError,
    sqlite3.SQLITE_INTERNAL: BackendError,
    sqlite3.SQLITE_MISUSE: BackendError,
    sqlite3.SQLITE_RANGE: BackendError,
    sqlite3.SQLITE_NOTFOUND: BackendError,
    sqlite3.SQLITE_EMPTY: BackendError,
}
"""Primary result code → our error."""


@contextmanager
def mapped(place: str) -> Generator[None, None, None]:
    """Raise errors of tq in place of sqlite3's; `place` names the database in the message.

    Raises:
        BackendError: and its branches, with the cause.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise translate(error, place) from error
    except (
        OverflowError,
        UnicodeEncodeError,
    ) as error:  # raised before SQLite sees it: a number or text it cannot hold
        raise ContentRefusedError(f"{place} cannot hold this value: {error}") from error


def translate(error: sqlite3.Error, place: str) -> BackendError:
    """Return our error for one of sqlite3's."""
    code: int | None = getattr(error, "sqlite_errorcode", None)  # absent where the module itself refused
    if code is not None:
        kind = ERRORS.get(code & 0xFF, BackendError)
        name: str = getattr(error, "sqlite_errorname", "")
        return kind(f"{place}: {error} ({name})")
    words = str(error)
    if isinstance(error, sqlite3.InterfaceError | sqlite3.DataError) or "binding parameter" in words.lower():
        return ContentRefusedError(f"{place} cannot hold this value: {words}")
    if "closed database" in words:
        return BackendError(f"{place} was closed")
    return BackendError(f"{place}: {words}")
