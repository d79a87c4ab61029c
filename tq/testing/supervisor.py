"""A supervisor: starts a handler, and another one when the process that it stands for has died."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tq.app.handler import TaskHandler
from tq.clock import Clock
from tq.errors import BackendError
from tq.lifecycle import Service
from tq.testing.faults import Faults, ProcessDiedError

__all__ = ["Supervisor"]


class Supervisor(Service):
    """Keeps one worker alive: what a service manager does, in one event loop.

    Args:
        make: makes a handler on ports that it wraps with the faults it is given.
        life: makes the faults of the first life, the second, and so on; counts from 0. Absent means none.
        clock: tells when to start again.
        pause: seconds between a death, or a start that failed, and the next start.
    """

    def __init__(
        self,
        make: Callable[[Faults], TaskHandler],
        life: Callable[[int], Faults] | None = None,
        *,
        clock: Clock,
        pause: float = 1.0,
    ) -> None:
        super().__init__()
        self._make = make
        self._life = life
        self._clock = clock
        self._pause = pause
        self.lives: list[Faults] = []
        """The faults of each life, the present one last."""
        self.handler: TaskHandler | None = None

    @property
    def deaths(self) -> int:
        """How often the process has died."""
        return sum(faults.death.is_set() for faults in self.lives)

    async def _main(self) -> None:
        while not self._stopping.is_set():
            faults = Faults() if self._life is None else self._life(len(self.lives))
            self.lives.append(faults)
            self.handler = handler = self._make(faults)
            try:
                await handler.start()
                await self._until(faults)
            except (BackendError, ProcessDiedError):  # it could not even start
                faults.death.set()
            if faults.death.is_set():
                await handler.kill()
                await self._rest()
            else:
                await handler.stop()

    async def _until(self, faults: Faults) -> None:
        """Return when the process has died, or is to stop."""
        waiting = [self._spawner.spawn(event.wait()) for event in (faults.death, self._stopping)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()

    async def _rest(self) -> None:
        try:
            async with self._clock.timeout(self._pause):
                await self._stopping.wait()
        except TimeoutError:
            pass
