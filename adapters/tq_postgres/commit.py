"""One hop as one statement: endings behind their leases, everything they bring, then the claim.

The statement expects that all of it can be carried out. Where a lease was lost, a flow is there already, or a task is
not held, it does nothing and names the place; that part is left out, and the rest is tried again. None of these three
comes back, so that this ends; and nearly always the first trial is the only one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from tq.errors import BackendError
from tq.model import (
    Batch,
    Chunk,
    Claim,
    Effects,
    Hop,
    Mark,
    Message,
    Place,
    Reopen,
)
from tq.ports import Claimed

from . import shapes
from .connection import Row
from .errors import expectation
from .statement import Statement
from .trial import Trial

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
    trial = Trial(batch)
    while True:
        try:
            return await _try(runner, trial, claim)
        except BackendError as error:
            unmet = expectation(error)
            if unmet is None:
                raise
            trial.leave_out(*unmet)


async def _try(runner: Runner, trial: Trial, claim: Claim | None) -> Hop:
    statement = Statement()
    _settle(statement, trial)
    messages = _bring(statement, trial) if trial.fenced or trial.free else []
    if claim is not None:
        statement.rows("claim", *claim_args(claim))
    elif not statement.args:
        return Hop([], trial.lost, [], [])
    found = await runner.run(statement, wakes=bool(trial.fenced or trial.free or trial.rearms))
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


def _settle(statement: Statement, trial: Trial) -> None:
    if trial.solo:
        statement.call("solo", *shapes.columns(trial.solo, 2), expect="solo")
    if trial.removes:
        statement.call("remove", *shapes.columns(trial.removes, 2), expect="remove")
    if trial.rearms:
        statement.call("rearm", *shapes.columns([(*receipt, *it) for receipt, it in trial.rearms], 6), expect="rearm")
    if trial.holds:
        statement.call("hold", *shapes.columns([(*receipt, *it) for receipt, it in trial.holds], 3), expect="hold")


def _bring(statement: Statement, trial: Trial) -> list[Message]:
    """Add what the endings bring, in the order that RFC 006 gives; return the messages among it."""
    effects = trial.effects
    closed: list[str] = []
    if records := [record for it in effects for record in it.records]:
        statement.call("record", *shapes.record_columns(records))
    if trial.resolves:  # after the records, to which it gives the bodies
        statement.call("resolve", *shapes.columns([it[:2] for it in trial.resolves], 2), expect="resolve")
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
