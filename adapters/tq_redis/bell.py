"""Waking those who wait: by this backend's own commits at once, by those of other processes through the server.

A script that adds something publishes a word only where somebody waits: a claim that came back short leaves a mark, and
whoever adds takes it away. Between two busy processes nothing is sent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from tq.clock import Clock
from tq.lifecycle import Spawner

from .client import Listener, listening
from .driver import exceptions
from .settings import RedisSettings

__all__ = ["Bell"]

PAUSE = 1.0
"""Seconds after which a lost connection is tried again; meanwhile workers look by themselves."""
LOOK_EVERY = 30.0
"""Seconds after which a silent connection is asked whether it is still there."""

log = logging.getLogger("tq.redis")


class Bell:
    """Calls back, in the caller's event loop, when something may fall due earlier than a worker was told."""

    def __init__(self, settings: RedisSettings, clock: Clock, caller: str) -> None:
        self._settings = settings
        self._clock = clock
        self._caller = caller.encode()
        self._wishes: list[tuple[asyncio.AbstractEventLoop | None, Callable[[], object]]] = []
        self._listening: tuple[asyncio.AbstractEventLoop, Spawner, asyncio.Task[None]] | None = None

    def on_change(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call back from now on; return what ends it."""
        loop = running_loop()
        wish = (loop, callback)
        self._wishes.append(wish)
        if loop is not None and not self._clock.virtual and not self._listens(loop):
            spawner = Spawner()
            self._listening = (loop, spawner, spawner.spawn(self._listen(), "tq-redis-bell"))

        def forget() -> None:
            with suppress(ValueError):
                self._wishes.remove(wish)
            if not self._wishes and self._listening is not None and self._listening[0] is running_loop():
                self._listening[2].cancel()

        return forget

    def _listens(self, loop: asyncio.AbstractEventLoop) -> bool:
        return self._listening is not None and self._listening[0] is loop and not self._listening[2].cancelling()

    def ring(self) -> None:
        """Call everybody back."""
        here = running_loop()
        for loop, callback in list(self._wishes):
            if loop is here or loop is None:
                callback()
            else:
                with suppress(RuntimeError):  # that loop is closed: nobody waits there
                    loop.call_soon_threadsafe(callback)

    async def _listen(self) -> None:
        while True:
            try:
                await self._hear()
            except (exceptions.RedisError, OSError) as error:
                log.debug("%s says nothing of what others add: %s", self._settings.place, error)
            await self._clock.sleep(PAUSE)

    async def _hear(self) -> None:
        """Return when nothing is to be heard any more."""
        async with listening(self._settings) as words:
            await words.subscribe(f"{self._settings.root}:bell")
            while word := await words.get_message(timeout=LOOK_EVERY) or await self._asked(words):
                # The first word says that others are heard from now on; before it, some may have been missed.
                if word["type"] == "subscribe" or (word["type"] == "message" and word["data"] != self._caller):
                    self.ring()

    async def _asked(self, words: Listener) -> dict[str, Any] | None:
        """Return what a silent line says when it is asked; None if it is silent still."""
        await words.ping()
        return await words.get_message(timeout=self._settings.timeout)

    async def close(self) -> None:
        """Listen no more."""
        listening, self._listening = self._listening, None
        if listening is not None and listening[0] is running_loop():
            await listening[1].close()


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the loop in which the caller runs, or None."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
