"""The states of a task, of a flow member and of a flow."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["StepStatus", "TaskStatus", "Verdict"]


class TaskStatus(StrEnum):
    """Where a task stands (MOD-02). The last five are terminal."""

    SCHEDULED = "scheduled"
    PROCESSING = "processing"
    EXECUTED = "executed"
    FAILED = "failed"
    EXPIRED = "expired"
    IGNORED = "ignored"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether the task has ended."""
        return self not in (TaskStatus.SCHEDULED, TaskStatus.PROCESSING)


class StepStatus(StrEnum):
    """How a member of a flow ended; `OPEN` is a member that had not ended when the verdict fell."""

    SUCCESS = "success"
    FAIL = "fail"
    CANCELLED = "cancelled"
    OPEN = "open"


class Verdict(StrEnum):
    """How a flow was decided; stored once and never derived again."""

    COMPLETED = "completed"
    ABORTED = "aborted"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
