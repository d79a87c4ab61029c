"""What the backend says of leases: some are lost, and some tasks were cancelled. Their bodies are told to end."""

from __future__ import annotations

from collections.abc import Callable

from tq.model import Receipt, Renewal
from tq.runner.endings import Endings
from tq.runner.execution import Execution, Interruption

__all__ = ["Revoker"]


class Revoker:
    """Finds what runs under a lease, if it still does, and interrupts it."""

    def __init__(self, endings: Endings, interrupt: Callable[[Execution, Interruption], None]) -> None:
        self._endings = endings
        self._interrupt = interrupt

    def renewed(self, renewal: Renewal) -> None:
        """Leases were renewed, but for those that the answer names."""
        for receipt in renewal.lost:
            execution = self._endings.held.get(receipt.id)
            if execution is not None and execution.delivery.token == receipt.token and not execution.settled:
                if execution.moving:
                    continue  # the new lease is not known here yet
                self._interrupt(execution, Interruption.LOST)
        for receipt in renewal.cancelled:
            self.cancelled(receipt)

    def cancelled(self, receipt: Receipt) -> None:
        """Somebody cancelled this task."""
        execution = self._endings.held.get(receipt.id)
        if execution is None or execution.settled or execution.delivery.token != receipt.token:
            return
        if execution.interrupted is None:
            self._interrupt(execution, Interruption.CANCEL)
