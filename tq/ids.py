"""Ids: new ones are ordered by time, derived ones are named by their cause.

An effect that may be carried out twice needs an id that is the same both times. So everything that a task brings forth
is named after the task: children by `child_id`, flows by `flow_id`, members and joins by their flow.
"""

from __future__ import annotations

import os
from hashlib import blake2b
from itertools import count

__all__ = [
    "child_id",
    "flow_id",
    "flow_of",
    "is_join",
    "is_new",
    "join_id",
    "names_member",
    "new_id",
    "step_id",
    "step_range",
]

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # no i, l, o, u: ids are read aloud
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
_counter = count(int.from_bytes(os.urandom(4)))


def new_id(now: float) -> str:
    """Return a fresh id of 26 characters that sorts by `now` (milliseconds), then by order of making.

    48 bits of time, 32 bits that count up within the process, 50 random bits.
    """
    made = (int(now * 1000) & 0xFFFFFFFFFFFF) << 32 | next(_counter) & 0xFFFFFFFF
    chance = int.from_bytes(os.urandom(7))
    return (
        f"{_PAIRS[made >> 70]}{_PAIRS[made >> 60 & 1023]}{_PAIRS[made >> 50 & 1023]}{_PAIRS[made >> 40 & 1023]}"
        f"{_PAIRS[made >> 30 & 1023]}{_PAIRS[made >> 20 & 1023]}{_PAIRS[made >> 10 & 1023]}{_PAIRS[made & 1023]}"
        f"{_PAIRS[chance >> 40 & 1023]}{_PAIRS[chance >> 30 & 1023]}{_PAIRS[chance >> 20 & 1023]}"
        f"{_PAIRS[chance >> 10 & 1023]}{_PAIRS[chance & 1023]}"
    )


def is_new(id: str) -> bool:
    """Tell whether an id has the form of `new_id`; one that was given may have it, too (`codec.is_made`)."""
    return len(id) == 26 and not id.strip(_ALPHABET)


def _derive(*parts: str | bytes | float) -> str:
    digest = blake2b(digest_size=16)
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode()
        digest.update(len(data).to_bytes(8))  # lengths keep ("ab", "c") apart from ("a", "bc")
        digest.update(data)
    return digest.hexdigest()


def child_id(parent: str, born: float, generation: int, type: str, queue: str, payload: bytes, occurrence: int) -> str:
    """Return the id of a child task: the same for the same child of the same execution, whoever makes it.

    `born` is the instant at which the parent was made: its id may be given again to another task, later.
    """
    return _derive("child", parent, born, generation, type, queue, payload, occurrence)


def flow_id(task: str, born: float, generation: int, key: str) -> str:
    """Return the id of the flow that `task`, made at the instant `born`, starts under `key`."""
    return _derive("flow", task, born, generation, key)


def step_id(flow: str, index: int) -> str:
    """Return the task id of the member of `flow` with this index."""
    return f"{flow}.{index}"


def flow_of(step: str) -> str:
    """Return the flow that the id of a member names; empty, or no flow's id, for ids of another form."""
    return step.rpartition(".")[0]


def names_member(id: str) -> bool:
    """Tell whether an id has the form of those that tq gives to the members and joins of its flows."""
    flow, _, place = id.partition(".")
    step, _, generation = place.partition(".")
    counted = step.isdecimal() and not generation if step != "join" else not generation or generation.isdecimal()
    return counted and (is_new(flow) or (len(flow) == 32 and not flow.strip("0123456789abcdef")))


def step_range(flow: str) -> tuple[str, str]:
    """Return the half-open range of ids that holds every member and join of `flow`, and nothing else."""
    return f"{flow}.", f"{flow}/"


def join_id(flow: str, generation: int) -> str:
    """Return the task id of the join of `flow` in this generation."""
    return f"{flow}.join" if generation == 0 else f"{flow}.join.{generation}"


def is_join(id: str) -> bool:
    """Tell whether an id has the form of `join_id`."""
    head, _, last = id.rpartition(".")
    return id.endswith(".join") or (last.isdecimal() and head.endswith(".join"))
