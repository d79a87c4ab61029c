"""Remembers of deliveries what their settlement does not tell: that they were handed out before."""

from __future__ import annotations

from collections import OrderedDict

from tq.model import Delivery, Receipt

__all__ = ["HandedOut"]

REMEMBERED = 100_000


class HandedOut:
    """Fences of those deliveries of this process that were not handed out for the first time.

    What is forgotten, or was handed out by another process, counts as handed out once.
    """

    def __init__(self) -> None:
        self._fences: OrderedDict[Receipt, int] = OrderedDict()

    def note(self, delivery: Delivery) -> None:
        """Remember a delivery, if it is one of them."""
        if delivery.fence > delivery.message.fence + 1:
            self._put(delivery.receipt, delivery.fence)

    def note_parked(self, delivery: Delivery) -> None:
        """Remember a delivery that two custodians had: its message may come again from the first."""
        self._put(delivery.receipt, max(delivery.fence, 2))

    def _put(self, receipt: Receipt, fence: int) -> None:
        self._fences[receipt] = fence
        while len(self._fences) > REMEMBERED:  # those that lost their lease are never settled here
            self._fences.popitem(last=False)

    def fence(self, receipt: Receipt) -> int | None:
        """Return how often it was handed out, or None where nothing is remembered."""
        return self._fences.get(receipt)

    def forget(self, receipt: Receipt) -> None:
        """It is settled."""
        self._fences.pop(receipt, None)
