"""Who reads which shard: every worker looks at the same rows, and comes to the same answer without asking.

What nobody reads goes to whoever has least. Nothing is stolen from the living: who has too much gives a shard up, once
what it had handed out of it has ended, so that two workers never run one message (INV-03). It follows that the
numbers of shards of any two workers differ by one at most, and that no shard moves where they do already (D-78).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tq.model import ShardLease

__all__ = ["Plan", "Sightings", "assign"]


class Sightings:
    """Since when, on this process's own monotonic clock, each row has stood still.

    A row's age on any other clock says nothing: clocks differ, and a worker that stood still has missed changes.
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], tuple[int, str, float]] = {}

    def look(self, rows: Iterable[ShardLease], now: float) -> None:
        """Note which rows have changed since the last look; those that are gone are forgotten."""
        seen: dict[tuple[str, str], tuple[int, str, float]] = {}
        for row in rows:
            key = (row.stream, row.shard)
            before = self._seen.get(key)
            still = before is not None and before[:2] == (row.counter, row.owner)
            seen[key] = before if still and before is not None else (row.counter, row.owner, now)
        self._seen = seen

    def age(self, row: ShardLease, now: float) -> float:
        """Return for how long a row has been seen unchanged."""
        seen = self._seen.get((row.stream, row.shard))
        return 0.0 if seen is None else now - seen[2]


class Plan(NamedTuple):
    """What one worker is to do in this round."""

    take: tuple[ShardLease, ...] = ()
    give_up: int = 0
    """Shards, 0 or 1, that it has too many."""


def assign(me: str, leases: Sequence[ShardLease], free: Sequence[ShardLease], workers: Iterable[str]) -> Plan:
    """Decide what `me` takes of what is free, and whether it has too much.

    Args:
        me: the worker; it counts as alive, whatever the rows say.
        leases: every lease that may be read, and has an owner who is alive.
        free: those that may be read, and have none.
        workers: who is alive.
    """
    counts = Counter(dict.fromkeys({*workers, me}, 0))
    counts.update(lease.owner for lease in leases if lease.owner in counts)
    before = dict(counts)
    mine: list[ShardLease] = []
    for lease in sorted(free, key=lambda it: it.shard):
        poorest = min(counts, key=lambda worker: (counts[worker], worker))
        counts[poorest] += 1
        if poorest == me:
            mine.append(lease)
    return Plan(tuple(mine), int(me in _too_rich(counts, before)))


def _too_rich(counts: Mapping[str, int], before: Mapping[str, int]) -> Sequence[str]:
    """Return who gives one up: as many of the richest as shards have to move, once all that is free is taken."""
    least, rest = divmod(sum(counts.values()), len(counts))
    most = least + bool(rest)
    missing = sum(max(least - count, 0) for count in counts.values())
    over = sum(max(count - most, 0) for count in counts.values())
    rich = sorted((worker for worker in counts if before[worker] > least), key=lambda it: (-counts[it], it))
    return rich[: max(missing, over)]
