"""Writing inside a transaction of the user's own, on a connection of theirs to the same file."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from tq.errors import InvalidInputError

from .connection import Connection
from .errors import mapped
from .settings import SqliteSettings

__all__ = ["admitted"]

WAYS_IN = "give a sqlite3.Connection to the handler's own file, with a transaction begun, in the thread that opened it"


class Guest:
    """Somebody else's connection, as a `Connection`: whatever it makes of its own rows, ours are plain."""

    def __init__(self, connection: sqlite3.Connection, now: float) -> None:
        self._connection = connection
        self.now = now
        self.added = False
        self.seqs: dict[str, int] = {}

    def execute(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> sqlite3.Cursor:
        """Run a statement."""
        return self._cursor().execute(sql, parameters)

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]]) -> sqlite3.Cursor:
        """Run a statement for each of `parameters`."""
        return self._cursor().executemany(sql, parameters)

    def _cursor(self) -> sqlite3.Cursor:
        cursor = self._connection.cursor()
        cursor.row_factory = None
        return cursor


@contextmanager
def admitted(given: object, settings: SqliteSettings, now: float) -> Generator[Connection, None, None]:
    """Let a connection in for a while, within a savepoint of its transaction; where it fails, that is as it was.

    Raises:
        InvalidInputError: it is no connection, leads to another file, or has no transaction begun.
        BackendError: as `tq_sqlite.errors` maps it.
    """
    if not isinstance(given, sqlite3.Connection) or settings.private:
        raise InvalidInputError("connection", given, f"{WAYS_IN}: {settings.path or 'there is none in memory'}")
    guest = Guest(given, now)
    with mapped(settings.path), _plain_text(given):
        if not given.in_transaction or not _leads_here(guest, settings.path):
            raise InvalidInputError("connection", given, f"{WAYS_IN}: {settings.path}")
        guest.execute("SAVEPOINT tq")
        try:
            yield cast("Connection", guest)  # it has all that our functions use
        except BaseException:
            guest.execute("ROLLBACK TO tq")
            raise
        finally:
            guest.execute("RELEASE tq")


@contextmanager
def _plain_text(connection: sqlite3.Connection) -> Generator[None, None, None]:
    theirs, connection.text_factory = connection.text_factory, str
    try:
        yield
    finally:
        connection.text_factory = theirs


def _leads_here(guest: Guest, path: str) -> bool:
    files = {name: file for _, name, file in guest.execute("PRAGMA database_list")}
    return bool(files["main"]) and Path(files["main"]).samefile(path)
