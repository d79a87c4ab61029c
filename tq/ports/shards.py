"""Leases on the shards of streams: how workers share a broker that hands out positions, and not messages."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Protocol

from tq.model import ShardLease

__all__ = ["ShardLeases", "ShardListener"]


class ShardLeases(Protocol):
    """Rows of which each changes only as whoever changes it has seen it. Knows no time: leases are judged by readers.

    Every verb is one round trip where the server can do that; each may be repeated without harm.

    Raises (every verb):
        BackendUnavailableError: trying again may help; it is then unknown whether the call took effect.
        ContentRefusedError: the server refuses this content.
    """

    name: str

    @abstractmethod
    async def list(self, stream: str) -> Sequence[ShardLease]:
        """Return the leases of a stream, by shard."""

    @abstractmethod
    async def create(self, leases: Sequence[ShardLease]) -> None:
        """Insert those whose (stream, shard) is not there; what is there stays as it is."""

    @abstractmethod
    async def swap(self, changes: Sequence[tuple[ShardLease, ShardLease]]) -> Sequence[ShardLease | None]:
        """Change each row that is still as it was seen; return the rows as they are now, None for one that is not.

        A change is (seen, wanted): where owner and counter are those of `seen`, the row becomes `wanted` with the
        counter raised by one. Taking, renewing, stealing, moving a checkpoint and giving back are all of this form. A
        change that is found done, as after an answer that was lost, is done. Each row is changed by itself.
        """

    @abstractmethod
    async def drop(self, leases: Sequence[ShardLease]) -> None:
        """Remove each row that still has this owner and counter."""

    @abstractmethod
    async def close(self) -> None:
        """Release what was opened; may be called twice."""


class ShardListener(Protocol):
    """Hears which shards a queue reads, and returns at once. Such a queue has an attribute `listener`: one, or None."""

    @abstractmethod
    def shard_taken(self, shard: str) -> None:
        """A shard is read here from now on."""

    @abstractmethod
    def shard_left(self, shard: str, reason: str) -> None:
        """A shard is read here no more; reasons are those of `ConsumerDisconnected`."""

    @abstractmethod
    def shard_noted(self, shard: str, checkpoint: str, ended: int) -> None:
        """Everything up to the checkpoint has ended; so many messages since the last one."""
