"""What observers are told of messages and of those who consume them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = [
    "ConsumerCheckpoint",
    "ConsumerConnected",
    "ConsumerDisconnected",
    "MessageConsumed",
    "MessagePublished",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagePublished:
    """A message was added to a queue (QLC-02)."""

    queue_id: str
    provider: str
    message_type: str
    message_id: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageConsumed(MessagePublished):
    """A message was handed out (QLC-03)."""

    age: float
    """Seconds since the task was made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerConnected:
    """A consumer listens to a queue (QLC-04)."""

    consumer_id: str
    consumer_type: Literal["worker", "shard"]
    queue_id: str
    provider: str
    shard_id: str | None = None
    parent_consumer_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerDisconnected(ConsumerConnected):
    """A consumer listens no more (QLC-05); reasons are `shutdown`, `error`, `rebalance` and `idle_timeout`."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerCheckpoint:
    """A consumer of a stream has noted its place (QLC-06)."""

    queue_id: str
    consumer_id: str
    provider: str
    shard_id: str
    checkpoint: str
    records_since_last: int
