"""Rounds that somebody goes by hand, and waits for, in place of the worker's own loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from tq.lifecycle import Spawner

__all__ = ["ByHand"]

T = TypeVar("T")


class ByHand:
    """Lets rounds go in a task of their own: whoever stops waiting for them cuts off no hop.

    A hop that is cut off may have claimed what nobody then knows of, and would be told of it as of a crash.
    """

    def __init__(self, spawner: Spawner, give_back: Callable[[], Awaitable[object]]) -> None:
        self._spawner = spawner
        self._give_back = give_back
        self.going: set[asyncio.Task[Any]] = set()
        self.leaving = False
        """Whether nothing may begin any more, because nobody waits for it."""

    async def go(self, rounds: Coroutine[Any, Any, T]) -> T | None:
        """Return what these rounds return, or None where a stop ended them; raise what they raise.

        Cancelled, it has them give back what is held, uncounted, before it raises (design 1.4).
        """
        going: asyncio.Task[tuple[T | None, BaseException | None]]
        going = self._spawner.spawn(_caught(rounds), "rounds by hand")
        self.going.add(going)
        try:
            await asyncio.wait([going])
        except asyncio.CancelledError:
            self.leaving = True
            await self._give_back()
            going.cancel()  # only where no server answered in time is it not over yet
            raise
        finally:
            self.leaving = False
            self.going.discard(going)
        if going.cancelled():
            return None
        value, error = going.result()
        if error is not None:
            raise error
        return value


async def _caught(rounds: Coroutine[Any, Any, T]) -> tuple[T | None, BaseException | None]:
    """Return what rounds raise: it is for whoever waits to hear, and for nobody else."""
    try:
        return await rounds, None
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001 -- raised again where it is awaited
        return None, error
