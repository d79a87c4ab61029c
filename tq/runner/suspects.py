"""Tasks that were there when workers died: each runs alone, so that the guilty one convicts nobody but itself."""

from __future__ import annotations

import logging
from collections import deque

from tq.runner.execution import Execution

__all__ = ["Suspects"]

log = logging.getLogger("tq.worker")


class Suspects:
    """Those that wait for the worker to be empty, and the one that has it to itself (design 1.4)."""

    def __init__(self) -> None:
        self._waiting: deque[Execution] = deque()
        self._alone: Execution | None = None

    def __bool__(self) -> bool:
        """Whether the worker must not claim: somebody waits to be alone, or is."""
        return bool(self._waiting) or self._alone is not None

    def add(self, execution: Execution) -> None:
        """Let an execution wait for its turn."""
        self._waiting.append(execution)

    def next(self) -> Execution | None:
        """Return who may run now that nobody else does; None while somebody is alone, or nobody waits."""
        if self._alone is not None or not self._waiting:
            return None
        self._alone = self._waiting.popleft()
        log.warning(
            "task %s was there when %d workers died; it runs alone", self._alone.id, self._alone.delivery.crashes
        )
        return self._alone

    def ended(self, execution: Execution) -> None:
        """An execution has ended, alone or not."""
        if execution is self._alone:
            self._alone = None
        elif execution in self._waiting:  # cancelled, or lost, before its turn: nobody may wait for it any more
            self._waiting.remove(execution)

    def drop(self) -> list[Execution]:
        """Give up those that have not started."""
        dropped = list(self._waiting)
        self._waiting.clear()
        return dropped
