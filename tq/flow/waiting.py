"""Ends held tasks that the join of their flow did not end: it knew nothing of them, or had ended before they waited.

Who waits for a flow that an earlier attempt had started (`success_when` after a retry or a reschedule) is unknown to
that flow's join. A note tells of it, written with the ending that holds the task; it stays until the task has ended.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

from tq.codec import decode_body, dumps, loads
from tq.ids import is_new
from tq.model import (
    Effects,
    Ended,
    Failed,
    FlowState,
    Outgoing,
    Record,
    State,
    Succeeded,
    Task,
    TaskStatus,
    Whereabouts,
)
from tq.ports import Backend

from .close import barrier_of, commit_closing
from .ending import parent_ended
from .membership import membership_of
from .parent import Parent, parent_of, parent_words, read_parent
from .spread import locate

__all__ = ["end_forgotten", "end_told", "may_be_unknown", "waiting_note"]

log = logging.getLogger("tq")

TOPIC = "waiting"
PAGE = 500


class Waiting(NamedTuple):
    """A held task, and the flow that it waits for."""

    parent: Parent
    flow_id: str


class Woken(NamedTuple):
    """What one look came to."""

    ended: int
    closed: list[FlowState]
    """Flows that this decided."""


# --- told by a note ---------------------------------------------------------------------------------------------------


def may_be_unknown(task: Task[Any]) -> bool:
    """Whether the flow that this task starts may be there already, and know nothing of it.

    An earlier attempt may have started it, or an earlier task of the same id, where the id is not one that tq makes.
    """
    return task.fence > 1 or (membership_of(task) is None and not is_new(task.id))


def waiting_note(ended: Ended, flow_id: str) -> Outgoing:
    """Return what tells of a task that waits for a flow which may have been started without it."""
    task = ended.task
    words = {"flow_id": flow_id, "parent": parent_words(ended)}
    return Outgoing(TOPIC, f"{task.id}:{task.generation}.{task.fence}", dumps(words))


async def end_told(backend: Backend, now: float) -> Woken:
    """End the held tasks that notes tell of and whose flow is over; drop the notes of those that have ended.

    Of more notes than one look takes, those looked at in vain go behind the others.
    """
    notes = await backend.store.outgoing(TOPIC, PAGE)
    if not notes:
        return Woken(0, [])
    told = [_read(note) for note in notes]
    places = await locate(backend, [it.parent.task.id for it in told])
    lives = [_is(places.get(it.parent.task.id), it) for it in told]
    done = [note for note, live in zip(notes, lives, strict=True) if not live]
    waiting = [it for it, live in zip(told, lives, strict=True) if live]
    woken = await _end(backend, [it for it in waiting if places[it.parent.task.id].held_by == it.flow_id], now)
    if done:
        await backend.store.sent(done)
    elif len(notes) == PAGE and not woken.ended:
        await backend.store.put_outgoing([note._replace(id=_other(note.id), seq=0) for note in notes])
        await backend.store.sent(notes)
    return woken


def _read(note: Outgoing) -> Waiting:
    words = loads(note.body)
    return Waiting(read_parent(words["parent"]), words["flow_id"])


def _is(place: Whereabouts | None, it: Waiting) -> bool:
    """Whether a live task is the one that waits, and not a later generation of it."""
    return place is not None and place.generation == it.parent.task.generation


def _other(id: str) -> str:
    """Return another id for a note that is to stand in two places for a moment."""
    return id.removesuffix("~") if id.endswith("~") else f"{id}~"


# --- left behind ------------------------------------------------------------------------------------------------------


class Forgotten(NamedTuple):
    """What one look over a page of the store came to."""

    after: str
    """Where the next one goes on."""
    ended: int
    closed: list[FlowState]
    """Flows that this decided."""


async def end_forgotten(backend: Backend, after: str, now: float, quiet_after: float) -> Forgotten:
    """Look over one page of the store for held tasks whose flow was over before they were held, and end these.

    Across servers a flow is opened before the task that waits for it is held: if its producer dies in between, its join
    may end first, and finds nobody.
    """
    page = await backend.store.list(None, after, PAGE)
    held = [place for place in page if place.state is State.HELD and place.held_by]
    woken = Woken(0, [])
    if held:
        states = await barrier_of(backend).get(sorted({place.held_by for place in held}))
        left = [
            Waiting(parent, place.held_by)
            for place in held
            if (state := states.get(place.held_by)) is not None
            and _over(state, now - quiet_after)
            and (parent := _known_to(state)) is not None
            and parent.task.id == place.id
        ]
        woken = await _end(backend, left, now)
        for it in left:
            log.warning("task %s was held by flow %s, which is over; it ends now", it.parent.task.id, it.flow_id)
    return Forgotten(page[-1].id if len(page) >= PAGE else "", woken.ended, woken.closed)


def _known_to(state: FlowState) -> Parent | None:
    return parent_of(decode_body(state.flow.join.body)["metadata"]["flow_meta"]) if state.flow.parent else None


# --- both -------------------------------------------------------------------------------------------------------------


def _over(state: FlowState, by: float) -> bool:
    return state.confirmed and state.closed_at is not None and state.closed_at <= by


async def _end(backend: Backend, waiting: Sequence[Waiting], now: float) -> Woken:
    """End those whose flow's join has ended, as it ended; a task that is not held any more is not touched."""
    if not waiting:
        return Woken(0, [])
    states = await barrier_of(backend).get(sorted({it.flow_id for it in waiting}))
    over = {flow_id: state for flow_id, state in states.items() if _over(state, now)}
    joins = [state.flow.join.id for state in over.values()]
    live = await locate(backend, joins) if joins else {}
    records = await backend.store.records([join for join in joins if join not in live])
    ended = 0
    closed = list[FlowState]()
    for parent, flow_id in waiting:
        state = over.get(flow_id)
        if state is not None and state.flow.join.id not in live:
            outcome = _outcome(records.get(state.flow.join.id))
            resolve = parent_ended(parent, flow_id, state.verdict, outcome, now)
            closed += await commit_closing(backend, Effects(resolves=(resolve,)), now)
            ended += 1
    return Woken(ended, closed)


def _outcome(record: Record | None) -> Succeeded | Failed:
    """A join without a record succeeded without a result that was to be kept: failures leave one."""
    if record is None or record.status is TaskStatus.EXECUTED:
        return Succeeded(record.result if record is not None else None)
    return Failed(record.error or "Join task failed", final=True, status=record.status)
