"""One timer for all deadlines of a worker: timeouts, hand-offs, graces."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count

from tq.clock import Clock
from tq.lifecycle import Spawner

__all__ = ["Alarm", "Alarms"]

Ring = Callable[[], None]


class Alarm:
    """A call to be made; `cancel` forgets it."""

    __slots__ = ("ring",)

    def __init__(self, ring: Ring) -> None:
        self.ring: Ring | None = ring

    def cancel(self) -> None:
        self.ring = None


class Alarms:
    """Calls back at instants of the monotonic clock, in order; costs a heap entry each, and one timer in all."""

    def __init__(self, clock: Clock, spawner: Spawner) -> None:
        self._clock = clock
        self._spawner = spawner
        self._heap: list[tuple[float, int, Alarm]] = []
        self._order = count()
        self._compact_at = 1_000
        self._timer: asyncio.Task[None] | None = None
        self._until = float("inf")

    def after(self, delay: float, ring: Ring) -> Alarm:
        """Call `ring` once, `delay` seconds from now, unless the alarm is cancelled before."""
        when = self._clock.monotonic() + delay
        alarm = Alarm(ring)
        heappush(self._heap, (when, next(self._order), alarm))
        if len(self._heap) >= self._compact_at:
            self._compact()
        if when < self._until:
            self._set(when)
        return alarm

    def _compact(self) -> None:
        """Most alarms are cancelled long before they are due; without this the heap would hold them all till then."""
        self._heap = [entry for entry in self._heap if entry[2].ring is not None]
        heapify(self._heap)
        self._compact_at = max(1_000, 2 * len(self._heap))

    def _set(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._until = when
        self._timer = self._spawner.spawn(self._wait(when), "alarms")

    async def _wait(self, when: float) -> None:
        await self._clock.sleep(when - self._clock.monotonic())
        self._until, self._timer = float("inf"), None
        now = self._clock.monotonic()
        while self._heap and (self._heap[0][0] <= now or self._heap[0][2].ring is None):
            alarm = heappop(self._heap)[2]
            if alarm.ring is not None:
                ring, alarm.ring = alarm.ring, None
                ring()
        if self._heap and self._heap[0][0] < self._until:
            self._set(self._heap[0][0])

    def clear(self) -> None:
        """Forget every alarm."""
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
        self._until, self._timer = float("inf"), None
