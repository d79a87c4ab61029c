"""SIGTERM and SIGINT ask for a drain; a second one ends the process at once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from types import FrameType

__all__ = ["draining_on_signals"]

Handler = Callable[[int, FrameType | None], object] | int | None

SAME_REQUEST = 0.5
"""Seconds within which a second signal is the first one said twice, as by a shell to a process and to its group."""


@contextmanager
def draining_on_signals(stop: Callable[[], None]) -> Generator[None]:
    """Call `stop` on the first SIGTERM or SIGINT while the body runs; only in the main thread, else do nothing.

    Whoever listened before, such as `asyncio.run` to Ctrl-C, listens again afterwards. Handlers of the loop's own would
    not do: the loop puts the default in their place when they go, whatever was there.
    """
    loop = asyncio.get_running_loop()
    before: dict[int, Handler] = {}
    asked: list[float] = []

    def ask(number: int) -> None:
        if not asked:
            asked.append(loop.time())
            stop()
        elif loop.time() - asked[0] > SAME_REQUEST:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    def heard(number: int, _: FrameType | None) -> None:
        with suppress(RuntimeError):  # the loop is closed already
            loop.call_soon_threadsafe(ask, number)

    for wanted in (signal.SIGTERM, signal.SIGINT):
        with suppress(ValueError):  # not the main thread
            before[wanted] = signal.signal(wanted, heard)
    try:
        yield
    finally:
        for number, handler in before.items():
            # None stands for one that was not set from Python, which cannot be set from here either.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
