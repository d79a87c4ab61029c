"""Rows in the order of their ids, at no cost to those who add and remove them.

Whoever looks pays: a look sorts what was added since the last one, and leaves out what is gone.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from heapq import merge
from typing import Generic, Protocol, TypeVar

__all__ = ["Pages"]


class Numbered(Protocol):
    """A row that knows its place in the order of adding."""

    @property
    def seq(self) -> int: ...


R = TypeVar("R", bound=Numbered)


class Pages(Generic[R]):
    """Pages over a dict to whose end rows are added with ever larger numbers."""

    def __init__(self, rows: dict[str, R]) -> None:
        self._rows = rows
        self._old: list[str] = []
        self._young: list[str] = []
        self._seen = 0

    def after(self, key: str) -> Iterator[R]:
        """Return the rows whose id is larger than `key`, by id; to be read before the next change."""
        self._catch_up()
        last = key
        for name in merge(tail(self._old, key), tail(self._young, key)):
            if name != last:  # removed and added again, it stands in both
                last = name
                row = self._rows.get(name)
                if row is not None:
                    yield row

    def _catch_up(self) -> None:
        rows, fresh = self._rows, list[str]()
        for name in reversed(rows):
            if rows[name].seq <= self._seen:
                break
            fresh.append(name)
        if fresh:
            self._seen = rows[fresh[0]].seq
            self._young.extend(fresh)
            self._young.sort()
        stored = len(self._old) + len(self._young)
        if len(self._young) * 4 > len(self._old) + 64 or stored > 2 * len(rows) + 64:
            # Merged when enough has come together: each id is moved a few times in its life, not at every look.
            self._old = [name for name in merge(self._old, self._young) if name in rows]
            self._young = []


def tail(names: list[str], key: str) -> Iterator[str]:
    """Return what is larger than `key` of a sorted list."""
    for place in range(bisect_right(names, key), len(names)):
        yield names[place]
