"""A task as a document: the same one while it is live and while its ending is kept, so that its id is taken once.

_id, version      the task's id; a number that every change raises
state             waiting running held · behind (another of its lane) · unborn (of an ending that is being carried out)
                  · ending (its own is) · ended (only its record is left)
live, queue, type, body, run_at, generation, attempt, lane, stats, base      the message, while it is live
due, seq, place   when it is handed out, in which order among equals, by which custodian
token, until, fence, crashes, solo, solo_crashes, unknown_since, cancelled, held_by        custody
lane, number, turn   its lane, its place in it, and that it is its turn
record, expires   its ending, while that is kept
ending            what is being carried out (`journal`)

A field that has its default is left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from tq.errors import ContentRefusedError
from tq.model import Delivery, Message, Place, Record, State, TaskStatus, Whereabouts

from .table import Document

__all__ = [
    "LIVE",
    "delivery_of",
    "expiry_of",
    "id_of_two",
    "instant",
    "message_from",
    "message_of",
    "message_words",
    "new_task",
    "record_fields",
    "record_of",
    "whereabouts_of",
]

LIVE = (
    *("live", "queue", "type", "body", "run_at", "generation", "attempt", "lane", "stats", "base"),
    *("due", "seq", "place", "token", "until", "fence", "crashes", "solo", "solo_crashes", "unknown_since"),
    *("cancelled", "held_by", "number", "turn", "ending", "born"),
)
"""What a document loses when its task has ended."""

_LAST = 253_402_300_000.0
"""Instants beyond the year 9999 are no dates."""

_STATES = {"running": State.RUNNING, "ending": State.RUNNING, "held": State.HELD}


def id_of_two(first: str, second: object) -> str:
    """Return the id of a document that has two names; its length keeps ("ab", "c") apart from ("a", "bc")."""
    return f"{len(first)}\0{first}\0{second}"


def instant(value: float) -> float:
    """Return an instant as it is stored.

    Raises:
        ContentRefusedError: it is no number, and would never come.
    """
    if math.isnan(value):
        raise ContentRefusedError("an instant that is no number cannot be stored")
    return float(value)


def new_task(message: Message, *, seq: int, place: Place, state: str = "waiting") -> Document:
    """Return the document of a message."""
    document: Document = {
        "_id": message.id,
        "version": 1,
        "state": state,
        "live": True,
        "queue": message.queue,
        "type": message.type,
        "body": message.body,
        "run_at": instant(message.run_at),
        "due": instant(message.run_at),
        "seq": seq,
    }
    more = {
        "generation": message.generation,
        "attempt": message.attempt,
        "lane": message.lane,
        "stats": message.stats,
        "base": message.fence,
        "fence": message.fence,
        "place": str(place) if place is Place.STORE else "",
    }
    return document | {name: value for name, value in more.items() if value}


def message_of(document: Document) -> Message:
    """Return the message of a live document."""
    return Message(
        document["_id"],
        document["queue"],
        document["type"],
        document["body"],
        document["run_at"],
        document.get("generation", 0),
        document.get("attempt", 0),
        document.get("lane", ""),
        document.get("stats", b""),
        document.get("base", 0),
    )


def delivery_of(document: Document) -> Delivery:
    """Return a document that was handed out."""
    return Delivery(
        message_of(document),
        document["token"],
        document["fence"],
        document.get("crashes", 0),
        document.get("solo_crashes", 0),
        document.get("unknown_since", 0.0),
        document.get("cancelled", False),
        Place(document.get("place", Place.QUEUE)),
    )


def whereabouts_of(document: Document) -> Whereabouts:
    """Return where a live task is."""
    state = _STATES.get(document["state"], State.WAITING)
    return Whereabouts(
        document["_id"],
        document["queue"],
        document["type"],
        state,
        document["due"] if state is State.WAITING else document["run_at"],
        document.get("generation", 0),
        document.get("attempt", 0),
        document.get("until", 0.0),
        document.get("token", ""),
        document.get("crashes", 0),
        document.get("held_by", ""),
        document.get("cancelled", False),
        document.get("stats", b""),
        Place(document.get("place", Place.QUEUE)),
    )


def message_words(message: Message) -> list[Any]:
    """Return a message that stands inside another document."""
    return [*message[:4], instant(message.run_at), *message[5:]]


def message_from(words: Sequence[Any]) -> Message:
    """Return what `message_words` made."""
    return Message(*words)


# --- endings ----------------------------------------------------------------------------------------------------------


def record_fields(record: Record) -> Document:
    """Return a record as it stands in the document of its task."""
    fields = record._asdict() | {"status": str(record.status), "at": instant(record.at)}
    fields["expires_at"] = instant(record.expires_at)
    del fields["task_id"]
    return fields


def record_of(document: Document) -> Record:
    """Return the record in a document."""
    fields: Document = document["record"]
    return Record(task_id=document["_id"], **fields)._replace(status=TaskStatus(fields["status"]))


def expiry_of(record: Document) -> datetime:
    """Return when a finished task may be dropped, as the server's own upkeep reads it."""
    return datetime.fromtimestamp(min(max(record["expires_at"], 0.0), _LAST), UTC)
