"""What observers are told of flows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tq.model.entity import Entity
from tq.model.plan import Join

__all__ = [
    "FlowAborted",
    "FlowCancelled",
    "FlowCompleted",
    "FlowContext",
    "FlowStarted",
    "FlowTimedOut",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowContext:
    """Which flow (FLC-05)."""

    flow_id: str
    total_steps: int
    join: Join
    failure_policy: str
    """The policy in words: `continue`, `abort`, `tolerate=2`, `quorum=3`."""
    entity: Entity | None = None
    worker_id: str = ""
    """Who tells."""
    consumer_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowStarted(FlowContext):
    """A flow was started (FLC-01)."""

    started_at: datetime
    step_types: tuple[str, ...]
    """In order of the steps, duplicates kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowCompleted(FlowContext):
    """Every member has ended, or enough have succeeded (FLC-02)."""

    duration: float
    steps_succeeded: int
    steps_failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowAborted(FlowContext):
    """Too many members failed (FLC-03)."""

    duration: float
    steps_completed: int
    """Members that had ended, the one that aborted the flow included."""
    trigger_step_index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowTimedOut(FlowContext):
    """The deadline passed first (FLC-04)."""

    duration: float
    steps_completed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowCancelled(FlowContext):
    """Somebody cancelled the flow."""

    duration: float
    steps_completed: int
    reason: str
