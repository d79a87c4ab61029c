"""What an outcome brings, and the batch in which a worker carries it to the backend.

settle ─▶ Settlement(receipt, ending, effects) ─┐
add_tasks, services ─▶ Effects ─────────────────┴─▶ Batch ─▶ Backend.commit(batch, claim) ─▶ Hop
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tq.ids import flow_of
from tq.model.entity import Projection
from tq.model.flow import Flow, FlowState, Mark, Reopen
from tq.model.message import Delivery, Message, Place, Rearm, Receipt
from tq.model.status import TaskStatus, Verdict

__all__ = [
    "NO_EFFECTS",
    "Batch",
    "Chunk",
    "Effects",
    "Ending",
    "Hold",
    "Hop",
    "Outgoing",
    "Record",
    "Remove",
    "Resolve",
    "Settlement",
]


class Record(NamedTuple):
    """How a task ended; one per task, a later generation replaces an earlier one.

    A dead letter is a record with `dead` set: it keeps the body, so that it can be replayed.
    """

    task_id: str
    queue: str
    type: str
    status: TaskStatus
    at: float
    expires_at: float
    """Instant after which retention may drop it."""
    generation: int = 0
    attempt: int = 0
    fence: int = 0
    dead: bool = False
    result: bytes | None = None
    error: str | None = None
    stats: bytes = b""
    body: bytes | None = None


class Chunk(NamedTuple):
    """A part of a wide plan, written before the flow exists; never run unless a flow with this plan key is sealed."""

    plan: str
    number: int
    messages: Sequence[Message]
    """Made when they are asked for, until the chunk is `whole`."""
    at: float

    def whole(self) -> Chunk:
        """Return the chunk with its messages made, as it is written."""
        return self._replace(messages=tuple(self.messages))


class Outgoing(NamedTuple):
    """A durable note to somebody else's system, handed over in order of `seq` until it is confirmed.

    Topics: "projection" (a user's own provider) and "message:<queue>" (another broker). `id` makes repeating harmless.
    """

    topic: str
    id: str
    body: bytes
    seq: int = 0


class Remove(NamedTuple):
    """The message is done with: it leaves its custodian."""


class Hold(NamedTuple):
    """The message stays, is not handed out, and waits for the end of a flow (`success_when`)."""

    flow_id: str


Ending = Remove | Rearm | Hold


class Resolve(NamedTuple):
    """Ends a held task: has no effect at all unless the task is held by this flow."""

    task_id: str
    flow_id: str
    effects: Effects


class Effects(NamedTuple):
    """Everything that is written along with an ending. Each part is keyed, so that writing it twice changes nothing."""

    messages: tuple[Message, ...] = ()
    """Inserted unless a live message, or a kept record, has the id."""
    records: tuple[Record, ...] = ()
    flows: tuple[Flow, ...] = ()
    """Barriers, inserted unless one has the id; then its members among `messages`, too, stay out (`without_flows`)."""
    marks: tuple[Mark, ...] = ()
    confirms: tuple[tuple[str, int], ...] = ()
    """(flow, generation) whose join has begun to be somebody else's: no caller is told "complete" any more."""
    projections: tuple[Projection, ...] = ()
    chunks: tuple[Chunk, ...] = ()
    spreads: tuple[tuple[str, int], ...] = ()
    """(flow, number of chunks that have become messages): only ever raises the number."""
    outgoing: tuple[Outgoing, ...] = ()
    resolves: tuple[Resolve, ...] = ()
    reopens: tuple[Reopen, ...] = ()
    verdicts: tuple[tuple[str, Verdict, str], ...] = ()
    """(flow, verdict, reason): closes an open flow by deadline or cancel, as `mark_aborted` does, and releases its join
    in the same step. Carried out after every mark of the batch, so that steps come before deadlines (D-44)."""

    def __bool__(self) -> bool:
        return self is not NO_EFFECTS and any(self)

    def without_flows(self, known: Collection[str]) -> Effects:
        """Leave out what starts these flows: they were there already, and a second start changes nothing (D-52)."""
        return self._replace(
            flows=tuple([flow for flow in self.flows if flow.id not in known]),
            messages=tuple([message for message in self.messages if flow_of(message.id) not in known]),
            projections=tuple(
                [row for row in self.projections if row.task_id not in known and flow_of(row.task_id) not in known]
            ),
            spreads=tuple([spread for spread in self.spreads if spread[0] not in known]),
        )

    def __add__(self, other: Effects) -> Effects:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride] -- effects are added part by part, not strung together
        if not other:
            return self
        if not self:
            return other
        return Effects._make([mine + theirs for mine, theirs in zip(self, other, strict=True)])


NO_EFFECTS = Effects()


class Settlement(NamedTuple):
    """How one delivery ends. Without its lease it has no effect at all."""

    receipt: Receipt
    ending: Ending
    effects: Effects = NO_EFFECTS
    place: Place = Place.QUEUE
    message: Message | None = None
    """The delivered message: needed where it moves to another custodian (a long retry, a hold)."""


@dataclass(slots=True)
class Batch:
    """What one hop writes."""

    settlements: list[Settlement] = field(default_factory=list[Settlement])
    effects: list[Effects] = field(default_factory=list[Effects])
    """Not fenced: nobody's lease stands behind them."""
    solo: list[Receipt] = field(default_factory=list[Receipt])
    """Deliveries about to run alone: should the lease run out now, it is they who are convicted (design 1.4)."""

    def __bool__(self) -> bool:
        return bool(self.settlements or self.effects or self.solo)


class Hop(NamedTuple):
    """What one hop brought back."""

    deliveries: list[Delivery]
    refused: list[Receipt]
    """Settlements, and deliveries about to run alone, that had lost their lease; they had no effect."""
    closed: list[FlowState]
    """Flows that this hop decided."""
    duplicates: list[str]
    """Ids of messages that were not inserted because the id was taken."""
    next_due: float | None = None
    """When the claim came back short: the instant at which something will fall due (a lease's end included), if any."""
    cancelled: tuple[Receipt, ...] = ()
    """Deliveries of this worker whose cancel was asked for."""
    known: tuple[FlowState, ...] = ()
    """Flows that were to be started and are there already, as they stand: nothing of the second start was written."""
