"""Tells observers which shards a worker reads, where its queue stands on a stream."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from tq.lifecycle import Spawner
from tq.ports import MessageQueue, ShardListener
from tq.runner.events import Events

__all__ = ["ShardTales", "listen"]


def listen(
    queue: MessageQueue, served: Sequence[str], worker: str, events: Events, spawner: Spawner
) -> list[ShardTales]:
    """Listen to those brokers of a queue that read shards."""
    parts: Sequence[Any] = getattr(queue, "parts", (queue,))
    broker: Callable[[str], object] = getattr(queue, "broker", lambda _: queue)
    found: list[ShardTales] = []
    for part in parts:
        if hasattr(part, "listener"):
            names = [name for name in served if broker(name) is part]
            found.append(ShardTales(part, names, f"{part.name}-{worker}", events, spawner))
    return found


class ShardTales(ShardListener):
    """Makes events of what a queue says of its shards (QLC-04, QLC-05, QLC-06), in order, and in nobody's way."""

    def __init__(self, part: Any, queues: Sequence[str], consumer: str, events: Events, spawner: Spawner) -> None:
        self._part = part
        self._queues = queues
        self._consumer = consumer
        self._events = events
        self._spawner = spawner
        self._shards: set[str] = set()
        self._last: Awaitable[object] | None = None
        part.listener = self

    def shard_taken(self, shard: str) -> None:
        self._shards.add(shard)
        self._tell(lambda queue, consumer: self._connected(queue, consumer, shard), shard)

    async def _connected(self, queue: str, consumer: str, shard: str) -> None:
        await self._events.consumer_connected(
            queue, consumer, consumer_type="shard", shard_id=shard, parent_consumer_id=self._consumer
        )

    def shard_left(self, shard: str, reason: str) -> None:
        self._shards.discard(shard)
        self._tell(lambda queue, consumer: self._events.consumer_disconnected(queue, consumer, reason), shard)

    def shard_noted(self, shard: str, checkpoint: str, ended: int) -> None:
        self._tell(
            lambda queue, consumer: self._events.consumer_checkpoint(queue, consumer, shard, checkpoint, ended), shard
        )

    def _tell(self, event: Callable[[str, str], Awaitable[None]], shard: str) -> None:
        before = self._last

        async def tell() -> None:
            if before is not None:
                await before
            for queue in self._queues:
                await event(queue, f"{self._consumer}-{shard}")

        self._last = self._spawner.spawn(tell(), "shard")

    async def end(self, reason: str) -> None:
        """Listen no more; the worker reads no shard from now on."""
        self._part.listener = None
        for shard in sorted(self._shards):
            self.shard_left(shard, reason)
        if self._last is not None:
            await cast("Awaitable[None]", self._last)
