"""One hop as one statement: endings behind their leases, everything they bring, then the claim.

The statement expects that all of it can be carried out. Where a lease was lost, a flow is there already, or a task is
not held, it does nothing and names the place; that part is left out, and the rest is tried again. None of these three
comes back, so that this ends; and nearly always the first trial is the only one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from tq.errors import BackendError
from tq.model import (
    NO_EFFECTS,
    Batch,
    Chunk,
    Claim,
    Effects,
    Hold,
    Hop,
    Mark,
    Message,
    Place,
    Rearm,
    Receipt,
    Remove,
    Reopen,
    Resolve,
    Settlement,
)
from tq.ports import Claimed

from . import shapes
from .connection import Row
from .errors import expectation
from .statement import Statement

__all__ = ["chunk_columns", "claim_args", "commit", "reopen_args"]


class Runner(Protocol):
    """Runs a statement as one transaction, or inside one of the user's."""

    async def run(self, statement: Statement, *, wakes: bool = False) -> list[Row]:
        """Return its rows; where it fails it has done nothing."""
        ...


async def commit(runner: Runner, batch: Batch, claim: Claim | None) -> Hop:
    """Write a batch, then claim.

    Raises:
        BackendError: and its branches; nothing of the batch was written, unless the answer was lost.
    """
    trial = _Trial(batch)
    while True:
        try:
            return await _try(runner, trial, claim)
        except BackendError as error:
            unmet = expectation(error)
            if unmet is None:
                raise
            trial.leave_out(*unmet)


class _Endings(NamedTuple):
    """Settlements, by kind."""

    remove: list[Receipt]
    rearm: list[tuple[Receipt, Rearm]]
    hold: list[tuple[Receipt, Hold]]


@dataclass(slots=True)
class _Trial:
    """What is left of a batch that is tried."""

    batch: Batch
    lost: list[Receipt] = field(default_factory=list[Receipt])
    known: list[str] = field(default_factory=list[str])
    """Flows that are there already: nothing of a second start is written, for its members may have run."""
    unheld: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    settlements: Sequence[Settlement] = ()
    solo: Sequence[Receipt] = ()
    endings: _Endings = field(default_factory=lambda: _Endings([], [], []))
    resolves: list[Resolve] = field(default_factory=list[Resolve])
    fenced: list[Effects] = field(default_factory=list[Effects])
    """Effects behind which a lease, or a hold, stands."""
    free: list[Effects] = field(default_factory=list[Effects])

    def __post_init__(self) -> None:
        first: dict[Receipt, Settlement] = {}
        for settlement in self.batch.settlements:
            if first.setdefault(settlement[0], settlement) is not settlement:
                self.lost.append(settlement[0])  # whoever settles a delivery a second time has lost it
        self.settlements = list(first.values())
        self.solo = list(dict.fromkeys(self.batch.solo))
        self._sort()

    def leave_out(self, what: str, places: Sequence[int]) -> None:
        """Leave out what the server has named."""
        if what == "resolve":
            self.unheld.update((it.task_id, it.flow_id) for it in shapes.named(places, self.resolves))
        elif what == "flows":
            self.known += [flow.id for flow in shapes.named(places, [flow for it in self.effects for flow in it.flows])]
        elif what == "solo":
            lost = shapes.named(places, self.solo)
            self.lost += lost
            self.solo = [receipt for receipt in self.solo if receipt not in lost]
        else:
            named = shapes.named(places, getattr(self.endings, what))
            lost = named if what == "remove" else [receipt for receipt, _ in named]
            self.lost += lost
            gone = set(lost)
            self.settlements = [it for it in self.settlements if it.receipt not in gone]
        self._sort()

    @property
    def effects(self) -> list[Effects]:
        return self.fenced + self.free

    def _sort(self) -> None:
        # By id: two hops that settle the same deliveries wait for each other.
        settlements = sorted(self.settlements, key=_receipt)
        self.endings = _Endings([], [], [])
        for receipt, ending, _, _, _ in settlements:
            if isinstance(ending, Remove):
                self.endings.remove.append(receipt)
            elif isinstance(ending, Rearm):
                self.endings.rearm.append((receipt, ending))
            else:
                self.endings.hold.append((receipt, ending))
        self.fenced = [it.effects for it in self.settlements if it.effects is not NO_EFFECTS]
        self.free = [*self.batch.effects]
        self._unfold_resolves()
        if self.known:
            self.fenced = [it.without_flows(self.known) for it in self.fenced]
            self.free = [it.without_flows(self.known) for it in self.free]

    def _unfold_resolves(self) -> None:
        """Gather the ends of held tasks, and what they bring: that may end others."""
        found: dict[tuple[str, str], Resolve] = {}
        todo = [resolve for it in self.effects for resolve in it.resolves]
        while todo:
            more: list[Resolve] = []
            for resolve in todo:
                key = (resolve.task_id, resolve.flow_id)
                if key not in found and key not in self.unheld:
                    found[key] = resolve
                    self.fenced.append(resolve.effects)
                    more += resolve.effects.resolves
            todo = more
        self.resolves = sorted(found.values(), key=_held)


def _receipt(settlement: Settlement) -> Receipt:
    return settlement[0]


def _held(resolve: Resolve) -> tuple[str, str]:
    return resolve.task_id, resolve.flow_id


async def _try(runner: Runner, trial: _Trial, claim: Claim | None) -> Hop:
    statement = Statement()
    _settle(statement, trial)
    messages = _bring(statement, trial) if trial.fenced or trial.free else []
    if claim is not None:
        statement.rows("claim", *claim_args(claim))
    elif not statement.args:
        return Hop([], trial.lost, [], [])
    found = await runner.run(statement, wakes=bool(trial.fenced or trial.free or trial.endings.rearm))
    first = found[0]
    claimed = Claimed([]) if claim is None else shapes.claimed(found, claim, Place.QUEUE)
    return Hop(
        claimed.deliveries,
        trial.lost,
        [shapes.flow_state(row) for row in first.get("closed") or ()],
        [message.id for message in shapes.named(first.get("duplicates"), messages)],
        claimed.next_due,
        claimed.cancelled,
        tuple([shapes.flow_state(row) for row in first.get("known") or ()]),
    )


def _settle(statement: Statement, trial: _Trial) -> None:
    if trial.solo:
        statement.call("solo", *shapes.columns(trial.solo, 2), expect="solo")
    if removes := trial.endings.remove:
        statement.call("remove", *shapes.columns(removes, 2), expect="remove")
    if rearms := trial.endings.rearm:
        statement.call("rearm", *shapes.columns([(*receipt, *it) for receipt, it in rearms], 6), expect="rearm")
    if holds := trial.endings.hold:
        statement.call("hold", *shapes.columns([(*receipt, *it) for receipt, it in holds], 3), expect="hold")


def _bring(statement: Statement, trial: _Trial) -> list[Message]:
    """Add what the endings bring, in the order that RFC 006 gives; return the messages among it."""
    effects = trial.effects
    closed: list[str] = []
    if records := [record for it in effects for record in it.records]:
        statement.call("record", *shapes.record_columns(records))
    if trial.resolves:  # after the records, to which it gives the bodies
        statement.call("resolve", *shapes.columns([_held(it) for it in trial.resolves], 2), expect="resolve")
    if flows := [flow for it in effects for flow in it.flows]:
        closed.append(statement.call("open", *shapes.flow_columns(flows), True))  # noqa: FBT003 -- all of them new
    closed += [statement.call("redrive", *reopen_args(asked), asked.stats) for it in effects for asked in it.reopens]
    if marks := [*_marks(trial.fenced, fenced=True), *_marks(trial.free, fenced=False)]:
        closed.append(statement.call("mark", *shapes.mark_columns(marks)))
    # Steps come before deadlines: what the marks have decided stays decided.
    if verdicts := [(flow, str(verdict), why) for it in effects for flow, verdict, why in it.verdicts]:
        closed.append(statement.call("close", *shapes.columns(verdicts, 3)))
    if confirms := [confirm for it in effects for confirm in it.confirms]:
        statement.call("confirm", *shapes.columns(confirms, 2))
    if spreads := [spread for it in effects for spread in it.spreads]:
        statement.call("spread", *shapes.columns(spreads, 2))
    if messages := [message for it in effects for message in it.messages]:
        statement.call("add", *shapes.message_columns(messages), returns="duplicates")
    if closed:
        statement.step(f"tq_release_joins({' || '.join(closed)})")
        statement.step(f"tq_states({' || '.join(closed)})", returns="closed")
    if chunks := [chunk for it in effects for chunk in it.chunks]:
        statement.call("put_chunks", *chunk_columns(chunks))
    if notes := [note for it in effects for note in it.outgoing]:
        statement.call("note", *shapes.columns([note[:3] for note in notes], 3))
    if projections := [row for it in effects for row in it.projections]:
        statement.call("project", *shapes.projection_columns(projections))
    if trial.known:
        statement.call("states", trial.known, returns="known")
    return messages


def _marks(effects: Iterable[Effects], *, fenced: bool) -> list[tuple[Mark, bool]]:
    return [(mark, fenced) for it in effects for mark in it.marks]


def claim_args(claim: Claim) -> tuple[object, ...]:
    """Return what `claim` takes."""
    caps = shapes.columns([(*kind, cap) for kind, cap in claim.caps.items()], 3)
    return list(dict.fromkeys(claim.queues)), max(claim.limit, 0), claim.token, claim.lease, *caps


def reopen_args(asked: Reopen) -> tuple[object, ...]:
    """Return what `reopen` takes."""
    return asked.flow_id, asked.generation, asked.deadline, asked.at, *asked.join


def chunk_columns(chunks: Sequence[Chunk]) -> list[Sequence[object]]:
    """Return what `put_chunks` takes: parts, then the messages of all of them."""
    parts = shapes.columns([(part.plan, part.number, part.at) for part in chunks], 3)
    messages = [
        (holder, place, *message)
        for holder, part in enumerate(chunks, start=1)
        for place, message in enumerate(part.messages)
    ]
    return [*parts, *shapes.columns(messages, 12)]
