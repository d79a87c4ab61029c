"""What a continuation is shown: a task, how this execution of it ended, and what was started in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tq.model.effects import Record
from tq.model.message import Message
from tq.model.named import make
from tq.model.outcome import Failed, Outcome, Succeeded
from tq.model.plan import FlowRequest
from tq.model.status import TaskStatus
from tq.model.task import Task

__all__ = ["Ended", "Keep"]

RESULT_TTL = 86_400.0
DEAD_LETTER_TTL = 30 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """What of an ending is kept, and for how many seconds."""

    on_failure: bool = True
    """A final failure becomes a dead letter."""
    on_success: bool = False
    """A success is recorded even without a result."""
    result_ttl: float = 0.0
    """Seconds for which a result is kept; 0 for not at all."""
    dead_ttl: float = DEAD_LETTER_TTL

    def record(
        self, message: Message, fence: int, outcome: Outcome, now: float, *, stats: bytes, member: bool = False
    ) -> Record | None:
        """Return the record of this final outcome, or None when nothing is to be kept.

        A `member` of a flow, and its join, are recorded on failure whatever the options say: a redrive needs the body,
        and who waits for the flow is told how it ended.
        """
        result = error = body = None
        dead = False
        if isinstance(outcome, Succeeded):
            kept = self.result_ttl and (
                outcome.result is not None or outcome.dropped
            )  # who asks is told why it is gone
            if not self.on_success and not kept:
                return None
            status, ttl, result = TaskStatus.EXECUTED, self.result_ttl or RESULT_TTL, outcome.result
        elif isinstance(outcome, Failed):
            if not self.on_failure and not member:
                return None
            status, ttl, error, body = outcome.status, self.dead_ttl, outcome.error, message.body or None
            dead = status is not TaskStatus.CANCELLED
        else:
            return None
        id, queue, type, _, _, generation, attempt, _, _, _ = message
        ends = now + ttl
        return make(
            Record, (id, queue, type, status, now, ends, generation, attempt, fence, dead, result, error, stats, body)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """An execution that has ended.

    `final` is False where a retry, a reschedule or a release follows: such an ending is nobody's business but the
    queue's. `task.payload` is undecoded JSON where no executor asked for it.
    """

    task: Task[Any]
    outcome: Outcome
    final: bool
    now: float
    keep: Keep = field(default_factory=Keep)
    flows: tuple[FlowRequest, ...] = ()
    """Flows started in this execution that are to become real with it."""
    body: bytes = b""
    stats: bytes = b""
