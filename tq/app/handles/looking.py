"""Finding what is live, and looking again until something is there."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

from tq.clock import Clock, seconds
from tq.model import FlowState, Whereabouts
from tq.ports import Backend, Custody

__all__ = ["Looker", "Told", "custodies", "locate"]

Told = Callable[[FlowState], Awaitable[None]]
"""Tells observers of a flow that a handle has closed."""

FIRST_LOOK, LONGEST_LOOK = 0.02, 1.0


async def locate(backend: Backend, task_id: str) -> Whereabouts | None:
    """Return where a live task is, in either custody."""
    for part in custodies(backend):
        if found := (await part.locate([task_id])).get(task_id):
            return found
    return None


def custodies(backend: Backend) -> Sequence[Custody]:
    """Return the parts that keep messages; where one server holds all, its queue sees everything."""
    return [backend.queue] if backend.atomic else [backend.store, backend.queue]


class Looker:
    """Looks again, ever less often, until something is there."""

    def __init__(self, clock: Clock, timeout: float | timedelta | None) -> None:
        self._clock = clock
        self._pause = FIRST_LOOK
        limit = None if timeout is None else seconds("timeout", timeout)
        self._until = math.inf if limit is None else clock.monotonic() + limit

    async def again(self, what: str) -> None:
        """Wait a little.

        Raises:
            TimeoutError: the time is up.
        """
        left = self._until - self._clock.monotonic()
        if left <= 0:
            raise TimeoutError(f"{what} has not ended in time")
        await self._clock.sleep(min(self._pause, left))
        self._pause = min(self._pause * 1.5, LONGEST_LOOK)
