"""What happens to the document of a task: pure, each function is given a copy that is its own.

waiting ──claim──▶ running ──▶ ending ──▶ ended, or gone
   ▲                 │ │
   └── rearm, expire ┘ └──▶ held ──▶ ending
"""

from __future__ import annotations

from tq.model import Message, Place, Rearm, Record

from .documents import LIVE, expiry_of, instant, record_fields
from .table import Document

__all__ = [
    "cancel",
    "end",
    "expire",
    "hold",
    "keep",
    "lease",
    "owns",
    "rearm",
    "reborn",
    "release",
    "replace",
    "revived",
    "wait",
]

_LEASE = ("token", "until", "solo")


def owns(document: Document, token: str) -> bool:
    """Tell whether this token entitles to end the task."""
    return bool(token) and document["state"] == "running" and document["token"] == token


def drop_lease(document: Document) -> None:
    """End the lease, if there is one."""
    for name in (*_LEASE, "held_by"):
        document.pop(name, None)


def wait(document: Document, due: float, now: float) -> None:
    """Let a task wait until it is due; a cancelled one is due at once: it only has to be ended."""
    drop_lease(document)
    document["state"] = "behind" if document.get("lane") and "turn" not in document else "waiting"
    document["due"] = min(due, now) if document.get("cancelled") else due


def lease(document: Document, token: str, until: float) -> None:
    """Let a task run under this token; alone or not, as before."""
    document |= {"state": "running", "token": token, "until": until}


def expire(document: Document, now: float) -> None:
    """Give back what a dead worker left: a crash is counted."""
    document["crashes"] = document.get("crashes", 0) + 1
    if document.get("solo"):
        document["solo_crashes"] = document.get("solo_crashes", 0) + 1
    wait(document, document["run_at"], now)


def release(document: Document, now: float) -> None:
    """Give a delivery back, uncounted, due as it was."""
    wait(document, document["run_at"], now)


def rearm(document: Document, again: Rearm, now: float) -> None:
    """Give a delivery back, to be tried again."""
    document |= {
        "run_at": instant(again.run_at),
        "attempt": again.attempt,
        "stats": again.stats,
        "unknown_since": again.unknown_since,
    }
    wait(document, again.run_at, now)


def hold(document: Document, flow_id: str) -> None:
    """Keep a task, not to be handed out before the flow's end."""
    drop_lease(document)
    document |= {"state": "held", "held_by": flow_id}


def cancel(document: Document, now: float) -> None:
    """Ask for a task to end: one that waits is due at once."""
    document["cancelled"] = True
    if document["state"] in {"waiting", "behind", "unborn"}:
        document["due"] = min(document["due"], now)


def replace(document: Document, message: Message, now: float) -> bool:
    """Let a later execution take the place of an earlier one; False where it is not later.

    Queue, type and lane are what they were.
    """
    if (document.get("generation", 0), document.get("attempt", 0)) >= (message.generation, message.attempt):
        return False
    document |= {
        "body": message.body,
        "run_at": instant(message.run_at),
        "generation": message.generation,
        "attempt": message.attempt,
        "stats": message.stats,
        "base": message.fence,
        "fence": max(document.get("fence", 0), message.fence),
        "place": str(Place.STORE),
    }
    wait(document, message.run_at, now)
    return True


def keep(document: Document, record: Record) -> None:
    """Keep an ending; over one of the same task only if its generation is larger."""
    old = document.get("record")
    if old is None or record.generation > old["generation"]:
        document["record"] = record_fields(record)
        if document["state"] == "ended":
            document["expires"] = expiry_of(document["record"])


def end(document: Document) -> Document | None:
    """Return what is left of a task that has ended: its record, or nothing."""
    if "record" not in document:
        return None
    left = {name: value for name, value in document.items() if name not in LIVE}
    return left | {"state": "ended", "expires": expiry_of(document["record"])}


def reborn(document: Document, made: Document) -> Document:
    """Return a new task in the place of one that has ended."""
    return made | {name: document[name] for name in ("version", "stamps") if name in document}


def revived(document: Document, at: float, stats: bytes) -> Message | None:
    """Return the next generation of a task that has ended; None where it is live, or kept no body."""
    record = document.get("record")
    if document["state"] != "ended" or record is None or record["body"] is None:
        return None
    return Message(
        document["_id"],
        record["queue"],
        record["type"],
        record["body"],
        at,
        record["generation"] + 1,
        stats=stats,
        fence=record["fence"],
    )
