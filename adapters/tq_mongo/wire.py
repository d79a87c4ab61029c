"""Effects as bytes, for the document of an ending that is being carried out: BSON, part by part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tq.errors import ContentRefusedError
from tq.model import (
    Chunk,
    Effects,
    Ending,
    Flow,
    Hold,
    Mark,
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

from .documents import message_from, message_words
from .driver import decode, encode

__all__ = ["chunk_words", "ending_from", "ending_words", "pack", "read_chunk", "unpack"]

Words = list[Any]

LARGEST = 15 << 20
"""Bytes of one part; a document may have 16 MiB, and has names and numbers beside it."""


def pack(effects: Effects) -> bytes:
    """Return effects as bytes.

    Raises:
        UnicodeEncodeError, OverflowError, bson.errors.BSONError: something cannot be written down.
        ContentRefusedError: a part of it is larger than a document may be.
    """
    data = encode(_words(effects))
    if len(data) > LARGEST:
        _check_sizes(effects)
    return data


def _check_sizes(effects: Effects) -> None:
    """Refuse now what the server would refuse when the ending counts already."""
    for it in effects.resolves:
        _check_sizes(it.effects)
    for name, parts in _words(effects._replace(resolves=())).items():
        for part in parts:
            size = len(encode({"part": part}))
            if size > LARGEST:
                raise ContentRefusedError(
                    f"one of its {name} has {size} bytes, and a document of MongoDB at most 16 MiB"
                )


def unpack(data: bytes) -> Effects:
    """Return what `pack` was given."""
    return _effects(decode(data))


def _words(effects: Effects) -> dict[str, Words]:
    return {
        name: [write(part) for part in parts] for (name, write, _), parts in zip(_PARTS, effects, strict=True) if parts
    }


def _effects(words: dict[str, Words]) -> Effects:
    return Effects._make(tuple([read(part) for part in words.get(name, ())]) for name, _, read in _PARTS)


def ending_words(ending: Ending) -> Words:
    """Return an ending."""
    match ending:
        case Remove():
            return ["remove"]
        case Rearm():
            return ["rearm", *ending]
        case Hold():
            return ["hold", *ending]


def ending_from(words: Words) -> Ending:
    """Return what `ending_words` made."""
    name, *rest = words
    return Remove() if name == "remove" else Rearm(*rest) if name == "rearm" else Hold(*rest)


def read_chunk(words: Words) -> Chunk:
    """Return what `chunk_words` made."""
    plan, number, messages, at = words
    return Chunk(plan, number, tuple([message_from(it) for it in messages]), at)


def chunk_words(chunk: Chunk) -> Words:
    """Return a part of a plan as it stands inside a document."""
    return [chunk.plan, chunk.number, [message_words(it) for it in chunk.messages], chunk.at]


def _record(record: Record) -> Words:
    return [*record[:3], str(record.status), *record[4:]]


def _read_record(words: Words) -> Record:
    return Record._make([*words[:3], TaskStatus(words[3]), *words[4:]])


def _flow(flow: Flow) -> Words:
    return [
        *(flow.id, flow.total, flow.allowed, flow.needed, message_words(flow.join), flow.started_at, flow.generation),
        *(flow.deadline, flow.cancel_siblings, flow.parent, flow.chunks, flow.plan, flow.meta),
    ]


def _read_flow(words: Words) -> Flow:
    id, total, allowed, needed, join, started_at, generation, deadline, cancel, parent, chunks, plan, meta = words
    return Flow(
        id=id,
        total=total,
        allowed=allowed,
        needed=needed,
        join=message_from(join),
        started_at=started_at,
        generation=generation,
        deadline=deadline,
        cancel_siblings=cancel,
        parent=parent,
        chunks=chunks,
        plan=plan,
        meta=meta,
    )


def _mark(mark: Mark) -> Words:
    return [*mark[:2], str(mark.status), *mark[3:]]


def _read_mark(words: Words) -> Mark:
    return Mark._make([*words[:2], StepStatus(words[2]), *words[3:]])


def _projection(row: Projection) -> Words:
    return [*row[:5], str(row.status), *row[6:]]


def _read_projection(words: Words) -> Projection:
    return Projection._make([*words[:5], TaskStatus(words[5]), *words[6:]])


def _reopen(it: Reopen) -> Words:
    return [it.flow_id, it.generation, message_words(it.join), it.at, it.deadline, it.stats]


def _read_reopen(words: Words) -> Reopen:
    flow_id, generation, join, at, deadline, stats = words
    return Reopen(
        flow_id=flow_id, generation=generation, join=message_from(join), at=at, deadline=deadline, stats=stats
    )


def _resolve(it: Resolve) -> Words:
    return [it.task_id, it.flow_id, _words(it.effects)]


def _read_resolve(words: Words) -> Resolve:
    return Resolve(words[0], words[1], _effects(words[2]))


def _verdict(words: tuple[str, Verdict, str]) -> Words:
    return [words[0], str(words[1]), words[2]]


def _read_verdict(words: Words) -> tuple[str, Verdict, str]:
    return words[0], Verdict(words[1]), words[2]


_PARTS: tuple[tuple[str, Callable[[Any], Any], Callable[[Any], Any]], ...] = (
    ("messages", message_words, message_from),
    ("records", _record, _read_record),
    ("flows", _flow, _read_flow),
    ("marks", _mark, _read_mark),
    ("confirms", list, tuple),
    ("projections", _projection, _read_projection),
    ("chunks", chunk_words, read_chunk),
    ("spreads", list, tuple),
    ("outgoing", list, lambda words: Outgoing(*words)),
    ("resolves", _resolve, _read_resolve),
    ("reopens", _reopen, _read_reopen),
    ("verdicts", _verdict, _read_verdict),
)
"""Every part of `Effects`, in its order: its name, how one of it is written, how it is read."""
