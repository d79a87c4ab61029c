"""Hears, on a connection of its own, that something may have fallen due: a hint, and never more than that."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from contextlib import suppress

from tq.clock import Clock
from tq.errors import TqError
from tq.lifecycle import Spawner

from .connection import Connection, connect
from .errors import mapped
from .settings import PostgresSettings

__all__ = ["Listener"]

log = logging.getLogger("tq.postgres")

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
LOOK_EVERY = 30.0
"""Seconds after which a silent connection is asked whether it is still there."""


class Listener:
    """Calls back whoever wants to know; listens from the first wish on. What it misses, polling finds."""

    def __init__(self, settings: PostgresSettings, channel: str, clock: Clock, own: Collection[int]) -> None:
        self._settings = settings
        self._channel = channel
        self._clock = clock
        self._own = own
        """Processes of the server that work for this backend: what they tell, it has told itself."""
        self._callbacks: list[Callable[[], object]] = []
        self._spawner = Spawner()
        self._closed = False

    def on_change(self, callback: Callable[[], object], *, listening: bool = True) -> Callable[[], None]:
        """Call back, in the caller's event loop, when something may have fallen due; return what ends it.

        With `listening` also when another process says so.
        """
        self._callbacks.append(callback)
        if listening and not len(self._spawner) and not self._closed:
            self._spawner.spawn(self._listen(), "tq-listener")

        def forget() -> None:
            with suppress(ValueError):
                self._callbacks.remove(callback)

        return forget

    def tell(self) -> None:
        """Call back everybody."""
        for callback in list(self._callbacks):
            callback()

    async def close(self) -> None:
        """Hear no more."""
        self._closed = True
        await self._spawner.close()

    async def _listen(self) -> None:
        pause = FIRST_PAUSE
        while not self._closed:
            try:
                connection = await connect(self._settings)
                try:
                    await self._hear(connection)
                finally:
                    connection.terminate()
                pause = FIRST_PAUSE
            except TqError as error:
                log.info("not listening, looking every %g s instead: %s", self._settings.poll_interval, error)
            await self._clock.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _hear(self, connection: Connection) -> None:
        """Return when the connection is gone."""
        gone = asyncio.Event()
        connection.add_termination_listener(lambda _: gone.set())
        with mapped(self._settings.place):
            await connection.add_listener(self._channel, self._heard)
            self.tell()  # something may have happened before
            while not gone.is_set():
                try:
                    async with self._clock.timeout(LOOK_EVERY):
                        await gone.wait()
                except TimeoutError:
                    await connection.execute("SELECT 1")

    def _heard(self, _: object, pid: int, __: object, ___: object) -> None:
        if pid not in self._own:
            self.tell()
