"""SIGTERM and SIGINT ask for a drain; a second one ends the process as usual."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress

__all__ = ["draining_on_signals"]


SAME_REQUEST = 0.5
"""Seconds within which a second signal is the first one said twice, as by a shell to a process and to its group."""


@contextmanager
def draining_on_signals(stop: Callable[[], None]) -> Generator[None]:
    """Call `stop` on the first SIGTERM or SIGINT while the body runs; only in the main thread, else do nothing."""
    loop = asyncio.get_running_loop()
    caught: list[signal.Signals] = []
    asked: list[float] = []

    def let_go() -> None:
        for number in caught:
            with suppress(NotImplementedError, RuntimeError, ValueError):
                loop.remove_signal_handler(number)

    def ask(number: signal.Signals) -> None:
        if not asked:
            asked.append(loop.time())
            stop()
        elif loop.time() - asked[0] > SAME_REQUEST:
            let_go()
            signal.raise_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        with suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, ask, number)
            caught.append(number)
    try:
        yield
    finally:
        let_go()
