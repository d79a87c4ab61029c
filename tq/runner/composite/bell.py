"""Tells workers that something may have fallen due: what this composite wrote, and what its parts tell."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

from .keeper import home_of

__all__ = ["Bell"]

Listener = tuple[asyncio.AbstractEventLoop | None, Callable[[], object]]


class Bell:
    """Calls back in the loop of whoever wants to be called."""

    def __init__(self, parts: Sequence[object]) -> None:
        """Listen to the servers of these parts, where they have something to tell."""
        servers = {id(server): server for part in parts for server in (home_of(part) or part,)}
        self._servers = list(servers.values())
        self._listeners: list[Listener] = []

    def on_change(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call back after a change; return what takes the wish back."""
        listener = (_running_loop(), callback)
        self._listeners.append(listener)
        listens = [getattr(server, "on_change", None) for server in self._servers]
        elsewhere = [listen(callback) for listen in listens if listen is not None]

        def forget() -> None:
            with suppress(ValueError):
                self._listeners.remove(listener)
            for take_back in elsewhere:
                take_back()

        return forget

    def ring(self) -> None:
        """There was a change."""
        here = _running_loop()
        for loop, callback in list(self._listeners):
            if loop is None or loop is here:
                callback()
            else:
                with suppress(RuntimeError):  # that loop is closed: nobody sleeps there
                    loop.call_soon_threadsafe(callback)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
