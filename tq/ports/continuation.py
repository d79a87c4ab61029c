"""What comes after a task."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

from tq.model import NO_EFFECTS, Effects, Ended, FlowState, Message, Task

__all__ = ["Attachment", "Continuation"]


class Continuation(Protocol):
    """Sees how a task ended and says what that brings; writes nothing (FLOW-29)."""

    @abstractmethod
    def begin(self, task: Task[Any], now: float) -> Effects:
        """Return what is written before the body runs. Pure; called for tasks that carry a flow or an entity."""

    def added(self, messages: Sequence[Message], now: float) -> Effects:
        """Return what is written along with tasks that an execution adds. Pure."""
        return NO_EFFECTS

    def decided(self, states: Sequence[FlowState], now: float) -> Effects:
        """Return what is written when flows were decided, before their joins run. Pure."""
        return NO_EFFECTS

    @abstractmethod
    def follow(self, ended: Ended) -> Effects:
        """Return the effects of this ending. Pure; called for tasks that carry a flow or an entity, or start flows."""


class Attachment(Protocol):
    """Gives a task what it is owed before it runs: the results of the flow that it joins."""

    @abstractmethod
    async def attach(self, task: Task[Any]) -> object:
        """Return the payload to run the task with, of plain JSON values.

        Raises:
            BackendUnavailableError: the task is given back and comes again.
        """
