"""What the runner needs of whoever cares for long tasks: a place reserved before custody moves (D-20, D-28)."""

from __future__ import annotations

from typing import Protocol

from tq.runner.execution import Execution

__all__ = ["LongRuns", "ReservedPlace"]


class ReservedPlace(Protocol):
    """A place that nobody else can take."""

    def occupy(self) -> None:
        """Custody has moved: track the body from now on."""
        ...

    def release(self) -> None:
        """Give the place back if no body occupies it; may be called twice."""
        ...


class LongRuns(Protocol):
    """Takes running executions off the worker's slots."""

    def reserve(self, execution: Execution) -> ReservedPlace | None:
        """Hold a place for an execution; None where there is none."""
        ...
