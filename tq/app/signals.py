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

    Whoever listened before, such as `asyncio.run` to Ctrl-C, listens again afterwards: the loop itself would put the
    default in their place. Handlers that were set on the loop are the exception, which tells nobody of them.
    """
    loop = asyncio.get_running_loop()
    before: dict[signal.Signals, Handler] = {}
    asked: list[float] = []

    def ask(number: signal.Signals) -> None:
        if not asked:
            asked.append(loop.time())
            stop()
        elif loop.time() - asked[0] > SAME_REQUEST:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        listening = signal.getsignal(number)
        with suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, ask, number)
            before[number] = listening
    try:
        yield
    finally:
        for number, listening in before.items():
            loop.remove_signal_handler(number)
            # None stands for one that was not set from Python, and cannot be set from here either.
            signal.signal(number, signal.SIG_DFL if listening is None else listening)
