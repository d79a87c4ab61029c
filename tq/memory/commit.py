"""What one hop writes: endings behind their leases, then everything they bring.

Content was checked before; from here on nothing can fail, so that a batch is written whole or not at all.
"""

from __future__ import annotations

from tq.ids import step_id
from tq.model import (
    NO_EFFECTS,
    Batch,
    Effects,
    Hold,
    Mark,
    Message,
    Rearm,
    Receipt,
    Remove,
    Reopen,
    Resolve,
    Verdict,
)

from .flows import FlowRow, Flows
from .ledger import Ledger
from .messages import Messages
from .projections import ProjectionRows
from .shelf import Row

__all__ = ["Writer"]


class Writer:
    """Writes one batch at one instant."""

    def __init__(
        self, messages: Messages, ledger: Ledger, flows: Flows, projections: ProjectionRows, now: float
    ) -> None:
        self._messages = messages
        self._ledger = ledger
        self._flows = flows
        self._projections = projections
        self._now = now
        self._marks: list[tuple[Mark, bool]] = []
        self._verdicts: list[tuple[str, Verdict, str]] = []
        self.refused: list[Receipt] = []
        self.closed: list[FlowRow] = []
        self.duplicates: list[str] = []
        self.known: list[FlowRow] = []

    def write(self, batch: Batch) -> None:
        """Write it; a settlement whose lease was lost leaves no trace but its receipt."""
        messages, now = self._messages, self._now
        for receipt in batch.solo:
            row = messages.held(receipt)
            if row is None:
                self.refused.append(receipt)
            else:
                row.solo = True
        rows, remove = messages.rows, messages.remove
        for receipt, ending, effects, _, _ in batch.settlements:
            task_id, token = receipt
            row = rows.get(task_id)
            if row is None or row.token != token or not token:
                self.refused.append(receipt)
                continue
            if isinstance(ending, Remove):
                remove(row, now)
            else:
                self._give_back(row, ending)
            if effects is not NO_EFFECTS:
                self._effects(effects, fenced=True)
        for effects in batch.effects:
            self._effects(effects, fenced=False)
        if self._marks:
            self.closed += self._flows.mark_all(self._marks, now)
        # After every mark: a step that arrives with the deadline counts (D-44).
        for flow_id, verdict, reason in self._verdicts:
            if self._flows.mark_aborted(flow_id, verdict, reason, now):
                self.closed.append(self._flows.rows[flow_id])
        for closed in self.closed:
            self._release_join(closed)

    def _give_back(self, row: Row, ending: Rearm | Hold) -> None:
        if isinstance(ending, Rearm):
            self._messages.rearm(row, ending, self._now)
        else:
            self._messages.hold(row, ending.flow_id)

    def _effects(self, effects: Effects, *, fenced: bool) -> None:
        now = self._now
        known = [flow.id for flow in effects.flows if flow.id in self._flows.rows]
        if known:
            self.known += [self._flows.rows[flow_id] for flow_id in known]
            effects = effects.without_flows(known)
        for flow in effects.flows:
            row, closed = self._flows.init(flow, now)
            if closed:
                self.closed.append(row)
        for reopen in effects.reopens:
            self._reopen(reopen)
        for message in effects.messages:
            if not self._insert(message):
                self.duplicates.append(message.id)
        for record in effects.records:
            self._ledger.record(record)
        if effects.marks:
            self._marks += [(mark, fenced) for mark in effects.marks]
        self._verdicts += effects.verdicts
        for flow_id, generation in effects.confirms:
            self._flows.confirm(flow_id, generation)
        if effects.projections:
            self._projections.upsert(effects.projections)
        for chunk in effects.chunks:
            self._ledger.put_chunk(chunk)
        for flow_id, number in effects.spreads:
            self._flows.advance(flow_id, number, None)
        for note in effects.outgoing:
            self._ledger.put_note(note)
        for resolve in effects.resolves:
            self._resolve(resolve)

    def _insert(self, message: Message) -> bool:
        if message.id in self._messages.rows or message.id in self._ledger.records:
            return False
        self._messages.insert(message, self._now)
        return True

    def _reopen(self, reopen: Reopen) -> None:
        """Open the next generation of a flow and revive the members that it misses."""
        reopened = self._flows.reopen(reopen, self._now)
        if reopened is None:
            return
        missing, closed = reopened
        for index in missing:
            task_id = step_id(reopen.flow_id, index)
            if task_id not in self._messages.rows:
                message = self._ledger.revive(task_id, reopen.at, reopen.stats)
                if message is not None:
                    self._messages.insert(message, self._now)
        if closed:
            self.closed.append(self._flows.rows[reopen.flow_id])

    def _resolve(self, resolve: Resolve) -> None:
        """End a held task: its being held is the fence."""
        row = self._messages.held_by(resolve.task_id, resolve.flow_id)
        if row is None:
            return
        effects, message = resolve.effects, row.message
        self._messages.remove(row, self._now)
        for record in effects.records:
            if record.task_id == message.id and record.dead and record.body is None:
                # Who ended it did not have its body; without one a dead letter could not be replayed.
                self._ledger.record(record._replace(body=message.body, fence=max(record.fence, row.fence)))
        self._effects(effects, fenced=True)

    def _release_join(self, row: FlowRow) -> None:
        """Let the join run. Nobody sees the verdict without it: it is on its way for good."""
        self._insert(row.flow.join._replace(run_at=self._now))
        row.confirmed = True
