"""Looks after members of open flows that nobody has heard of for a while (F1): marks, revives, writes them again."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tq.codec import loads
from tq.errors import WireError
from tq.ids import step_id
from tq.model import Batch, Effects, FlowState, Mark, Message, Record, StepStatus, TaskStatus
from tq.ports import Backend

from .close import barrier_of, commit_closing
from .membership import generation_stats, member_width
from .plan import WIDTH
from .results import missing
from .spread import locate

__all__ = ["LOST_AFTER", "Repaired", "Suspect", "repair"]

log = logging.getLogger("tq")

LOST_AFTER = 3600.0
"""Seconds after which a member that is nowhere, and in no plan, is called lost."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A member that has no record at the barrier."""

    state: FlowState
    index: int

    @property
    def id(self) -> str:
        return step_id(self.state.id, self.index)


@dataclass(slots=True)
class Repaired:
    """What a look brought."""

    marked: int = 0
    revived: int = 0
    respread: int = 0
    lost: int = 0
    closed: tuple[FlowState, ...] = ()

    def plus(self, other: Repaired) -> Repaired:
        """Return the sum."""
        return Repaired(
            self.marked + other.marked,
            self.revived + other.revived,
            self.respread + other.respread,
            self.lost + other.lost,
            self.closed + other.closed,
        )


async def repair(backend: Backend, suspects: Sequence[Suspect], now: float, lost_after: float) -> Repaired:
    """Find out what became of these members, and set right what went wrong.

    A member that is live somewhere is nobody's business. One that left a record has ended, and its mark is missing: it
    is marked again, or revived where its ending belongs to an earlier generation. One that is nowhere is written again
    from the plan; without a plan it is called lost after `lost_after` seconds, and counts as failed.
    """
    total = Repaired()
    for start in range(0, len(suspects), WIDTH):
        total = total.plus(await _repair_page(backend, suspects[start : start + WIDTH], now, lost_after))
    return total


async def _repair_page(backend: Backend, suspects: Sequence[Suspect], now: float, lost_after: float) -> Repaired:
    live = await locate(backend, [suspect.id for suspect in suspects])
    gone = await _still_missing(backend, [suspect for suspect in suspects if suspect.id not in live])
    if not gone:
        return Repaired()
    records = await backend.store.records([suspect.id for suspect in gone])
    result = await _from_records(backend, [it for it in gone if it.id in records], records, now)
    sees_all = backend.queue.guarantees.locates and backend.store.guarantees.locates
    if sees_all:  # else "nowhere" may mean: in a queue that does not tell
        nowhere = [suspect for suspect in gone if suspect.id not in records]
        result = result.plus(await _from_nowhere(backend, nowhere, now, lost_after))
    return result


async def _still_missing(backend: Backend, suspects: Iterable[Suspect]) -> list[Suspect]:
    """Ask the barrier once more, after the custodians: a member that ended in between is recorded by now."""
    barrier, found = barrier_of(backend), list[Suspect]()
    for state, members in _by_flow(suspect for suspect in suspects if _spread(suspect)):
        first, last = members[0].index, members[-1].index
        absent = set(await missing(barrier, state, first - 1, last - first + 1))
        found += [suspect for suspect in members if suspect.index in absent]
    return found


def _by_flow(suspects: Iterable[Suspect]) -> list[tuple[FlowState, list[Suspect]]]:
    """Return the suspects of each flow, as they came: by index."""
    flows: dict[str, list[Suspect]] = {}
    for suspect in suspects:
        flows.setdefault(suspect.state.id, []).append(suspect)
    return [(members[0].state, members) for members in flows.values()]


def _spread(suspect: Suspect) -> bool:
    """Whether a member was ever written: one that still stands in its plan is not missed."""
    flow = suspect.state.flow
    return not flow.chunks or suspect.index // member_width(flow) < suspect.state.spread


# --- ended, and not counted -------------------------------------------------------------------------------------------


async def _from_records(
    backend: Backend, suspects: Sequence[Suspect], records: Mapping[str, Record], now: float
) -> Repaired:
    marks: list[Mark] = []
    revived = 0
    for state, members in _by_flow(suspects):
        # One that kept its body runs again: if not by this call, then by another's, which saw the same record.
        again = [it.id for it in members if _runs_again(state, records[it.id])]
        revived += await _revive(backend, state, again, now)
        for suspect in members:
            if suspect.id not in again:
                record = records[suspect.id]
                log.warning("member %s ended as %s and was not counted; it is now", suspect.id, record.status)
                marks.append(_mark(suspect, record))
    closed = await _commit_marks(backend, marks, now)
    return Repaired(marked=len(marks), revived=revived, closed=closed)


async def _revive(backend: Backend, state: FlowState, ids: Sequence[str], now: float) -> int:
    """Let members of an earlier generation run again; return how many there were."""
    if not ids:
        return 0
    revived = await backend.store.revive(ids, now, generation_stats(state.flow.generation, state.flow.deadline))
    for id in revived:
        log.warning("member %s of a flow that was opened again had not been revived; it is now", id)
    return len(revived)


def _runs_again(state: FlowState, record: Record) -> bool:
    return bool(state.flow.generation) and record.body is not None and not _counts(state, record)


def _counts(state: FlowState, record: Record) -> bool:
    """Whether this ending belongs to the flow's present generation, or is a success, which counts in any."""
    if record.status is TaskStatus.EXECUTED:
        return True
    try:
        generation = loads(record.stats).get("flow_generation", 0) if record.stats else None
    except (WireError, AttributeError):
        generation = None
    return record.at > state.opened_at if generation is None else bool(generation == state.flow.generation)


def _mark(suspect: Suspect, record: Record) -> Mark:
    flow = suspect.state.flow
    if record.status is TaskStatus.EXECUTED:
        return Mark(flow.id, suspect.index, StepStatus.SUCCESS, flow.generation, record.result)
    status = StepStatus.CANCELLED if record.status is TaskStatus.CANCELLED else StepStatus.FAIL
    return Mark(flow.id, suspect.index, status, flow.generation, None, record.error or "Step failed")


async def _commit_marks(backend: Backend, marks: Sequence[Mark], now: float) -> tuple[FlowState, ...]:
    return tuple(await commit_closing(backend, Effects(marks=tuple(marks)), now)) if marks else ()


# --- nowhere ----------------------------------------------------------------------------------------------------------


async def _from_nowhere(backend: Backend, suspects: Sequence[Suspect], now: float, lost_after: float) -> Repaired:
    marks: list[Mark] = []
    messages: list[Message] = []
    chunks: dict[tuple[str, int], dict[str, Message]] = {}
    for suspect in suspects:
        flow = suspect.state.flow
        message = None
        if flow.chunks:
            key = (flow.plan, suspect.index // member_width(flow))
            if key not in chunks:
                chunk = await backend.store.chunk(*key)
                chunks[key] = {it.id: it for it in chunk.messages} if chunk is not None else {}
            message = chunks[key].get(suspect.id)
        if message is not None:
            stats = generation_stats(flow.generation, flow.deadline) if flow.generation else message.stats
            messages.append(message._replace(run_at=now, stats=stats))
        elif now - suspect.state.opened_at >= lost_after:
            log.warning("member %s is nowhere to be found and counts as failed: lost", suspect.id)
            error = f"lost: neither queue nor store has known task {suspect.id} for {lost_after:g} s"
            marks.append(Mark(flow.id, suspect.index, StepStatus.FAIL, flow.generation, None, error))
    if messages:
        log.warning("%d members are nowhere to be found and are written again from their plan", len(messages))
        await backend.commit(Batch(effects=[Effects(messages=tuple(messages))]))
    closed = await _commit_marks(backend, marks, now)
    return Repaired(respread=len(messages), lost=len(marks), closed=closed)
