"""What stands in for the server: the clock, the lock and the doorbell that all parts of one memory backend share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from threading import RLock

from tq.clock import Clock, SystemClock
from tq.errors import BackendError

__all__ = ["Part", "Server"]


class Server:
    """One lock for all parts, so that no thread sees half a step; no verb waits while it holds it."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock: Clock = clock or SystemClock()
        self.lock = RLock()
        self.closed = False
        self.changed = False
        """Whether something may fall due earlier than anybody was told."""
        self._listeners: list[tuple[asyncio.AbstractEventLoop | None, Callable[[], object]]] = []

    def on_change(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call back, in the event loop in which this is called, after a change; return what takes the wish back."""
        listener = (running_loop(), callback)
        self._listeners.append(listener)

        def forget() -> None:
            with suppress(ValueError):
                self._listeners.remove(listener)

        return forget

    def ring(self) -> None:
        """Tell everybody who wants to know, if there was a change."""
        if not self.changed:
            return
        self.changed = False
        if self._listeners:
            here = running_loop()
            for loop, callback in list(self._listeners):
                if loop is here or loop is None:
                    callback()
                else:
                    with suppress(RuntimeError):  # that loop is closed: nobody sleeps there
                        loop.call_soon_threadsafe(callback)

    def close(self) -> None:
        """Refuse every further verb of every part."""
        self.closed = True
        self._listeners.clear()


class Part:
    """A port of a memory server."""

    _server: Server

    def __init__(self, server: Server) -> None:
        self._server = server
        self._closed = False

    def _enter(self) -> RLock:
        """Return the lock to hold during a verb.

        Raises:
            BackendError: the part was closed.
        """
        if self._closed or self._server.closed:
            raise BackendError(f"{type(self).__name__} is closed: nothing is kept in it any more")
        return self._server.lock

    async def close(self) -> None:
        self._closed = True


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop of this thread, if one runs."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
