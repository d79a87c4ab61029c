"""Keeps worker processes alive: starts them, restarts those that die, passes signals on, and ends them by their pid."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Protocol

__all__ = ["Supervisor"]

LOOK_EVERY = 0.1
SOURCES_EVERY = 0.5
HEALTHY_AFTER = 10.0
"""A child that lived so long is restarted at once; one that dies sooner, with a growing delay."""
FIRST_DELAY, LONGEST_DELAY = 0.25, 30.0
RELOAD_GRACE = 40.0
"""Seconds that a child may drain before a reload: a little longer than a worker waits for its tasks."""
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
    started: float = 0.0
    due: float | None = 0.0
    """When to start the next one; None for not before the sources change."""
    quick_deaths: int = 0


class Supervisor:
    """Runs `command` in `count` processes until SIGTERM or SIGINT; a second signal kills what has not drained.

    Children are in process groups of their own, so that Ctrl-C reaches them once, from here. Each holds the other end
    of a pipe as its standard input: when this process dies, however it dies, they see the end of it and drain.
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
                slot.process.terminate() if first else slot.process.kill()

    def _living(self) -> list[Slot]:
        return [slot for slot in self._slots if slot.process is not None]

    def _tend(self) -> None:
        for slot in self._slots:
            if slot.process is not None and (code := slot.process.poll()) is not None:
                self._bury(slot, slot.process, code)
        if self._signals:
            return
        self._reload()
        for slot in self._slots:
            if slot.process is None and slot.due is not None and slot.due <= self._now():
                self._start(slot)

    def _start(self, slot: Slot) -> None:
        slot.process = subprocess.Popen(self._command, stdin=subprocess.PIPE, start_new_session=True)  # noqa: S603 -- our own command
        slot.started = self._now()
        self._tell("child started", pid=slot.process.pid)

    def _bury(self, slot: Slot, process: subprocess.Popen[bytes], code: int) -> None:
        if process.stdin is not None:
            process.stdin.close()
        slot.process = None
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
            slot.process, slot.due, slot.quick_deaths = None, 0.0, 0

    def _end_children(self) -> None:
        """Let all children drain side by side, and kill those that do not."""
        living = [slot.process for slot in self._living() if slot.process is not None]
        for process in living:
            process.terminate()
        until = self._now() + RELOAD_GRACE
        for process in living:
            while process.poll() is None and self._now() < until and self._signals < 2:
                time.sleep(LOOK_EVERY)
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stdin is not None:
                process.stdin.close()
            self._tell("child ended", pid=process.pid, code=process.returncode)
