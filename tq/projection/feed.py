"""Delivers rows from the outbox to a user's own provider, in order, until it accepts them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from tq.clock import Clock, seconds
from tq.codec import decode_projection
from tq.errors import BackendError, ContentRefusedError, WireError
from tq.lifecycle import Service
from tq.model import Outgoing, Projection
from tq.ports import EntityProjectionProvider, TaskStore

__all__ = ["TOPIC", "Feed"]

log = logging.getLogger("tq")

TOPIC = "projection"
BATCH = 500


class Feed(Service):
    """At least once, in order: a row is removed from the outbox when the provider has accepted it.

    Trouble with the provider stays here. It is asked again, ever later, up to `longest_wait`; the rows wait, in their
    order, and nothing else does (ENT-09). Several feeds may drain one outbox: rows then come twice, and a version
    tells the provider which of two is newer.
    """

    def __init__(
        self,
        store: TaskStore,
        provider: EntityProjectionProvider,
        clock: Clock,
        *,
        interval: float = 1.0,
        longest_wait: float = 60.0,
        call_timeout: float = 30.0,
    ) -> None:
        super().__init__()
        self._store = store
        self._provider = provider
        self._clock = clock
        self._interval = seconds("interval", interval, zero=False)
        self._longest_wait = seconds("longest_wait", longest_wait, zero=False)
        self._call_timeout = seconds("call_timeout", call_timeout, zero=False)
        self._woken = asyncio.Event()
        self.failures = 0
        """Failed calls in a row: how long the provider has been refusing."""

    def wake(self) -> None:
        """Say that there is something to deliver, so that it need not be found by looking."""
        self._woken.set()

    async def stop(self) -> None:
        self._woken.set()
        await super().stop()

    async def drain(self) -> int:
        """Deliver until the outbox is empty or the provider fails; return how many rows were accepted."""
        delivered = 0
        while not self._stopping.is_set():
            notes = await self._store.outgoing(TOPIC, BATCH)
            if not notes:
                break
            accepted = await self._deliver(notes)
            delivered += accepted
            if accepted < len(notes):
                break
        return delivered

    async def _main(self) -> None:
        while not self._stopping.is_set():
            self._woken.clear()
            try:
                await self.drain()
            except BackendError as error:
                self.failures += 1
                log.warning("the outbox of projections cannot be read and is tried again: %s", error)
            await self._pause()

    async def _pause(self) -> None:
        """Wait for news; after a failure for longer, and then news do not shorten the wait."""
        wait = min(self._interval * 2 ** min(self.failures, 30), self._longest_wait)
        event = self._stopping if self.failures else self._woken
        try:
            async with self._clock.timeout(wait):
                await event.wait()
        except TimeoutError:
            pass

    async def _deliver(self, notes: Sequence[Outgoing]) -> int:
        """Hand over the oldest notes; return how many are done with, from the first on."""
        rows: list[Projection] = []
        for note in notes:
            try:
                rows.append(decode_projection(note.body))
            except (WireError, LookupError, TypeError, ValueError):
                log.exception("the note %s in the outbox is no projection row and is dropped", note.id)
        try:
            if rows:
                await self._call(rows)
        except ContentRefusedError as error:
            return await self._one_by_one(notes, error)
        except Exception as error:  # noqa: BLE001 -- whatever a user's provider raises: it must disturb nobody
            self._failed(error, len(rows))
            return 0
        self.failures = 0
        await self._store.sent(notes)
        return len(notes)

    async def _one_by_one(self, notes: Sequence[Outgoing], error: ContentRefusedError) -> int:
        """Find the row that the provider refuses for its content; drop that one, it would be refused for ever."""
        if len(notes) == 1:
            log.error("a projection row is refused for its content and dropped: %s: %s", notes[0].id, error)
            await self._store.sent(notes)
            return 1
        done = 0
        for note in notes:
            accepted = await self._deliver([note])
            if not accepted:
                break
            done += accepted
        return done

    async def _call(self, rows: Sequence[Projection]) -> None:
        async with self._clock.timeout(self._call_timeout):
            await self._provider.upsert_projections(rows)

    def _failed(self, error: Exception, rows: int) -> None:
        self.failures += 1
        if self.failures & (self.failures - 1) == 0:  # the 1st, 2nd, 4th, 8th … time: an outage is not a flood of lines
            log.error("%d projection rows were not accepted, and wait: %r", rows, error, exc_info=error)
