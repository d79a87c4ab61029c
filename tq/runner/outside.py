"""What executors' actions need of the worker around them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

from tq.model import FlowStep, Join, Member, Message, Task

__all__ = ["Outside"]


class Outside(Protocol):
    """What actions need of the worker around them."""

    def child(self, task: Task[Any], parent: Task[Any], occurrences: dict[bytes, int], *, inherit: bool) -> Message:
        """Check a child and return its message, its id derived from the parent; it may `inherit` the log context."""
        ...

    def member(self, step: FlowStep) -> Member:
        """Check a step and return it with its payload encoded."""
        ...

    def check_join(self, join: Join) -> None:
        """Refuse a join that no queue takes."""
        ...

    def flow_results(self, task: Task[Any]) -> AsyncIterator[Mapping[str, Any]]:
        """Stream the entries of the flow that `task` joins."""
        ...

    @property
    def worker_id(self) -> str: ...
