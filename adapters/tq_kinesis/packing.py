"""Messages as records of a stream, and back.

A record is a line of JSON and the bodies of its messages. The line has a format number and says of each message what
stands outside its body, so that whoever finds a record knows what it is. Messages of one key that are added together
share a record: what is in one record cannot come out of order, whatever fails on the way.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from tq.codec import dumps, loads
from tq.errors import ContentRefusedError, PayloadError, WireError
from tq.model import Message

from .keys import Key

__all__ = ["Packed", "Record", "pack", "unpack"]

FORMAT = 1


class Record(NamedTuple):
    """A record on its way into the stream."""

    key: str
    data: bytes
    ids: tuple[str, ...]
    """The messages in it."""

    @property
    def size(self) -> int:
        """Bytes, as Kinesis counts them."""
        return len(self.data) + len(self.key.encode())


@dataclass(slots=True)
class _Group:
    """Messages that are to share a record."""

    key: Key
    size: int
    messages: list[Message] = field(default_factory=list[Message])


class Packed(NamedTuple):
    """What a record holds."""

    messages: tuple[Message, ...]
    ordered: bool


def pack(messages: Iterable[tuple[Message, Key]], *, most: int, together: int) -> list[list[Record]]:
    """Return records as waves: a wave is sent when the one before has arrived, for it may hold the same keys again.

    Args:
        messages: each with its key.
        most: bytes of the largest record that the stream takes.
        together: messages without an order that may share a record; with more than 1 fewer shards have work.

    Raises:
        ContentRefusedError: a message cannot be written, or is too large for a record.
    """
    waves: list[list[_Group]] = [[]]
    last: dict[str, tuple[int, _Group]] = {}
    """The group that still takes messages of a key, and its wave; those without an order go by the key ""."""
    for message, key in messages:
        name, size = key.text if key.ordered else "", _size(message)
        number, group = last.get(name, (-1, None))
        full = group is None or group.size + size > most or (not key.ordered and len(group.messages) >= together)
        if full or group is None:
            number = number + 1 if key.ordered else 0
            group = _Group(key, len(key.text) * 4)
            last[name] = (number, group)
            if number == len(waves):
                waves.append([])
            waves[number].append(group)
        group.messages.append(message)
        group.size += size
    return [[_record(group, most) for group in wave] for wave in waves if wave]


def _size(message: Message) -> int:
    """Return, rather too high, what a message takes in a record."""
    names = (message.id, message.queue, message.type, message.lane)
    return len(message.body) + len(message.stats) + sum(6 * len(name) for name in names) + 100


def _record(group: _Group, most: int) -> Record:
    (key, ordered), messages = group.key, group.messages
    try:
        entries = [
            [it.id, it.queue, it.type, len(it.body), it.run_at, it.generation, it.attempt, it.lane, it.fence]
            + ([it.stats.decode()] if it.stats else [])
            for it in messages
        ]
        head = dumps({"v": FORMAT, "ordered": ordered, "messages": entries})
        bodies = b"".join([it.body for it in messages])
        record = Record(key, b"%b\n%b" % (head, bodies), tuple([it.id for it in messages]))
        size = record.size
    except (PayloadError, UnicodeError) as error:
        named = messages[0].id.encode(errors="backslashreplace").decode()
        raise ContentRefusedError(f"message {named} cannot be written into a record: {error}") from error
    if size > most:
        raise ContentRefusedError(
            f"task {messages[0].id} takes {size} bytes, a record of the stream {most}: keep what is large elsewhere "
            "and put where it is into the payload, or raise the stream's limit and record_size="
        )
    return record


def unpack(data: bytes) -> Packed:
    """Return what a record holds.

    Raises:
        WireError: it is no record of ours, or one of a newer version.
    """
    head, line_end, bodies = data.partition(b"\n")
    found: Any = loads(head)
    fields = cast("dict[str, Any]", found) if type(found) is dict else {}
    if not line_end or fields.get("v") != FORMAT or "messages" not in fields:
        raise WireError("a record that holds no messages of tq", data)
    messages: list[Message] = []
    start = 0
    try:
        for id, queue, type_, length, run_at, generation, attempt, lane, fence, *stats in fields["messages"]:
            body = bodies[start : start + length]
            start += length
            noted = stats[0].encode() if stats else b""
            messages.append(Message(id, queue, type_, body, run_at, generation, attempt, lane, noted, fence))
    except (TypeError, ValueError, AttributeError) as error:
        raise WireError(f"a record whose messages cannot be read: {error}", data) from error
    if start != len(bodies):
        raise WireError("a record whose bodies are cut off", data)
    return Packed(tuple(messages), bool(fields.get("ordered")))
