"""An outcome as bytes: what is written first, so that whoever finds it can carry out all the rest.

JSON under a format number. Bytes stand as text; what is no UTF-8 stands as a list of one base64 text. Parts that are
empty are left out.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, assert_never, cast

from tq.codec import dumps, loads
from tq.errors import UnknownFormatError, WireError
from tq.model import (
    Chunk,
    Effects,
    Ending,
    Flow,
    Hold,
    Mark,
    Message,
    Outgoing,
    Projection,
    Rearm,
    Record,
    Remove,
    Reopen,
    Resolve,
    StepStatus,
    TaskStatus,
    Verdict,
)

__all__ = ["Told", "read_outcome", "write_outcome"]

FORMAT = 1


class Told(NamedTuple):
    """What an outcome says: how the delivery ends, and what that brings."""

    ending: Ending
    effects: Effects
    message: Message | None = None
    """The message that is held: nobody else has it once its delivery is acknowledged."""


def write_outcome(told: Told, token: str = "") -> bytes:
    """Return the bytes of an outcome; the same one of the same delivery gives the same bytes, and no other does.

    Raises:
        PayloadError: text in it is not Unicode.
    """
    words: dict[str, Any] = {
        "v": FORMAT,
        "by": token,
        "ending": _write_ending(told.ending),
        **_write_effects(told.effects),
    }
    if told.message is not None:
        words["message"] = _write_message(told.message)
    return dumps(words)


def read_outcome(data: bytes) -> Told:
    """Return what an outcome says.

    Raises:
        UnknownFormatError: a newer version of tq wrote it.
        WireError: it is no outcome.
    """
    read = loads(data)
    if not isinstance(read, dict) or "v" not in read:
        raise WireError("these bytes are no outcome", data)
    words = cast("dict[str, Any]", read)
    if words["v"] != FORMAT:
        raise UnknownFormatError(words["v"], data)
    try:
        message = words.get("message")
        return Told(
            _read_ending(words["ending"]), _read_effects(words), None if message is None else _read_message(message)
        )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise WireError(f"an outcome cannot be read: {error!r}", data) from error


# --- bytes ------------------------------------------------------------------------------------------------------------


def _text(data: bytes | None) -> Any:
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return [b64encode(data).decode()]


def _bytes(text: Any) -> Any:
    if text is None:
        return None
    return text.encode() if isinstance(text, str) else b64decode(text[0])


# --- endings ----------------------------------------------------------------------------------------------------------


def _write_ending(ending: Ending) -> list[Any]:
    match ending:
        case Remove():
            return ["remove"]
        case Rearm():
            return ["rearm", ending.run_at, ending.attempt, _text(ending.stats), ending.unknown_since]
        case Hold():
            return ["hold", ending.flow_id]
        case _:
            assert_never(ending)


def _read_ending(words: list[Any]) -> Ending:
    if words[0] == "remove":
        return Remove()
    if words[0] == "rearm":
        return Rearm(words[1], words[2], _bytes(words[3]), words[4])
    if words[0] == "hold":
        return Hold(words[1])
    raise ValueError(f"unknown ending {words[0]!r}")


# --- effects ----------------------------------------------------------------------------------------------------------


def _write_effects(effects: Effects) -> dict[str, Any]:
    if not effects:
        return {}
    return {name: [write(item) for item in items] for name, write, _ in _PARTS if (items := getattr(effects, name))}


def _read_effects(words: Mapping[str, Any]) -> Effects:
    return Effects(**{name: tuple([read(item) for item in words[name]]) for name, _, read in _PARTS if name in words})


def _write_message(message: Message) -> list[Any]:
    return [*message[:3], _text(message.body), *message[4:8], _text(message.stats), message.fence]


def _read_message(words: list[Any]) -> Message:
    id, queue, type, body, run_at, generation, attempt, lane, stats, fence = words
    return Message(id, queue, type, _bytes(body), run_at, generation, attempt, lane, _bytes(stats), fence)


def _write_record(record: Record) -> list[Any]:
    return [
        *record[:10],
        _text(record.result),
        record.error,
        _text(record.stats),
        _text(record.body),
    ]


def _read_record(words: list[Any]) -> Record:
    task_id, queue, type, status, at, expires_at, generation, attempt, fence, dead, result, error, stats, body = words
    return Record(
        task_id,
        queue,
        type,
        TaskStatus(status),
        at,
        expires_at,
        generation,
        attempt,
        fence,
        dead,
        _bytes(result),
        error,
        _bytes(stats),
        _bytes(body),
    )


def _write_flow(flow: Flow) -> dict[str, Any]:
    return {
        "id": flow.id,
        "total": flow.total,
        "allowed": flow.allowed,
        "needed": flow.needed,
        "join": _write_message(flow.join),
        "started_at": flow.started_at,
        "generation": flow.generation,
        "deadline": flow.deadline,
        "cancel_siblings": flow.cancel_siblings,
        "parent": flow.parent,
        "chunks": flow.chunks,
        "plan": flow.plan,
        "meta": _text(flow.meta),
    }


def _read_flow(words: dict[str, Any]) -> Flow:
    fields: dict[str, Any] = {**words, "join": _read_message(words["join"]), "meta": _bytes(words["meta"])}
    return Flow(**fields)


def _write_mark(mark: Mark) -> list[Any]:
    return [*mark[:4], _text(mark.result), mark.error]


def _read_mark(words: list[Any]) -> Mark:
    flow_id, index, status, generation, result, error = words
    return Mark(flow_id, index, StepStatus(status), generation, _bytes(result), error)


def _write_projection(row: Projection) -> list[Any]:
    return [*row[:9], _text(row.payload), _text(row.result), row.error]


def _read_projection(words: list[Any]) -> Projection:
    task_id, entity_id, entity_type, task_type, queue_id, status, version, created_at, updated_at, *rest = words
    payload, result, error = rest
    return Projection(
        task_id,
        entity_id,
        entity_type,
        task_type,
        queue_id,
        TaskStatus(status),
        version,
        created_at,
        updated_at,
        _bytes(payload),
        _bytes(result),
        error,
    )


def _write_chunk(chunk: Chunk) -> list[Any]:
    return [chunk.plan, chunk.number, [_write_message(message) for message in chunk.messages], chunk.at]


def _read_chunk(words: list[Any]) -> Chunk:
    return Chunk(words[0], words[1], tuple([_read_message(message) for message in words[2]]), words[3])


def _write_outgoing(note: Outgoing) -> list[Any]:
    return [note.topic, note.id, _text(note.body), note.seq]


def _read_outgoing(words: list[Any]) -> Outgoing:
    return Outgoing(words[0], words[1], _bytes(words[2]), words[3])


def _write_resolve(resolve: Resolve) -> list[Any]:
    return [resolve.task_id, resolve.flow_id, _write_effects(resolve.effects)]


def _read_resolve(words: list[Any]) -> Resolve:
    return Resolve(words[0], words[1], _read_effects(words[2]))


def _write_reopen(reopen: Reopen) -> list[Any]:
    head = [reopen.flow_id, reopen.generation, _write_message(reopen.join), reopen.at]
    return [*head, reopen.deadline, _text(reopen.stats)]


def _read_reopen(words: list[Any]) -> Reopen:
    return Reopen(
        flow_id=words[0],
        generation=words[1],
        join=_read_message(words[2]),
        at=words[3],
        deadline=words[4],
        stats=_bytes(words[5]),
    )


def _read_verdict(words: list[Any]) -> tuple[str, Verdict, str]:
    return words[0], Verdict(words[1]), words[2]


_PARTS: tuple[tuple[str, Callable[[Any], Any], Callable[[Any], Any]], ...] = (
    ("messages", _write_message, _read_message),
    ("records", _write_record, _read_record),
    ("flows", _write_flow, _read_flow),
    ("marks", _write_mark, _read_mark),
    ("confirms", list, tuple),
    ("projections", _write_projection, _read_projection),
    ("chunks", _write_chunk, _read_chunk),
    ("spreads", list, tuple),
    ("outgoing", _write_outgoing, _read_outgoing),
    ("resolves", _write_resolve, _read_resolve),
    ("reopens", _write_reopen, _read_reopen),
    ("verdicts", list, _read_verdict),
)
"""Every part of `Effects`: its name, how one of it is written, how it is read."""
