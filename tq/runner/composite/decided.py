"""Tasks whose end is decided, and whose message is still there: found from outside any commit."""

from __future__ import annotations

from collections.abc import Sequence

from tq.model import Remove
from tq.ports import MessageQueue, TaskStore

from .ledger import Ledger
from .work import Work, as_delivery

__all__ = ["Decided"]


class Decided:
    """Finds what is left to do of an end; the acknowledgement is the last step of all, and records are the first."""

    def __init__(self, queue: MessageQueue, store: TaskStore, ledger: Ledger) -> None:
        self._queue = queue
        self._store = store
        self._ledger = ledger

    async def ends(self, ids: Sequence[str]) -> list[Work]:
        """Return what is left to do of these tasks' ends, under the token of whoever had them last.

        Not of retries and waits, which are no ends. A message without a token is about to be handed out, and then
        whoever gets it does the same.
        """
        places = [*(await self._queue.locate(ids)).values(), *(await self._store.locate(ids)).values()]
        handed_out = [as_delivery(place) for place in places if place.token]
        found = await self._ledger.find(handed_out) if handed_out else []
        return [work for _, work in found if isinstance(work.told.ending, Remove)]
