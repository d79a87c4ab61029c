"""How records go into requests: cut to what one may hold, and what did not arrive sent again, alone (KIN-02, D-74)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from .packing import Record

__all__ = ["MOST_BYTES", "MOST_RECORDS", "backoff", "cut", "failed"]

MOST_RECORDS = 500
MOST_BYTES = 5 << 20
"""What PutRecords takes."""


def cut(records: Sequence[Record], most: int = MOST_RECORDS, size: int = MOST_BYTES) -> Iterator[Sequence[Record]]:
    """Yield the records in requests that are as full as they may be, in order."""
    start = filled = 0
    for index, record in enumerate(records):
        if index > start and (index - start >= most or filled + record.size > size):
            yield records[start:index]
            start, filled = index, 0
        filled += record.size
    if start < len(records):
        yield records[start:]


def failed(records: Sequence[Record], answers: Sequence[str]) -> list[Record]:
    """Return the records that did not arrive; an answer is an error's code, or empty, by position."""
    return [record for record, code in zip(records, answers, strict=True) if code]


def backoff(attempt: int, base: float, cap: float, chance: Callable[[], float]) -> float:
    """Return how long to wait before the next attempt: anything up to twice as long as before, so that nobody meets."""
    return chance() * min(cap, base * 2.0 ** min(attempt, 30))
