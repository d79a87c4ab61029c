"""Where stories that several servers may tell keep their tasks, and a broker that delivers again what it delivered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tq import TaskHandler, TaskQueuesManager, connect
from tq.memory import MemoryBarrier, MemoryQueue, MemoryStore
from tq.model import Batch, Claim, Hop, Message
from tq.testing import VirtualClock

__all__ = ["HOMES", "Home"]


class Repeating(MemoryQueue):
    """A broker that says of itself that it delivers again, for an hour, what was acknowledged."""

    guarantees = MemoryQueue.guarantees._replace(redelivery=3600.0)


class Home:
    """Where the handlers of a story keep their tasks. What they were handed once, they may be handed again."""

    def __init__(self, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch, **parts: Any) -> None:
        self.clock = clock
        self.parts = parts
        self._monkeypatch = monkeypatch
        self._delivered: dict[str, Message] = {}

    def handler(self, executors: TaskQueuesManager, **options: Any) -> TaskHandler:
        handler = TaskHandler(executors=executors, clock=self.clock, **self.parts, **options)
        commit = handler.backend.commit

        async def noting(batch: Batch, claim: Claim | None = None) -> Hop:
            hop = await commit(batch, claim)
            self._delivered |= {delivery.message.id: delivery.message for delivery in hop.deliveries}
            return hop

        self._monkeypatch.setattr(handler.backend, "commit", noting)
        return handler

    async def again(self, *ids: str) -> None:
        """Deliver these once more, before anything else that is due."""
        messages = [self._delivered[id] for id in ids]
        taken = await self.parts["queue"].add([it._replace(run_at=it.run_at - 1.0) for it in messages])
        assert taken == []

    async def left(self) -> int:
        """Count what waits, runs or is held."""
        rows = [kinds for part in ("queue", "store") for kinds in (await self.parts[part].counts()).values()]
        return sum(sum(kinds.values()) for kinds in rows)


def one_server(url: str, clock: VirtualClock) -> dict[str, Any]:
    backend = connect(url, clock=clock)
    return {"queue": backend.queue, "store": backend.store, "barrier": backend.barrier}


def over_sqlite(clock: VirtualClock) -> dict[str, Any]:
    return one_server("sqlite://", clock) | {"queue": MemoryQueue(clock=clock)}


def three_servers(clock: VirtualClock) -> dict[str, Any]:
    return {"queue": Repeating(clock=clock), "store": MemoryStore(clock=clock), "barrier": MemoryBarrier(clock=clock)}


HOMES: dict[str, Callable[[VirtualClock], dict[str, Any]]] = {
    "memory": lambda clock: one_server("memory://", clock),
    "sqlite": lambda clock: one_server("sqlite://", clock),
    "composite": three_servers,
    "composite over sqlite": over_sqlite,
}
