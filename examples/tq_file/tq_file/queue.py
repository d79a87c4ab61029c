"""The port: each verb is one reading, or one change, of the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from tq.clock import Clock, SystemClock
from tq.errors import BackendError
from tq.model import Claim, Message, Rearm, Receipt, Renewal, Whereabouts
from tq.ports import Claimed, Guarantees, MessageQueue

from .book import Book
from .file import opened, seen

__all__ = ["FileQueue"]


class FileQueue(MessageQueue):
    """At-least-once, by `run_at`, then by order of adding; for as many messages as one reads in no time.

    Its calls block the event loop while they read and write; a client of a server would be awaited here.
    """

    name = "file"
    guarantees = Guarantees()  # what it can do, as the suite proves it: all there is
    poll_interval = 0.5
    """Seconds after which a worker looks for what other processes add: nothing tells of it."""

    def __init__(self, path: Path, *, clock: Clock | None = None) -> None:
        self.path = path
        self._clock = clock or SystemClock()
        self._closed = False

    def _opened(self) -> AbstractContextManager[Book]:
        self._refuse_if_closed()
        return opened(self.path)

    def _seen(self) -> Book:
        self._refuse_if_closed()
        return seen(self.path)

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise BackendError(f"{self.path} was closed")

    async def add(self, messages: Sequence[Message]) -> list[str]:
        with self._opened() as book:
            return [message.id for message in messages if not book.add(message)]

    async def claim(self, claim: Claim) -> Claimed:
        with self._opened() as book:
            return book.claim(claim, self._clock.now())

    async def ack(self, receipts: Sequence[Receipt]) -> list[Receipt]:
        lost: list[Receipt] = []
        with self._opened() as book:
            for receipt in receipts:
                if book.held(receipt) is None:
                    lost.append(receipt)
                else:
                    del book.rows[receipt.id]
        return lost

    async def rearm(self, rearms: Sequence[tuple[Receipt, Rearm]]) -> list[Receipt]:
        lost: list[Receipt] = []
        with self._opened() as book:
            for receipt, again in rearms:
                if (row := book.held(receipt)) is None:
                    lost.append(receipt)
                else:
                    book.rearm(row, again, self._clock.now())
        return lost

    async def solo(self, receipts: Sequence[Receipt]) -> list[Receipt]:
        lost: list[Receipt] = []
        with self._opened() as book:
            for receipt in receipts:
                if (row := book.held(receipt)) is None:
                    lost.append(receipt)
                else:
                    row.solo = True
        return lost

    async def renew(self, receipts: Sequence[Receipt], lease: float) -> Renewal:
        lost: list[Receipt] = []
        cancelled: list[Receipt] = []
        with self._opened() as book:
            for receipt in receipts:
                if (row := book.held(receipt)) is None:
                    lost.append(receipt)
                    continue
                row.until = self._clock.now() + lease
                if row.cancelled:
                    cancelled.append(receipt)
        return Renewal(tuple(lost), tuple(cancelled))

    async def cancel(self, ids: Sequence[str]) -> list[str]:
        with self._opened() as book:
            return [id for id in dict.fromkeys(ids) if book.cancel(id, self._clock.now())]

    async def locate(self, ids: Sequence[str]) -> dict[str, Whereabouts]:
        book = self._seen()
        return {id: book.whereabouts(book.rows[id]) for id in ids if id in book.rows}

    async def list(self, queue: str | None, after: str, limit: int) -> Sequence[Whereabouts]:
        book = self._seen()
        ids = sorted(id for id, row in book.rows.items() if id > after and queue in {None, row.message.queue})
        return [book.whereabouts(book.rows[id]) for id in ids[:limit]]

    async def counts(self) -> Mapping[str, Mapping[str, int]]:
        return self._seen().counts(self._clock.now())

    async def pause(self, queue: str, paused: bool) -> None:  # noqa: FBT001 -- as the port says it
        with self._opened() as book:
            (book.paused.add if paused else book.paused.discard)(queue)

    async def paused(self) -> Sequence[str]:
        return sorted(self._seen().paused)

    async def announce(self, worker: str, queues: Sequence[str], ttl: float) -> None:
        now = self._clock.now()
        with self._opened() as book:
            book.workers = {name: told for name, told in book.workers.items() if told[0] > now}
            book.workers[worker] = now + ttl, [*queues]

    async def announced(self) -> Sequence[str]:
        return self._seen().announced(self._clock.now())

    async def close(self) -> None:
        """Take no more calls; there is nothing that stays open between two of them."""
        self._closed = True
