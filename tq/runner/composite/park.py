"""Moves a running delivery into the store's custody: written there first, then acknowledged."""

from __future__ import annotations

from collections.abc import Iterable

from tq.model import Delivery, Place, Receipt
from tq.ports import MessageQueue, TaskStore

from .ledger import Ledger
from .work import Work, key_of

__all__ = ["Parking"]


class Parking:
    """Parks deliveries, and remembers those of which it is not known whether they are parked."""

    def __init__(self, queue: MessageQueue, store: TaskStore, ledger: Ledger) -> None:
        self._queue = queue
        self._store = store
        self._ledger = ledger
        self._unsure: dict[Receipt, Receipt] = {}
        """Of deliveries whose parking failed half-way: their receipt → that of the row which may be there."""

    def is_unsure(self, receipt: Receipt) -> bool:
        """Whether the delivery may have a row besides its message: then its outcome must be recorded for that row."""
        return receipt in self._unsure

    async def park(self, delivery: Delivery, token: str, lease: float) -> Delivery | None:
        """Return the delivery as the store's, or None where its lease was lost or the id is the store's already."""
        receipt, message = delivery.receipt, delivery.message
        if delivery.place is Place.STORE:  # it is where it is to be
            return None if (await self._store.renew([receipt], lease)).lost else delivery
        row = self._unsure.get(receipt, Receipt(message.id, token))
        if not (await self._queue.renew([receipt], lease)).lost:
            self._unsure[receipt] = row
            written = await self._store.park(message._replace(fence=delivery.fence - 1), row.token, lease)
            if not written and (await self._store.renew([row], lease)).lost:
                del self._unsure[receipt]
                return None
            # Should this fail and yet take effect, the row alone is left; asked again, it is found.
            gone = bool(await self._queue.ack([receipt]))
        elif (await self._store.renew([row], lease)).lost:
            self._unsure.pop(receipt, None)
            return None
        else:
            gone = True
        self._unsure.pop(receipt, None)
        if gone and await self._ledger.recorded([key_of(message)]):  # another worker had it, and has ended it
            await self._store.ack([row])
            return None
        # Gone all the same, it was acknowledged by a call that was not answered, or by whoever found the row; or it
        # runs a second time. The row must stay, and the outcome that is recorded first counts for all.
        return delivery._replace(token=row.token, place=Place.STORE)

    async def clear(self, works: Iterable[Work]) -> None:
        """Remove the rows of ended deliveries that may be there."""
        rows = [
            self._unsure.pop(work.receipt)
            for work in works
            if work.receipt is not None and work.receipt in self._unsure
        ]
        if rows:
            await self._store.ack(rows)
