"""Tells workers that something may have fallen due: what this composite wrote, and what its parts tell."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from tq.ports import Backend

__all__ = ["Bell"]

Listener = tuple[asyncio.AbstractEventLoop | None, Callable[[], object]]


class Bell:
    """Calls back in the loop of whoever wants to be called."""

    def __init__(self, homes: list[Backend]) -> None:
        self._homes = homes
        self._listeners: list[Listener] = []

    def on_change(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call back after a change; return what takes the wish back."""
        listener = (_running_loop(), callback)
        self._listeners.append(listener)
        elsewhere = [home.on_change(callback) for home in self._homes]

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
