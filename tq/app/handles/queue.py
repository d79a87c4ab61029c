"""One queue."""

from __future__ import annotations

from tq.ports import Backend

from .looking import custodies

__all__ = ["QueueHandle"]


class QueueHandle:
    """One queue, by name."""

    def __init__(self, backend: Backend, name: str) -> None:
        self._backend = backend
        self.name = name

    async def pause(self) -> None:
        """Stop handing out its tasks, for every worker, until resumed; what runs goes on.

        Nothing of it ends meanwhile but what runs: a waiting task that is cancelled ends, unrun, at the resume.
        """
        for part in custodies(self._backend):
            await part.pause(self.name, paused=True)

    async def resume(self) -> None:
        """Hand out its tasks again."""
        for part in custodies(self._backend):
            await part.pause(self.name, paused=False)

    async def paused(self) -> bool:
        """Tell whether the queue is paused."""
        return self.name in await self._backend.queue.paused()

    async def counts(self) -> dict[str, int]:
        """Return how many tasks are `waiting` (due), `delayed`, `running` and `held`."""
        total = {"waiting": 0, "delayed": 0, "running": 0, "held": 0}
        for part in custodies(self._backend):
            for kind, count in (await part.counts()).get(self.name, {}).items():
                total[kind] = total.get(kind, 0) + count
        return total
