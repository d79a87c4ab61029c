"""What every suite stands on: how a port is opened, opened again, and how long a beat is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from typing import Generic, TypeVar

import pytest

from tq.clock import Clock
from tq.ports import Custody

__all__ = ["Suite"]

P = TypeVar("P")


class Suite(ABC, Generic[P]):
    """A suite of tests for one port; a subclass says how the port is opened."""

    beat: float = 10.0
    """The unit of time, in seconds. A server that keeps its own time needs a short one, and the marker `realtime`."""

    refused: str | None = "\ud800"
    """Text that the server refuses, wherever it stands; None for a server that takes everything."""

    @property
    def long(self) -> float:
        """A lease that does not end while a test runs, however slow the machine is."""
        return 100 * self.beat

    @abstractmethod
    def open(self, clock: Clock) -> AbstractAsyncContextManager[P]:
        """Open the port over data of its own: empty, and nobody else's."""

    def reopen(self, port: P, clock: Clock) -> AbstractAsyncContextManager[P] | None:
        """Open the same data once more, beside `port`, as another process would; None where nothing outlives it.

        It is also called after `port` was closed: what was written must then be there.
        """
        return None

    def again(self, port: P, clock: Clock) -> AbstractAsyncContextManager[P]:
        """Open the same data once more, or skip the test."""
        reopened = self.reopen(port, clock)
        if reopened is None:
            pytest.skip("nothing outlives this port")
        return reopened

    def needs(self, port: Custody, guarantee: str) -> None:
        """Skip what a custodian declares that it cannot do; `Limits` proves that it cannot."""
        if not getattr(port.guarantees, guarantee):
            pytest.skip(f"{port.name} does not declare {guarantee}")

    def bad_text(self) -> str:
        """Return text that the server refuses, or skip the test."""
        if self.refused is None:
            pytest.skip("this server refuses no text")
        return self.refused
