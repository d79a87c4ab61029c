"""A flow as a document, and what happens to it: pure, each function is given a copy that is its own.

_id, version     the flow's id; a number that every change raises
total … meta     the flow, as it was given; `join` as a list
members          a byte for each member: 0 missing, else how it ended; 100,000 members make a document of 100 KB
succeeded, failed, verdict, reason, trigger, closed_at, opened_at, confirmed, spread, tidied     as in `FlowState`
open             True, or left out
due              when something is to be done: at its deadline, or at once; left out where nothing is
late             how many successes came after the verdict, about
closed_by        the ending that closed it
born, entry      the ending that stores it, and where that stands
unborn           that this is still being carried out: nobody sees the flow

What members brought stands in documents of their own (`marks`), so that no flow grows towards the server's limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tq.model import Flow, FlowState, Mark, Reopen, StepStatus, Verdict, decide

from .documents import instant, message_from, message_words
from .table import Document

__all__ = [
    "advance",
    "close",
    "confirm",
    "counts",
    "hidden",
    "join_of",
    "let_go",
    "missing",
    "new_flow",
    "recorded",
    "reopen",
    "settle",
    "state_of",
    "status_of",
]

_CODES = {StepStatus.SUCCESS: 1, StepStatus.FAIL: 2, StepStatus.CANCELLED: 3}
_STATUSES = {code: status for status, code in _CODES.items()}


def new_flow(flow: Flow, now: float, by: str = "", entry: str = "") -> Document:
    """Return the document of a flow; one of no members is closed by this. `by` and `entry` let it be unborn."""
    document: Document = {
        "_id": flow.id,
        "version": 1,
        "total": flow.total,
        "allowed": flow.allowed,
        "needed": flow.needed,
        "join": message_words(flow.join),
        "started_at": instant(flow.started_at),
        "generation": flow.generation,
        "deadline": None if flow.deadline is None else instant(flow.deadline),
        "cancel_siblings": flow.cancel_siblings,
        "parent": flow.parent,
        "chunks": flow.chunks,
        "plan": flow.plan,
        "meta": flow.meta,
        "members": bytes(flow.total),
        "succeeded": 0,
        "failed": 0,
        "trigger": -1,
        "opened_at": instant(flow.started_at),
    }
    if by:
        document |= {"unborn": True, "born": by, "entry": entry}
    _decide(document, now, by)
    return document


def state_of(document: Document) -> FlowState:
    """Return a flow as it stands."""
    it = document
    verdict = it.get("verdict")
    return FlowState(
        flow=Flow(
            id=it["_id"],
            total=it["total"],
            allowed=it["allowed"],
            needed=it["needed"],
            join=message_from(it["join"]),
            started_at=it["started_at"],
            generation=it["generation"],
            deadline=it["deadline"],
            cancel_siblings=it["cancel_siblings"],
            parent=it["parent"],
            chunks=it["chunks"],
            plan=it["plan"],
            meta=it["meta"],
        ),
        remaining=it["total"] - it["succeeded"] - it["failed"],
        succeeded=it["succeeded"],
        failed=it["failed"],
        verdict=None if verdict is None else Verdict(verdict),
        reason=it.get("reason", ""),
        trigger=it["trigger"],
        closed_at=it.get("closed_at"),
        opened_at=it["opened_at"],
        confirmed=it.get("confirmed", False),
        spread=it.get("spread", 0),
        tidied=it.get("tidied", False),
    )


def join_of(document: Document) -> Any:
    """Return the join of a closed flow, due since the verdict."""
    return message_from(document["join"])._replace(run_at=document["closed_at"])


def _look(document: Document) -> None:
    """Note whether the flow is open, and when something is to be done for it."""
    is_open = document.get("verdict") is None
    unspread = document.get("spread", 0) < document["chunks"]
    cancels = document["cancel_siblings"] or document.get("verdict") == str(Verdict.CANCELLED)
    untidy = not is_open and cancels and not document.get("tidied")
    document.pop("open", None)
    document.pop("due", None)
    if document.get("unborn"):
        return
    if is_open:
        document["open"] = True
    if unspread or untidy or (not is_open and not document.get("confirmed")):
        document["due"] = float("-inf")
    elif is_open and document["deadline"] is not None:
        document["due"] = document["deadline"]


# --- verdicts ---------------------------------------------------------------------------------------------------------


def _decide(document: Document, now: float, by: str) -> bool:
    verdict = decide(
        remaining=document["total"] - document["succeeded"] - document["failed"],
        succeeded=document["succeeded"],
        failed=document["failed"],
        allowed=document["allowed"],
        needed=document["needed"],
    )
    if verdict is not None:
        return close(document, verdict, "", now, by)
    _look(document)
    return False


def close(document: Document, verdict: Verdict, reason: str, now: float, by: str) -> bool:
    """Close an open flow; return whether this did.

    `by` is the ending that releases the join along with it: the join is then on its way for good.
    """
    if document.get("verdict") is not None:
        return False
    document |= {"verdict": str(verdict), "reason": reason, "closed_at": now}
    if by:
        document |= {"closed_by": by, "confirmed": True}
    _look(document)
    return True


def let_go(document: Document) -> None:
    """Let everybody see a flow, now that everything which came with it is written."""
    document.pop("unborn", None)
    _look(document)


def hidden(document: Document, by: str) -> bool:
    """Tell whether a flow is not there yet, but for the ending that stores it."""
    return bool(document.get("unborn")) and document["born"] != by


def confirm(document: Document, generation: int) -> None:
    """Note that the join of this generation is on its way for good."""
    if document.get("verdict") is not None and document["generation"] == generation:
        document["confirmed"] = True
        _look(document)


def advance(document: Document, spread: int | None, tidied: bool | None) -> None:  # noqa: FBT001 -- as the port
    """Note how far spreading has come, never back, or that nothing is left to tidy up."""
    if spread is not None:
        document["spread"] = max(document.get("spread", 0), spread)
    if tidied is not None:
        document["tidied"] = tidied
    _look(document)


# --- members ----------------------------------------------------------------------------------------------------------


def recorded(document: Document) -> list[int]:
    """Return the members that are recorded, in order."""
    return [index for index, code in enumerate(document["members"]) if code]


def missing(document: Document) -> list[int]:
    """Return the members that are not recorded, in order."""
    return [index for index, code in enumerate(document["members"]) if not code]


def status_of(document: Document, index: int) -> StepStatus:
    """Return how a recorded member ended."""
    return _STATUSES[document["members"][index]]


def counts(document: Document, members: Sequence[int], mark: Mark, *, fenced: bool) -> bool:
    """Tell whether a mark would be recorded now; of a closed flow, whether it is a success that comes late."""
    if not 0 <= mark.index < document["total"]:
        return False
    succeeded = mark.status is StepStatus.SUCCESS
    if document.get("verdict") is not None:
        return succeeded and members[mark.index] != _CODES[StepStatus.SUCCESS]
    return not members[mark.index] and (fenced or succeeded or mark.generation >= document["generation"])


def settle(document: Document, marks: Iterable[tuple[Mark, bool]], now: float, by: str) -> bool:
    """Record members, each with whether its lease was held, and decide; return whether that closed the flow."""
    members = bytearray(document["members"])
    was_open = document.get("verdict") is None
    changed = False
    for mark, fenced in marks:
        if not counts(document, members, mark, fenced=fenced):
            continue
        if not was_open:  # whoever opens it again must see this, or not be able to write
            document["late"] = document.get("late", 0) + 1
            continue
        members[mark.index] = _CODES[mark.status]
        changed = True
        if mark.status is StepStatus.SUCCESS:
            document["succeeded"] += 1
        else:
            document["failed"] += 1
            if document["failed"] == document["allowed"] + 1:
                document["trigger"] = mark.index
    if not changed:
        return False
    document["members"] = bytes(members)
    return _decide(document, now, by)


def reopen(document: Document, again: Reopen, late: Iterable[int], now: float, by: str) -> bool:
    """Open the next generation, for all that did not succeed, before the verdict or after it (`late`).

    False where the flow's join is not on its way, or another generation is its next: it stays as it is.
    """
    if not document.get("confirmed") or again.generation != document["generation"] + 1:
        return False
    success = _CODES[StepStatus.SUCCESS]
    members = bytearray(code if code == success else 0 for code in document["members"])
    for index in late:
        members[index] = success
    for name in ("verdict", "reason", "closed_at", "closed_by", "confirmed", "tidied"):
        document.pop(name, None)
    document |= {
        "generation": again.generation,
        "join": message_words(again.join),
        "deadline": None if again.deadline is None else instant(again.deadline),
        "members": bytes(members),
        "succeeded": sum(1 for code in members if code),
        "failed": 0,
        "trigger": -1,
        "opened_at": instant(again.at),
        "reopened_by": by,
    }
    _decide(document, now, by)
    return True
