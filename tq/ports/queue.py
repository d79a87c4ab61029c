"""The message queue: where tasks wait to be run soon."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Protocol

from tq.ports.custody import Custody

__all__ = ["MessageQueue"]


class MessageQueue(Custody, Protocol):
    """At-least-once; order is promised per lane only."""

    @abstractmethod
    async def announce(self, worker: str, queues: Sequence[str], ttl: float) -> None:
        """Make known, for `ttl` seconds, that `worker` serves these queues; the last call of a worker counts."""

    @abstractmethod
    async def announced(self) -> Sequence[str]:
        """Return the queues that a live worker serves, sorted."""
