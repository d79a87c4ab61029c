"""Many rows with few statements.

Binding and stepping cost more than the tree does, and between two steps the interpreter's lock changes hands: so rows
go in by blocks, and lists go in as one parameter.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

__all__ = ["Insert", "numbers", "select_in"]

_BLOCKS = (100, 10, 1)
_WIDEST = 512


class Insert:
    """`INSERT INTO table (columns) VALUES … tail`, for any number of rows."""

    __slots__ = ("_statements",)

    def __init__(self, table: str, columns: str, tail: str = "ON CONFLICT DO NOTHING") -> None:
        row = f"({', '.join('?' * len(columns.split(',')))})"
        head = f"INSERT INTO {table} ({columns}) VALUES"
        self._statements = [(size, f"{head} {', '.join([row] * size)} {tail}") for size in _BLOCKS]

    def _run(self, db: sqlite3.Connection, rows: Sequence[Sequence[object]]) -> Iterator[sqlite3.Cursor]:
        start = 0
        for size, statement in self._statements:
            while len(rows) - start >= size:
                yield db.execute(statement, list(chain.from_iterable(rows[start : start + size])))
                start += size

    def __call__(self, db: sqlite3.Connection, rows: Sequence[Sequence[object]]) -> int:
        """Insert; return how many rows were written."""
        return sum(cursor.rowcount for cursor in self._run(db, rows))

    def returning(self, db: sqlite3.Connection, rows: Sequence[Sequence[object]]) -> Iterator[tuple[Any, ...]]:
        """Insert; give back what a RETURNING in the tail says of the rows that were really written."""
        for cursor in self._run(db, rows):
            yield from cursor.fetchall()


def numbers(values: Sequence[int]) -> str:
    """Return row numbers as one parameter, for `IN (SELECT value FROM json_each(?))`."""
    return f"[{','.join(map(str, values))}]"


def select_in(db: sqlite3.Connection, sql: str, values: Sequence[str], *before: object) -> Iterator[tuple[Any, ...]]:
    """Give the rows of a query for each of `values`, which stand for the one `{}` in it, after `before`.

    Lists are filled up to a power of two by repeating: a handful of statements serves every length. Texts are bound
    and not sent as JSON, which SQLite cuts at a NUL character.
    """
    for start in range(0, len(values), _WIDEST):
        part = values[start : start + _WIDEST]
        width = 1 << (len(part) - 1).bit_length()
        marks = ",".join("?" * width)
        yield from db.execute(sql.format(marks), (*before, *part, *[part[-1]] * (width - len(part)))).fetchall()
