"""Who may run now: the handler's slots, and a line of its own before every executor that has a limit."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from tq.runner.execution import Execution
from tq.runner.registry import Registration

__all__ = ["Line", "Slots"]


class Line:
    """Executions that wait for one executor."""

    __slots__ = ("active", "listed", "registration", "waiting")

    def __init__(self, registration: Registration) -> None:
        self.registration = registration
        self.waiting: deque[Execution] = deque()
        self.active = 0
        """Bodies that run."""
        self.listed = False

    @property
    def free(self) -> bool:
        limit = self.registration.limit
        return limit is None or self.active < limit

    @property
    def saturated(self) -> bool:
        """Whether more of the kind would only wait here while another worker could run them."""
        limit = self.registration.limit
        if limit is None:
            return False
        enough = self.registration.options.chunk_size if self.registration.options.multiple else limit
        return len(self.waiting) >= enough

    def take(self) -> list[Execution]:
        """Return what one body runs next: one execution, or a group for a multi executor."""
        if not self.registration.options.multiple:
            return [self.waiting.popleft()]
        size = min(len(self.waiting), self.registration.options.chunk_size)
        return [self.waiting.popleft() for _ in range(size)]


class Slots:
    """Counts bodies, and says which run next: lines take turns, each in its own order."""

    def __init__(self, concurrency: int) -> None:
        self.concurrency = concurrency
        self.running = 0
        self._lines: dict[Registration, Line] = {}
        self._ready: deque[Line] = deque()

    def offer(self, execution: Execution, registration: Registration) -> None:
        """Let an execution wait for its turn."""
        line = self._lines.get(registration)
        if line is None:
            line = self._lines[registration] = Line(registration)
        line.waiting.append(execution)
        self._list(line)

    def _list(self, line: Line) -> None:
        if line.waiting and not line.listed and line.free:
            line.listed = True
            self._ready.append(line)

    @property
    def ready(self) -> bool:
        """Whether a body may start now."""
        return bool(self._ready) and self.running < self.concurrency

    def start(self) -> Iterator[tuple[Line, list[Execution]]]:
        """Yield what may start now; each body yielded holds a slot until `end`."""
        while self._ready and self.running < self.concurrency:
            line = self._ready.popleft()
            line.listed = False
            if not line.waiting or not line.free:
                continue
            self.running += 1
            line.active += 1
            group = line.take()
            self._list(line)
            yield line, group

    def end(self, line: Line) -> None:
        """Take a body's slot back."""
        self.running -= 1
        line.active -= 1
        self._list(line)

    def excluded(self) -> frozenset[tuple[str, str]]:
        """Return the (queue, type) pairs that need not be claimed now."""
        return frozenset(
            [(key.queue, key.type) for key, line in self._lines.items() if line.saturated] if self._lines else ()
        )

    def drop_waiting(self) -> list[Execution]:
        """Give up whatever has not started; return it."""
        dropped: list[Execution] = []
        for line in self._lines.values():
            dropped += line.waiting
            line.waiting.clear()
        return dropped

    @property
    def waiting(self) -> int:
        return sum(len(line.waiting) for line in self._lines.values())
