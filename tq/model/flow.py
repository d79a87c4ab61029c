"""Flows as values: what a barrier stores, how a verdict follows from marks, what a join is told.

active ──last mark, quorum, too many failures, deadline, cancel──▶ closed(verdict) ──confirm_join──▶ confirmed
  ▲                                                                                                   │
  └──────────────────────────── redrive: generation + 1, members that did not succeed ◀───────────────┘
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from tq.model.message import Message
from tq.model.status import StepStatus, Verdict

__all__ = ["Flow", "FlowState", "Mark", "Reopen", "StepResult", "decide"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """What `init_barrier` stores; everything a verdict needs, and the join it will release."""

    id: str
    total: int
    """Number of members; their indexes are 0 … total - 1."""
    allowed: int
    """Failures allowed: one more aborts."""
    needed: int
    """Successes needed: as many complete the flow, whatever is still open."""
    join: Message
    """Held until the verdict, then released; its `run_at` is set to the instant of the verdict."""
    started_at: float
    generation: int = 0
    deadline: float | None = None
    cancel_siblings: bool = False
    """Whether members still open at the verdict are cancelled."""
    parent: str = ""
    """Id of the held task that ends when this flow ends, or empty."""
    chunks: int = 0
    """Chunks of its plan that are still to be spread into messages; 0 when the members were written along with it."""
    plan: str = ""
    """Key of those chunks."""
    meta: bytes = b""
    """JSON for events, projections and explaining; no barrier reads it."""


class Mark(NamedTuple):
    """A member's ending, to be recorded once.

    A mark of an older generation than the flow's counts only when it is a success: that work is done, whereas an old
    failure is what the redrive is there to mend. A commit that holds the member's lease counts in any generation.
    """

    flow_id: str
    index: int  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleMethodOverride] -- tuple.index is not wanted here
    status: StepStatus
    generation: int = 0
    result: bytes | None = None
    error: str | None = None


class StepResult(NamedTuple):
    """A recorded member: `result` is JSON."""

    index: int  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleMethodOverride] -- tuple.index is not wanted here
    status: StepStatus
    result: bytes | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowState:
    """A flow and how far it is."""

    flow: Flow
    remaining: int
    succeeded: int = 0
    failed: int = 0
    """Members recorded as failed or cancelled."""
    verdict: Verdict | None = None
    reason: str = ""
    trigger: int = -1
    """Index of the member whose failure aborted the flow, or -1."""
    closed_at: float | None = None
    opened_at: float = 0.0
    """Start of this generation."""
    confirmed: bool = False
    """Whether the join is known to be on its way."""
    spread: int = 0
    """Chunks of the plan that have become messages."""
    tidied: bool = False
    """Whether nothing is left to do after the verdict (siblings cancelled)."""

    @property
    def id(self) -> str:
        return self.flow.id

    @property
    def answer(self) -> int:
        """What `batch_decrement_and_check` tells: members missing; 0 from the verdict to `confirm_join`; then -1."""
        if self.verdict is None:
            return self.remaining
        return -1 if self.confirmed else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reopen:
    """Opens the next generation of a closed flow: members without success are missing again (redrive)."""

    flow_id: str
    generation: int
    """The generation to open; a flow that is not exactly one behind, or not closed, stays as it is."""
    join: Message
    at: float
    deadline: float | None = None
    stats: bytes = field(default=b"", kw_only=True)
    """Given to the members that are revived."""


def decide(*, remaining: int, succeeded: int, failed: int, allowed: int, needed: int) -> Verdict | None:
    """Return the verdict that these counts give, or None while the flow is open.

    Looked at once per atomic step, after every mark of the step is counted (D-42, F19): failures are weighed first, so
    that a flow which both failed too often and has nobody missing is aborted on every backend alike.
    """
    if failed > allowed:
        return Verdict.ABORTED
    if remaining <= 0 or succeeded >= needed:
        return Verdict.COMPLETED
    return None
