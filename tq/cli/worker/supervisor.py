"""Keeps worker processes alive: starts them, restarts those that die, passes signals on, and ends them by their pid."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Protocol

__all__ = ["LINE", "Supervisor"]

LOOK_EVERY = 0.1
SOURCES_EVERY = 0.5
HEALTHY_AFTER = 10.0
"""A child that lived so long is restarted at once; one that dies sooner, with a growing delay."""
FIRST_DELAY, LONGEST_DELAY = 0.25, 30.0
LINE = 0
"""Where a child finds its end of the line to here: its standard input. On it the child says how long it may drain."""
UNSAID = 40.0
"""Seconds that a child may drain which has not said so."""
LEAVE_WITHIN = 5.0
"""Seconds that it has beyond those, to leave."""
MISUSED = 2
"""A child that ends so was started wrongly: another one would end the same way."""


class Watched(Protocol):
    """Tells what has changed since it was last asked."""

    def changed(self) -> list[str]: ...


class Tell(Protocol):
    """Says what happens."""

    def __call__(self, event: str, **values: object) -> None: ...


@dataclass(slots=True)
class Slot:
    """The place of one child."""

    process: subprocess.Popen[bytes] | None = None
    line: socket.socket | None = None
    started: float = 0.0
    leaves_by: float | None = None
    """When it is killed, once it was told to drain."""
    due: float | None = 0.0
    """When to start the next one; None for not before the sources change."""
    quick_deaths: int = 0


class Supervisor:
    """Runs `command` in `count` processes until SIGTERM or SIGINT; a second signal kills what has not drained.

    Children are in process groups of their own, so that Ctrl-C reaches them once, from here. Each holds the other end
    of a line as its standard input: when this process dies, however it dies, they see the end of it and drain. One
    that has not left a few seconds after it said it would is killed.
    """

    def __init__(
        self,
        command: Sequence[str],
        count: int,
        *,
        tell: Tell,
        sources: Watched | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._command = list(command)
        self._slots = [Slot() for _ in range(count)]
        self._tell = tell
        self._sources = sources
        self._next_look = 0.0
        self._now = monotonic
        self._signals = 0
        self._answered = 0
        self._code = 0

    def run(self) -> int:
        """Supervise until asked to stop; return the exit code."""
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            while True:
                self._answer_signals()
                if self._signals and not self._living():
                    return self._code
                self._tend()
                time.sleep(LOOK_EVERY)
        finally:
            for slot in self._living():
                slot.process.kill() if slot.process else None
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1  # nothing else: a handler may interrupt anything

    def _answer_signals(self) -> None:
        if self._signals == self._answered:
            return
        first, self._answered = self._answered == 0, self._signals
        self._tell(
            "draining" if first else "killing", children=[slot.process.pid for slot in self._living() if slot.process]
        )
        for slot in self._living():
            if slot.process is not None:
                self._drain(slot, slot.process) if first else slot.process.kill()

    def _drain(self, slot: Slot, process: subprocess.Popen[bytes]) -> None:
        slot.leaves_by = self._now() + _said(slot.line) + LEAVE_WITHIN
        process.terminate()

    def _overdue(self, slot: Slot) -> bool:
        return slot.leaves_by is not None and self._now() >= slot.leaves_by

    def _kill_overdue(self) -> None:
        if overdue := [slot for slot in self._living() if self._overdue(slot)]:
            self._tell("killing", children=[slot.process.pid for slot in overdue if slot.process])
        for slot in overdue:
            slot.leaves_by = None
            if slot.process is not None:
                slot.process.kill()

    def _living(self) -> list[Slot]:
        return [slot for slot in self._slots if slot.process is not None]

    def _tend(self) -> None:
        for slot in self._slots:
            if slot.process is not None and (code := slot.process.poll()) is not None:
                self._bury(slot, slot.process, code)
        if self._signals:
            self._kill_overdue()
            return
        self._reload()
        for slot in self._slots:
            if slot.process is None and slot.due is not None and slot.due <= self._now():
                self._start(slot)

    def _start(self, slot: Slot) -> None:
        slot.line, theirs = socket.socketpair()
        with theirs:
            slot.process = subprocess.Popen(self._command, stdin=theirs.fileno(), start_new_session=True)  # noqa: S603 -- our own command
        slot.started, slot.leaves_by = self._now(), None
        self._tell("child started", pid=slot.process.pid)

    def _bury(self, slot: Slot, process: subprocess.Popen[bytes], code: int) -> None:
        if slot.line is not None:
            slot.line.close()
        slot.process = slot.line = None
        self._tell("child ended", pid=process.pid, code=code)
        if self._signals:
            return
        if code == MISUSED:
            slot.due = None
            if self._sources is None:
                self._signals, self._code = 1, code  # the others are asked to end
            return
        lived = self._now() - slot.started
        slot.quick_deaths = 0 if lived >= HEALTHY_AFTER else slot.quick_deaths + 1
        delay = min(FIRST_DELAY * 2 ** (slot.quick_deaths - 1), LONGEST_DELAY) if slot.quick_deaths else 0.0
        slot.due = self._now() + delay

    def _reload(self) -> None:
        if self._sources is None or self._now() < self._next_look:
            return
        self._next_look = self._now() + SOURCES_EVERY
        changed = self._sources.changed()
        if not changed:
            return
        self._tell("reloading", changed=changed)
        self._end_children()
        for slot in self._slots:
            slot.due, slot.quick_deaths = 0.0, 0

    def _end_children(self) -> None:
        """Let all children drain side by side, and kill those that do not."""
        for slot in self._living():
            if slot.process is not None:
                self._drain(slot, slot.process)
        while self._living():
            for slot in self._living():
                if slot.process is not None and (code := slot.process.poll()) is not None:
                    self._bury(slot, slot.process, code)
                elif slot.process is not None and self._signals > 1:
                    slot.process.kill()
            self._kill_overdue()
            time.sleep(LOOK_EVERY)


def _said(line: socket.socket | None) -> float:
    """Return the seconds that a child has said it may drain; it says so once it works."""
    try:
        return UNSAID if line is None else float(line.recv(64, socket.MSG_DONTWAIT))
    except (OSError, ValueError):
        return UNSAID
