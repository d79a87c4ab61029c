"""By which key a message goes: it decides the shard, and whether the message keeps an order with others.

Order is kept where somebody names what is to be kept in order: by a lane, a `partition_key` of the task or its
executor, an entity, or a key of the user's own. All other messages go by their id, which spreads them (KIN-01, D-81).
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import NamedTuple

from tq.codec import decode_body
from tq.errors import WireError
from tq.model import Message

__all__ = ["Key", "key_of"]

LONGEST = 256
"""Characters of a partition key, as Kinesis has it."""


class Key(NamedTuple):
    """What decides the shard."""

    text: str
    ordered: bool
    """Whether messages of this key are run one at a time, in the order in which they were added."""


def key_of(message: Message, other: Callable[[Message], str | None] | None = None) -> Key:
    """Return the key of a message; `other` is asked for those that name none."""
    named = message.lane or _named(message.body) or (other(message) if other is not None else None)
    return Key(_short(named), ordered=True) if named else Key(_short(message.id), ordered=False)


def _named(body: bytes) -> str:
    """Return the key that a body names; spares decoding those that surely name none."""
    if b'"partition_key":' not in body and b'"entity":[' not in body:
        return ""
    try:
        fields = decode_body(body)
    except WireError:
        return ""
    entity: list[str] = fields.get("entity") or []
    return fields.get("partition_key") or ":".join(entity)


def _short(key: str) -> str:
    if len(key) <= LONGEST:
        return key
    return blake2b(key.encode(errors="surrogatepass"), digest_size=32).hexdigest()
