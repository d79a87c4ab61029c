"""What a continuation is shown: a task, how this execution of it ended, and what was started in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tq.model.effects import Record
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
        self, task: Task[Any], outcome: Outcome, now: float, *, stats: bytes = b"", body: bytes | None = None
    ) -> Record | None:
        """Return the record of this final outcome, or None when nothing is to be kept.

        A member of a flow is recorded on failure whatever the options say: a redrive needs its body.
        """
        if isinstance(outcome, Succeeded):
            if not self.on_success and not (self.result_ttl and outcome.result is not None):
                return None
            record = self._record(task, TaskStatus.EXECUTED, now, self.result_ttl or RESULT_TTL, stats)
            return record._replace(result=outcome.result)
        if isinstance(outcome, Failed):
            if not self.on_failure and not (task.flow_meta and not task.flow_meta.get("is_join")):
                return None
            dead = outcome.status is not TaskStatus.CANCELLED
            record = self._record(task, outcome.status, now, self.dead_ttl, stats)
            return record._replace(dead=dead, error=outcome.error, body=body)
        return None

    @staticmethod
    def _record(task: Task[Any], status: TaskStatus, now: float, ttl: float, stats: bytes) -> Record:
        return Record(
            task.id,
            task.queue_id,
            task.type,
            status,
            now,
            now + ttl,
            task.generation,
            task.attempt,
            task.fence,
            stats=stats,
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
