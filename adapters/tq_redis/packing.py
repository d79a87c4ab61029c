"""Values as bytes: what a script may have to look into has a head of fixed size, which lua/ reads as well.

A head tells the lengths of the parts that follow it. Text is UTF-8; what cannot be written so is refused here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from tq.model import Chunk, Flow, Message, Record, StepResult, StepStatus, TaskStatus
from tq.ports import OutcomeKey

__all__ = [
    "SEQ",
    "State",
    "chunk_key",
    "outcome_key",
    "pack_chunk",
    "pack_head",
    "pack_join",
    "pack_outcome",
    "pack_parts",
    "pack_record",
    "pack_result",
    "pack_words",
    "read_outcome_key",
    "unpack_chunk",
    "unpack_join",
    "unpack_message",
    "unpack_outcome",
    "unpack_parts",
    "unpack_record",
    "unpack_result",
    "unpack_state",
]

_MESSAGE = struct.Struct("<dIIIIIII")  # run_at generation attempt fence; lengths of queue type lane stats
_STATE = struct.Struct("<ddIIII")  # run_at unknown_since attempt ended crashes solo_crashes
_RECORD = struct.Struct("<ddIIIIIIIIII")  # at expires generation attempt fence flags; lengths of the six texts
_LENGTH = struct.Struct("<I")
_INSTANT = struct.Struct("<d")
_EXECUTION = struct.Struct("<Ii")
"""Generation and attempt; an attempt below zero is of an outcome that stands in for a refused one."""

_DEAD, _RESULT, _ERROR, _BODY = 1, 2, 4, 8

SEQ = 8
"""Bytes in front of a stored message: the order of adding."""

# Every task passes here, and a tuple made as what it is costs half of what a call by name does.
_made = tuple.__new__  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] -- items of any type

State = tuple[float, float, int, int, int, int, bytes]
"""run_at, unknown_since, attempt, hand-outs that are over, crashes, crashes alone, stats."""


def pack_parts(parts: Iterable[bytes]) -> bytes:
    """Return parts as one value, each after its length."""
    return b"".join([piece for part in parts for piece in (_LENGTH.pack(len(part)), part)])


def unpack_parts(data: bytes) -> list[bytes]:
    """Return the parts of a value."""
    parts: list[bytes] = []
    at = 0
    while at < len(data):
        (length,) = _LENGTH.unpack_from(data, at)
        at += 4 + length
        parts.append(data[at - length : at])
    return parts


# --- messages ---------------------------------------------------------------------------------------------------------


def pack_head(message: Message) -> bytes:
    """Return a message without its id, which is its key, and without its body, which stands apart."""
    _, queue, type, _, run_at, generation, attempt, lane, stats, fence = message
    names = queue.encode(), type.encode(), lane.encode()
    head = _MESSAGE.pack(run_at, generation, attempt, fence, len(names[0]), len(names[1]), len(names[2]), len(stats))
    return b"".join((head, *names, stats))


def unpack_message(id: str, data: bytes, at: int = 0, state: State | None = None, body: bytes | None = None) -> Message:
    """Return the message whose head begins at this place, with what has changed about it since it was added.

    Where no body is given it follows the head.
    """
    run_at, generation, attempt, fence, queue, type, lane, stats = _MESSAGE.unpack_from(data, at)
    start = at + 36
    type_at = start + queue
    lane_at = type_at + type
    stats_at = lane_at + lane
    body_at = stats_at + stats
    seen = data[stats_at:body_at]
    if state is not None:
        run_at, attempt, seen = state[0], state[2], state[6]
    return _made(
        Message,
        (
            id,
            data[start:type_at].decode(),
            data[type_at:lane_at].decode(),
            data[body_at:] if body is None else body,
            run_at,
            generation,
            attempt,
            data[lane_at:stats_at].decode() if lane else "",
            seen,
            fence,
        ),
    )


def unpack_state(data: bytes) -> State:
    """Return what has changed about a message."""
    return (*_STATE.unpack_from(data), data[_STATE.size :])


def chunk_key(plan: str, number: int) -> bytes:
    """Return the name of a part of a plan."""
    return _LENGTH.pack(number) + plan.encode()


def pack_chunk(chunk: Chunk) -> bytes:
    """Return the messages of a part of a plan."""
    return pack_parts(
        [_INSTANT.pack(chunk.at)]
        + [part for message in chunk.messages for part in (message.id.encode(), pack_head(message) + message.body)]
    )


def unpack_chunk(plan: str, number: int, data: bytes) -> Chunk:
    """Return a part of a plan."""
    instant, *parts = unpack_parts(data)
    messages = [unpack_message(id.decode(), message) for id, message in zip(parts[::2], parts[1::2], strict=True)]
    return Chunk(plan, number, tuple(messages), _INSTANT.unpack(instant)[0])


# --- endings ----------------------------------------------------------------------------------------------------------


def pack_record(record: Record) -> bytes:
    """Return a record without its id, which is its key."""
    _, queue, type, status, at, expires, generation, attempt, fence, dead, result, error, stats, body = record
    flags = dead * _DEAD | (result is not None) * _RESULT | (error is not None) * _ERROR | (body is not None) * _BODY
    parts = queue.encode(), type.encode(), status.encode(), result or b"", (error or "").encode(), stats
    head = _RECORD.pack(at, expires, generation, attempt, fence, flags, *map(len, parts))
    return b"".join((head, *parts, body or b""))


def unpack_record(id: str, data: bytes) -> Record:
    """Return a record."""
    at, expires, generation, attempt, fence, flags, *lengths = _RECORD.unpack_from(data)
    parts: list[bytes] = []
    place = _RECORD.size
    for length in lengths:
        parts.append(data[place : place + length])
        place += length
    queue, type, status, result, error, stats = parts
    return Record(
        id,
        queue.decode(),
        type.decode(),
        TaskStatus(status.decode()),
        at,
        expires,
        generation,
        attempt,
        fence,
        bool(flags & _DEAD),
        result if flags & _RESULT else None,
        error.decode() if flags & _ERROR else None,
        stats,
        data[place:] if flags & _BODY else None,
    )


def outcome_key(key: OutcomeKey) -> bytes:
    """Return the name of an execution."""
    return _EXECUTION.pack(key.generation, key.attempt) + key.task_id.encode()


def read_outcome_key(name: bytes) -> OutcomeKey:
    """Return the execution of this name."""
    return OutcomeKey(name[_EXECUTION.size :].decode(), *_EXECUTION.unpack_from(name))


def pack_outcome(outcome: bytes, at: float) -> bytes:
    """Return an outcome after its instant."""
    return _INSTANT.pack(at) + outcome


def unpack_outcome(data: bytes) -> tuple[bytes, float]:
    """Return an outcome and its instant."""
    return data[_INSTANT.size :], _INSTANT.unpack_from(data)[0]


# --- flows ------------------------------------------------------------------------------------------------------------


def pack_words(flow: Flow) -> bytes:
    """Return what of a flow no decision needs."""
    return pack_parts([flow.parent.encode(), flow.plan.encode(), flow.meta])


def pack_join(join: Message) -> bytes:
    """Return a message with its id."""
    id = join.id.encode()
    return _LENGTH.pack(len(id)) + id + pack_head(join) + join.body


def unpack_join(data: bytes) -> Message:
    """Return a message that was packed with its id."""
    at = 4 + _LENGTH.unpack_from(data)[0]
    return unpack_message(data[4:at].decode(), data, at)


_LETTERS = {StepStatus.SUCCESS: b"s", StepStatus.FAIL: b"f", StepStatus.CANCELLED: b"c"}
_STATUS = {letter[0]: status for status, letter in _LETTERS.items()}


def pack_result(status: StepStatus, result: bytes | None, error: str | None) -> bytes:
    """Return how a member ended, in as few bytes as it takes: most have a result or an error, and never both."""
    letter = _LETTERS[status]
    if error is None:
        return letter if result is None else b"%br%b" % (letter, result)
    if result is None:
        return b"%be%b" % (letter, error.encode())
    return b"%bb%b" % (letter, pack_parts([result, error.encode()]))


def unpack_result(index: int, data: bytes) -> StepResult:
    """Return a recorded member."""
    status, kind, rest = _STATUS[data[0]], data[1:2], data[2:]
    if kind == b"r":
        return StepResult(index, status, rest)
    if kind == b"e":
        return StepResult(index, status, None, rest.decode())
    if kind == b"b":
        result, error = unpack_parts(rest)
        return StepResult(index, status, result, error.decode())
    return StepResult(index, status)
