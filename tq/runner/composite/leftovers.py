"""Outcomes that were carried out by somebody who died before he could note it: nobody else knows their names."""

from __future__ import annotations

from collections.abc import Sequence

from tq.ports import Backend, OutcomeKey

from .ledger import execution_of

__all__ = ["Leftovers"]

PAGE = 500
SETTLED = 600.0
"""Seconds after which no commit is still on its way that could note its outcome as carried out by itself."""


class Leftovers:
    """Notes as carried out what was carried out by somebody who died before the note.

    The acknowledgement comes after everything else. So where the message of an execution is gone, or asks for a later
    one, nothing of its outcome is left to do; where it is there, it comes again, and the outcome is carried out then.
    A queue that does not tell what it holds is taken to hold it for as long as outcomes are remembered.
    """

    def __init__(self, backend: Backend, remember: float) -> None:
        self._queue = backend.queue
        self._store = backend.store
        self._age = SETTLED if self._queue.guarantees.locates else remember
        self._after: OutcomeKey | None = None

    async def look(self, now: float) -> bool:
        """Look over the next page; True when there is more."""
        page = await self._store.uncarried(self._after, PAGE)
        more = len(page) >= PAGE
        self._after = page[-1].key if more else None
        old = [stored.key for stored in page if stored.at <= now - self._age]
        if old:
            there = await self._there(list(dict.fromkeys(key.task_id for key in old)))
            gone = [key for key in old if execution_of(key) not in there]
            if gone:
                await self._store.carried(gone)
        return more

    async def _there(self, ids: Sequence[str]) -> set[OutcomeKey]:
        """Return the executions that messages ask for; asked first of the queue, because custody moves to the store."""
        found = [*(await self._queue.locate(ids)).values(), *(await self._store.locate(ids)).values()]
        return {OutcomeKey(place.id, place.generation, place.attempt) for place in found}
