"""What one hop writes, in one transaction: endings behind their leases, then everything they bring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tq.ids import flow_of
from tq.model import (
    NO_EFFECTS,
    Batch,
    Chunk,
    Effects,
    Flow,
    FlowState,
    Hold,
    Mark,
    Message,
    Outgoing,
    Projection,
    Rearm,
    Receipt,
    Record,
    Remove,
    Reopen,
    Resolve,
    Settlement,
    Verdict,
)

from .chunks import put_chunks
from .connection import Connection
from .flows import advance_flow, close_flow, confirm_joins, open_flows, read_states, reopen_flow, revive_members
from .leases import hold, rearm, remove, solo
from .marks import release_joins, write_marks
from .messages import insert, resolve
from .notes import put_outgoing
from .projections import write_projections
from .records import write_records

__all__ = ["Written", "write_batch"]


class Written(NamedTuple):
    """What writing a batch brought to light."""

    refused: list[Receipt]
    closed: list[FlowState]
    duplicates: list[str]
    known: list[FlowState]


@dataclass(slots=True)
class _Pool:
    """The effects of a whole batch, sorted by kind: each kind is then written with few statements."""

    messages: list[Message] = field(default_factory=list[Message])
    records: list[Record] = field(default_factory=list[Record])
    flows: list[Flow] = field(default_factory=list[Flow])
    marks: list[tuple[Mark, bool]] = field(default_factory=list[tuple[Mark, bool]])
    confirms: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    projections: list[Projection] = field(default_factory=list[Projection])
    chunks: list[Chunk] = field(default_factory=list[Chunk])
    spreads: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    outgoing: list[Outgoing] = field(default_factory=list[Outgoing])
    resolves: list[Resolve] = field(default_factory=list[Resolve])
    reopens: list[Reopen] = field(default_factory=list[Reopen])
    verdicts: list[tuple[str, Verdict, str]] = field(default_factory=list[tuple[str, Verdict, str]])

    def take(self, effects: Effects, *, fenced: bool) -> None:
        """Add the effects of one ending; `fenced` says that its lease, or its hold, was there."""
        # Spelled out: this runs for every task that leaves anything behind.
        if effects.messages:
            self.messages += effects.messages
        if effects.records:
            self.records += effects.records
        if effects.flows:
            self.flows += effects.flows
        if effects.confirms:
            self.confirms += effects.confirms
        if effects.projections:
            self.projections += effects.projections
        if effects.chunks:
            self.chunks += effects.chunks
        if effects.spreads:
            self.spreads += effects.spreads
        if effects.outgoing:
            self.outgoing += effects.outgoing
        if effects.resolves:
            self.resolves += effects.resolves
        if effects.reopens:
            self.reopens += effects.reopens
        if effects.verdicts:
            self.verdicts += effects.verdicts
        if effects.marks:
            self.marks += [(mark, fenced) for mark in effects.marks]


def write_batch(db: Connection, batch: Batch) -> Written:
    """Write a batch; a settlement whose lease was lost leaves no trace but its receipt."""
    refused = solo(db, batch.solo) if batch.solo else []
    pool = _Pool()
    if batch.settlements:
        refused += _settle(db, batch.settlements, pool)
    for effects in batch.effects:
        pool.take(effects, fenced=False)
    return Written(refused, *_write_effects(db, pool))


def _settle(db: Connection, settlements: Sequence[Settlement], pool: _Pool) -> list[Receipt]:
    """Carry out the endings, by kind; return the receipts that were lost."""
    lost: list[Receipt] = []
    if len({settlement[0][0] for settlement in settlements}) < len(settlements):
        settlements, lost = _first_of_each(settlements)
    removes: list[Receipt] = []
    rearms: list[tuple[Receipt, Rearm]] = []
    holds: list[tuple[Receipt, Hold]] = []
    bringing: list[Settlement] = []
    for settlement in settlements:
        receipt, ending, effects, _, _ = settlement
        if isinstance(ending, Remove):
            removes.append(receipt)
        elif isinstance(ending, Rearm):
            rearms.append((receipt, ending))
        else:
            holds.append((receipt, ending))
        if effects is not NO_EFFECTS:
            bringing.append(settlement)
    missing: list[Receipt] = []
    if removes:
        missing += remove(db, removes)
    if rearms:
        missing += rearm(db, rearms)
    if holds:
        missing += hold(db, holds)
    if missing:
        without = set(missing)
        bringing = [settlement for settlement in bringing if settlement.receipt not in without]
    for settlement in bringing:
        pool.take(settlement.effects, fenced=True)
    return lost + missing


def _first_of_each(settlements: Sequence[Settlement]) -> tuple[list[Settlement], list[Receipt]]:
    """Return the first settlement of each delivery, and the receipts of the others: whoever comes second has lost."""
    first: dict[Receipt, Settlement] = {}
    others = [it.receipt for it in settlements if first.setdefault(it.receipt, it) is not it]
    return list(first.values()), others


def _open(db: Connection, pool: _Pool) -> tuple[list[str], list[str]]:
    """Open the flows that are new; return those that are decided already, and those that were there before.

    Nothing of a second start is written: its members may have run, and left no trace.
    """
    opened = open_flows(db, pool.flows)
    known = {flow.id for flow in pool.flows if flow.id not in opened}
    if known:
        pool.messages = [message for message in pool.messages if flow_of(message.id) not in known]
        pool.projections = [
            row for row in pool.projections if row.task_id not in known and flow_of(row.task_id) not in known
        ]
        pool.spreads = [spread for spread in pool.spreads if spread[0] not in known]
    return [flow_id for flow_id, closed in opened.items() if closed], list(known)


def _write_effects(db: Connection, pool: _Pool) -> tuple[list[FlowState], list[str], list[FlowState]]:
    """Write what the endings bring; return the flows decided by it, ids that were taken, and flows that were known."""
    _resolve(db, pool)
    write_records(db, pool.records)
    closed, known = _open(db, pool) if pool.flows else ([], [])
    for asked in pool.reopens:
        missing = reopen_flow(db, asked)
        if missing is not None:
            revive_members(db, asked, missing)
            state = read_states(db, [asked.flow_id])[asked.flow_id]
            closed += [] if state.verdict is None else [asked.flow_id]  # nothing was missing
    closed += write_marks(db, pool.marks)
    # Steps come before deadlines: what the marks have decided stays decided.
    closed += [flow_id for flow_id, verdict, reason in pool.verdicts if close_flow(db, flow_id, verdict, reason)]
    if pool.confirms:
        confirm_joins(db, pool.confirms)
    for flow_id, number in pool.spreads:
        advance_flow(db, flow_id, number, None)
    duplicates = insert(db, pool.messages)
    states_now = release_joins(db, closed)
    if pool.chunks:
        put_chunks(db, pool.chunks)
    if pool.outgoing:
        put_outgoing(db, pool.outgoing)
    if pool.projections:
        write_projections(db, pool.projections)
    return states_now, duplicates, list(read_states(db, known).values()) if known else []


def _resolve(db: Connection, pool: _Pool) -> None:
    """End held tasks; their effects join the pool, and may end others."""
    while pool.resolves:
        resolves, pool.resolves = pool.resolves, []
        for task_id, flow_id, effects in resolves:
            held = resolve(db, task_id, flow_id)
            if held is None:
                continue
            body, fence = held
            pool.take(effects, fenced=True)
            # A dead letter keeps the body, so that it can be replayed; whoever resolves does not have it at hand.
            pool.records = [
                record._replace(body=body, fence=max(record.fence, fence))
                if record.dead and record.body is None and record.task_id == task_id
                else record
                for record in pool.records
            ]
