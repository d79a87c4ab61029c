"""When the next hop is made, and how much it claims: arithmetic over what the last hops told."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress

from tq.clock import Clock
from tq.model import Claim, Hop

__all__ = ["Pace"]

SHORTEST_AHEAD, LONGEST_AHEAD = 0.0005, 0.05
"""Seconds of recent throughput that may be claimed beyond the free slots, at least and at most."""
MOST_AHEAD = 2_000
HOPS_AHEAD = 3.0
"""So many hops' time is claimed for: one is on its way, the next has yet to start, and no two take the same."""
SMOOTHING = 0.2
SHORTEST_SLEEP = 0.02


class Pace:
    """Remembers whether anything may be due, how fast tasks end, and sleeps until there is a reason not to."""

    def __init__(self, clock: Clock, concurrency: int, poll_interval: float) -> None:
        self._clock = clock
        self._concurrency = concurrency
        self._poll_interval = poll_interval
        self._woken = asyncio.Event()
        self.wake = self._woken.set
        """Call it: there is something to write, or a slot is free."""
        self._next_look = -math.inf
        """Instant before which a claim would come back empty, as far as is known here."""
        self._look_again = -math.inf
        """Reading of `monotonic` at which one is made all the same: a clock that was put back must stop nobody."""
        self._due_at = math.inf
        """Instant at which the backend said that something falls due."""
        self._news = False
        """Whether somebody gave notice since the last claim was made: it may not have seen what that was about."""
        self._rate = 0.0
        self._way = 0.0
        """Seconds that a hop takes of late."""
        self._last = clock.monotonic()

    @property
    def due(self) -> bool:
        """Whether something may be there to claim."""
        return self._clock.now() >= self._next_look or self._clock.monotonic() >= self._look_again

    @property
    def due_in(self) -> float:
        """Seconds until something may fall due, as far as is known here; infinite for never."""
        return max(self._due_at - self._clock.now(), 0.0)

    def wanted(self, held: int) -> int:
        """Return how many to claim: free slots, plus what the recent rate will free until the next hop is back.

        No more than that: what waits here is neither run by others nor light for the garbage collector.
        """
        ahead = self._rate * min(max(self._way * HOPS_AHEAD, SHORTEST_AHEAD), LONGEST_AHEAD)
        return self._concurrency + min(int(ahead), MOST_AHEAD) - held

    def made(self, hop: Hop, claim: Claim | None, settled: int, took: float) -> None:
        """Learn from a hop that took so many seconds."""
        now = self._clock.monotonic()
        self._way += SMOOTHING * (took - self._way)
        passed, self._last = now - self._last, now
        if settled and passed > 0:
            self._rate += SMOOTHING * (settled / passed - self._rate)
        elif passed > 1:
            self._rate = 0.0
        if claim is None:
            return
        if self._news or len(hop.deliveries) >= claim.limit:
            self._next_look = self._due_at = -math.inf
            return
        present = self._clock.now()
        self._due_at = math.inf if hop.next_due is None else hop.next_due
        self._next_look = min(max(self._due_at, present + SHORTEST_SLEEP), present + self._poll_interval)
        self._look_again = now + self._poll_interval

    def asks(self) -> None:
        """A claim is made."""
        self._news = False

    def look_by(self, instant: float) -> None:
        """Look again by then, whatever the last claim said of what it was not to hand out."""
        self._due_at = min(self._due_at, instant)
        self._next_look = min(self._next_look, instant)

    def notify(self) -> None:
        """Something may have fallen due, whatever the last claim said."""
        self._next_look = -math.inf
        self._news = True
        self._woken.set()

    async def sleep(self, *, until_due: bool) -> None:
        """Wait until woken, or, where that is of use, until something falls due."""
        if not self._woken.is_set():
            delay = math.inf
            if until_due:
                delay = min(self._next_look - self._clock.now(), self._look_again - self._clock.monotonic())
            with suppress(TimeoutError):
                async with self._clock.timeout(None if math.isinf(delay) else max(delay, 0.0)):
                    await self._woken.wait()
        self._woken.clear()
