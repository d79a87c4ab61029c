"""The queue in memory."""

from __future__ import annotations

from collections.abc import Sequence

from tq.clock import Clock
from tq.ports import Backend, MessageQueue

from .custody import MemoryCustody
from .ledger import Ledger
from .messages import Messages
from .server import Server

__all__ = ["MemoryQueue"]


class MemoryQueue(MemoryCustody, MessageQueue):
    """At-least-once within one process; by `run_at`, then by order of adding."""

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        server: Server | None = None,
        messages: Messages | None = None,
        ledger: Ledger | None = None,
        backend: Backend | None = None,
    ) -> None:
        super().__init__(clock=clock, server=server, messages=messages, ledger=ledger, backend=backend)
        self._announcements: dict[str, tuple[float, tuple[str, ...]]] = {}

    async def announce(self, worker: str, queues: Sequence[str], ttl: float) -> None:
        with self._enter():
            self._forget_the_dead()
            self._announcements[worker] = (self._now + ttl, tuple(queues))

    async def announced(self) -> Sequence[str]:
        with self._enter():
            self._forget_the_dead()
            return sorted({queue for _, queues in self._announcements.values() for queue in queues})

    def _forget_the_dead(self) -> None:
        now = self._now
        for worker, (until, _) in list(self._announcements.items()):
            if until <= now:
                del self._announcements[worker]
