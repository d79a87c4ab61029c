"""Waking those who wait, by this backend's own writes; what other processes add, workers find by looking."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

__all__ = ["Bell"]


class Bell:
    """Calls back, in the caller's event loop, when something may fall due earlier than a worker was told."""

    def __init__(self) -> None:
        self._wishes: list[tuple[asyncio.AbstractEventLoop | None, Callable[[], object]]] = []

    def on_change(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call back from now on; return what ends it."""
        wish = (running_loop(), callback)
        self._wishes.append(wish)

        def forget() -> None:
            with suppress(ValueError):
                self._wishes.remove(wish)

        return forget

    def ring(self) -> None:
        """Call everybody back."""
        here = running_loop()
        for loop, callback in list(self._wishes):
            if loop is here or loop is None:
                callback()
            else:
                with suppress(RuntimeError):  # that loop is closed: nobody waits there
                    loop.call_soon_threadsafe(callback)

    def close(self) -> None:
        """Call nobody any more."""
        self._wishes.clear()


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the loop in which the caller runs, or None."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
