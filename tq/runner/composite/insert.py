"""Which custodian takes a new message, and whether it is new."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tq.clock import Clock
from tq.codec import is_made
from tq.ids import is_join
from tq.model import Message, Place
from tq.ports import MessageQueue, TaskStore

from .ledger import Ledger
from .work import key_of

__all__ = ["Entry", "Inserter"]

WARY = 600.0
"""Seconds after a failed commit for which any message may have been added by it."""


class Entry(NamedTuple):
    """A message to be added."""

    message: Message
    at: float
    """Instant of the decision that brought it."""
    again: bool
    """Whether that decision may have been carried out before."""


class Inserter:
    """Gives what is due soon to the queue, the rest to the store; what is live, recorded or has run is left out.

    Joins are always rows of the store. One may be written by several, and by one of them late, after it has ended and
    its flow was opened again: what the store hands out under a derived id is looked up before it runs (`claim`).

    No transaction sees both custodians. An id is looked for in the order in which custody moves, queue, store, record,
    so that it is found wherever it goes meanwhile. An id made for one task alone, which nobody adds a second time, is
    not looked for at all, unless a commit has failed lately: its repetition brings the same ids.
    """

    def __init__(self, queue: MessageQueue, store: TaskStore, ledger: Ledger, clock: Clock, near: float) -> None:
        self._queue = queue
        self._store = store
        self._ledger = ledger
        self._clock = clock
        self._near = near
        self._wary_until = 0.0

    def beware(self) -> None:
        """A commit has failed: it is not known what it did."""
        self._wary_until = self._clock.monotonic() + WARY

    def place(self, message: Message, at: float) -> Place:
        """Return who takes a message, by the instant at which it was decided on: never by when it is carried out."""
        if _is_forced(message) or is_join(message.id):
            return Place.STORE
        delay = message.run_at - at
        if delay <= 0 or (self._queue.guarantees.delays and delay <= self._near):
            return Place.QUEUE
        return Place.STORE

    async def add(self, entries: Sequence[Entry]) -> list[str]:
        """Add what is new; return the ids that were taken."""
        to_queue: list[Message] = []
        to_store: list[Message] = []
        taken = await self._taken(entries)
        seen: set[str] = set()
        duplicates: list[str] = []
        for message, at, _ in entries:
            if message.id in taken or message.id in seen:
                duplicates.append(message.id)
                continue
            seen.add(message.id)
            (to_queue if self.place(message, at) is Place.QUEUE else to_store).append(message)
        if to_store:
            duplicates += await self._store.add(to_store)
        if to_queue:
            duplicates += await self._queue.add(to_queue)
        return duplicates

    async def _taken(self, entries: Sequence[Entry]) -> set[str]:
        wary = self._clock.monotonic() < self._wary_until
        asked = [entry for entry in entries if wary or entry.again or not is_made(entry.message)]
        if not asked:
            return set()
        taken: set[str] = set()
        if self._queue.guarantees.locates:
            to_store = [entry.message.id for entry in asked if self.place(entry.message, entry.at) is Place.STORE]
            taken |= set(await self._queue.locate(to_store)) if to_store else set()
        ids = [entry.message.id for entry in asked]
        taken |= set(await self._store.locate(ids))
        taken |= set(await self._store.records(ids))
        repeated = [key_of(entry.message) for entry in asked if entry.again]
        taken |= {key.task_id for key in await self._ledger.recorded(repeated)}
        return taken


def _is_forced(message: Message) -> bool:
    """Whether its producer wants it in the store, however soon it is due."""
    body = message.body
    return b'"force_store":true' in body and b'"force_store":true' in body.partition(b"\n")[0]
