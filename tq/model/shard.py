"""The lease on one shard of a stream: who reads it, how far everything before has ended, and what must end first."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["ShardLease"]


class ShardLease(NamedTuple):
    """A row that workers agree by; every change of it raises `counter`, which is what fences (D-70)."""

    stream: str
    shard: str
    parents: tuple[str, ...] = ()
    """Shards that must have ended before this one is read: one after a split, two after a merge (D-71)."""
    owner: str = ""
    """The worker that reads it; "" for nobody."""
    counter: int = 0
    """Number of changes. Who sees it stand still for the length of a lease may take the shard."""
    checkpoint: str = ""
    """Everything up to this position has ended; "" for nothing yet."""
    note: str = ""
    """What the reader leaves to whoever reads on from the checkpoint."""
