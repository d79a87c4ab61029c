"""Who may run now: the handler's slots, and a line of its own before every executor that has a limit."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

from tq.runner.execution import Execution
from tq.runner.registry import Registration

__all__ = ["Line", "Slots"]

MOST_AHEAD = 2_000


class Line:
    """Executions that wait for one executor."""

    __slots__ = ("active", "ahead", "chunk_size", "ended", "limit", "limited", "listed", "registration", "waiting")

    def __init__(self, registration: Registration) -> None:
        self.registration = registration
        self.chunk_size = registration.options.chunk_size if registration.options.multiple else 1
        self.limited = registration.limit is not None
        """Whether fewer bodies of this executor may run than the handler has slots."""
        self.limit = math.inf if registration.limit is None else registration.limit
        self.waiting: deque[Execution] = deque()
        self.active = 0
        """Bodies that run."""
        self.ahead = 0
        """How many may wait here beyond the free slots."""
        self.ended = 0
        """Bodies that have ended since the last claim."""
        self.listed = False

    def cap(self) -> int | None:
        """Return how many more may be claimed: the free slots, and as many to wait as were used up since last time.

        The allowance doubles while the line runs dry between two claims, and halves when much of it is left: quick
        bodies are not starved by the way to the backend, slow ones are left for workers that can run them. Groups have
        no allowance: a slot takes a whole one, and what waited for it beside others would be a group of the few.
        """
        limit = self.registration.limit
        if limit is None:
            return None
        if self.registration.options.multiple:
            return max((limit - self.active) * self.registration.options.chunk_size - len(self.waiting), 0)
        if not self.waiting:
            self.ahead = min(max(self.ahead * 2, 1), MOST_AHEAD) if self.ended >= self.ahead else self.ahead
        elif len(self.waiting) > self.ahead // 2:
            self.ahead //= 2
        self.ended = 0
        return max(limit - self.active + self.ahead - len(self.waiting), 0)


class Slots:
    """Counts bodies, and says which run next: lines take turns, each in its own order."""

    def __init__(self, concurrency: int, limited: Iterable[Registration] = ()) -> None:
        """Make the slots; `limited` executors have their line, and with it their cap, before their first task."""
        self.concurrency = concurrency
        self.running = 0
        self.overdue = 0
        """Tasks that are settled while their bodies run on: they hold slots, and no lease."""
        self.beside = 0
        """Tasks of running groups beside the one for which each group holds its slot."""
        known = list(limited)
        self._lines: dict[Registration, Line] = {one: Line(one) for one in known if one.limit is not None}
        self._unlimited = [(one.queue, one.type) for one in known if one.limit is None]
        self._ready: deque[Line] = deque()

    def offer(self, execution: Execution, registration: Registration) -> None:
        """Let an execution wait for its turn."""
        line = self._lines.get(registration)
        if line is None:
            line = self._lines[registration] = Line(registration)
        line.waiting.append(execution)
        if not line.listed:
            self._list(line)

    def _list(self, line: Line) -> None:
        if line.waiting and line.active < line.limit:
            line.listed = True
            self._ready.append(line)

    @property
    def ready(self) -> bool:
        """Whether a body may start now."""
        return bool(self._ready) and self.running < self.concurrency

    def start(self) -> Line | None:
        """Return the line whose next body starts now, with a slot that it holds until `end`; None while none may."""
        ready = self._ready
        while ready and self.running < self.concurrency:
            line = ready[0]
            waiting = len(line.waiting)
            if waiting:
                self.running += 1
                line.active += 1
            if waiting <= line.chunk_size or line.active >= line.limit:
                line.listed = False
                ready.popleft()
            elif len(ready) > 1:
                ready.rotate(-1)
            if waiting:
                return line
        return None

    def group(self, line: Line) -> list[Execution]:
        """Take from a line what one body of a multi executor runs."""
        group = [line.waiting.popleft() for _ in range(min(len(line.waiting), line.chunk_size))]
        self.beside += len(group) - 1
        return group

    def end(self, line: Line, size: int = 1) -> None:
        """Take back the slot of a body that ran so many tasks."""
        self.running -= 1
        self.beside -= size - 1
        line.active -= 1
        line.ended += 1
        if not line.listed:
            self._list(line)

    def caps(self) -> dict[tuple[str, str], int]:
        """Return the most that may be claimed of each (queue, type) whose executor has a limit."""
        return {(key.queue, key.type): cap for key, line in self._lines.items() if (cap := line.cap()) is not None}

    def claimable(self, free: int) -> tuple[int, dict[tuple[str, str], int]]:
        """Return how many to claim while so many slots are free, and the most of each (queue, type).

        A group takes one slot, whatever its size: where there is room for one, more are claimed than slots are free,
        but of what takes a slot for each task no more than that.
        """
        caps = self.caps()
        room = 0
        for known in self._lines:
            if known.options.multiple:
                cap = caps[known.queue, known.type]
                room += cap - math.ceil(cap / known.options.chunk_size)
        if room:
            caps = {**dict.fromkeys(self._unlimited, free), **caps}
        return free + room, caps

    def withdraw(self, execution: Execution) -> bool:
        """Take back what waits for its turn; False where it does not."""
        line = None if execution.registration is None else self._lines.get(execution.registration)
        if line is None or execution not in line.waiting:
            return False
        line.waiting.remove(execution)
        return True

    def drop_waiting(self) -> list[Execution]:
        """Give up whatever has not started; return it."""
        dropped: list[Execution] = []
        for line in self._lines.values():
            dropped += line.waiting
            line.waiting.clear()
        return dropped

    @property
    def in_limited_lines(self) -> int:
        """How many wait for an executor with a limit: they keep no slot from others."""
        return sum([len(line.waiting) for line in self._lines.values() if line.registration.limit is not None])

    @property
    def waiting(self) -> int:
        return sum(len(line.waiting) for line in self._lines.values())
