"""What the runner needs of whoever cares for long tasks: a place reserved before the move, and word of the end."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from tq.runner.execution import Execution

__all__ = ["LongRuns"]


class LongRuns(Protocol):
    """Takes running executions off the worker's slots."""

    def reserved(self, execution: Execution) -> AbstractContextManager[bool]:
        """Hold a place while custody moves; False when there is none."""
        ...

    def took(self, execution: Execution) -> None:
        """Custody has moved: track it from now on."""
        ...

    def ended(self, execution: Execution) -> None:
        """Its outcome is recorded."""
        ...
