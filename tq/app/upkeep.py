"""Everything that has to be done now and then, whoever asks for it or not: one loop, one list of rounds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from tq.clock import Clock
from tq.errors import TqError
from tq.lifecycle import Service

__all__ = ["Round", "Trouble", "Upkeep"]

log = logging.getLogger("tq.upkeep")


Trouble = Callable[[BaseException, str], Awaitable[None]]
"""Is told what failed, and in which round."""


@dataclass(slots=True)
class Round:
    """Something done every `interval` seconds; its function returns True when more is waiting."""

    name: str
    interval: float
    work: Callable[[], Awaitable[bool]]
    due: float = 0.0


class Upkeep(Service):
    """Goes its rounds until stopped. A round that fails is logged and comes again; it never stops the others."""

    patience = 10.0  # rounds are repeated wherever they were cut off: no stop waits for a server that does not answer

    def __init__(self, clock: Clock, rounds: Sequence[Round], trouble: Trouble) -> None:
        super().__init__()
        self._clock = clock
        self._rounds = list(rounds)
        self._trouble = trouble
        self._woken = asyncio.Event()

    def hurry(self, name: str) -> None:
        """Do this round as soon as possible: there is work for it."""
        for item in self._rounds:
            if item.name == name:
                item.due = self._clock.monotonic()
        self._woken.set()

    async def stop(self) -> None:
        self._stopping.set()
        self._woken.set()
        await super().stop()

    async def _main(self) -> None:
        while not self._stopping.is_set():
            self._woken.clear()
            await self.go()
            earliest = min((item.due for item in self._rounds), default=0.0)
            try:
                async with self._clock.timeout(max(earliest - self._clock.monotonic(), 0.01)):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def go(self, *, all_of_them: bool = False) -> bool:
        """Do the rounds that are due; True when one of them left work behind."""
        more = False
        for item in self._rounds:
            now = self._clock.monotonic()
            if item.due > now and not all_of_them:
                continue
            item.due = now + item.interval
            try:
                if await item.work():
                    item.due, more = now, True
            except Exception as error:  # a fault in one round must not end the others
                fault = None if isinstance(error, TqError) else error
                log.warning("%s failed and will be tried again: %s", item.name, error, exc_info=fault)
                await self._trouble(error, item.name)
        return more
