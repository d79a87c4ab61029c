"""Which shards there are, and which of them may be read: none before its parents have ended (D-71)."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import NamedTuple

from tq.model import ShardLease

from .position import ENDED, HORIZON

__all__ = ["Shard", "forgotten", "is_readable", "unknown"]


class Shard(NamedTuple):
    """A shard as the stream lists it."""

    id: str
    parents: tuple[str, ...] = ()
    """The one that it was split from, or the two that it was merged from."""
    closed: bool = False


def unknown(name: str, shards: Sequence[Shard], leases: Mapping[str, ShardLease], start: str) -> list[ShardLease]:
    """Return leases for the shards that have none and are to be read.

    The first leases of a stream begin at `start`. If that is no horizon, shards which were closed by then are left
    out: what they keep is older. Whatever comes later is a child of what is read, and is read from its beginning.
    """
    if not leases:
        wanted = [shard for shard in shards if start == HORIZON or not shard.closed]
        ids = {shard.id for shard in wanted}
        return [_lease(name, shard, ids, start) for shard in wanted]
    left_out = _ancestors(leases, {shard.id: shard.parents for shard in shards})
    wanted = [shard for shard in shards if shard.id not in leases and shard.id not in left_out]
    ids = {shard.id for shard in wanted} | set(leases)
    return [_lease(name, shard, ids, HORIZON) for shard in wanted]


def _lease(name: str, shard: Shard, known: Container[str], start: str) -> ShardLease:
    return ShardLease(name, shard.id, tuple(parent for parent in shard.parents if parent in known), checkpoint=start)


def _ancestors(ids: Mapping[str, object], parents: Mapping[str, tuple[str, ...]]) -> set[str]:
    found: set[str] = set()
    todo = [parent for id in ids for parent in parents.get(id, ())]
    while todo:
        id = todo.pop()
        if id not in found:
            found.add(id)
            todo += parents.get(id, ())
    return found


def is_readable(lease: ShardLease, leases: Mapping[str, ShardLease]) -> bool:
    """Tell whether a shard may be read: it has not ended, and both of its parents have, or are forgotten."""
    parents = [leases[parent] for parent in lease.parents if parent in leases]
    return lease.checkpoint != ENDED and all(parent.checkpoint == ENDED for parent in parents)


def forgotten(shards: Sequence[Shard], leases: Mapping[str, ShardLease]) -> list[ShardLease]:
    """Return the leases of ended shards that the stream itself has forgotten.

    Not before: a shard that is listed and has no lease would be taken for a new one, and read again.
    """
    listed = {shard.id for shard in shards}
    return [lease for lease in leases.values() if lease.checkpoint == ENDED and lease.shard not in listed]
