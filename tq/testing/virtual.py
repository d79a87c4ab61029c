"""Virtual time: an event loop that jumps to its next timer instead of waiting for it.

A system that waits for hours runs through them in milliseconds, and does the same on every run. Time stands still
while there is work to do and while a thread is at work; when nobody can ever move again, `DeadlockError` says who
waits where.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, TypeVar, TypeVarTuple, Unpack, cast

__all__ = ["START", "DeadlockError", "VirtualClock", "VirtualLoop", "run_virtual", "timers_of"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

START = 1_900_000_000.0
"""Where a virtual clock begins (2030-03-17): far from the machine's own time, so that a mix-up shows."""

PATIENCE = 30.0
"""Real seconds for which a loop waits for a thread."""

HORIZON = 5 * 366 * 86_400.0
"""Virtual seconds after which a run is taken for one that never ends."""


class DeadlockError(RuntimeError):
    """Nothing can ever happen again: no callback is ready, no timer is set, no thread is at work."""


class JumpingSelector(selectors.DefaultSelector):
    """Looks at files without waiting; where the loop would wait, `pause` does what happens instead."""

    pause: Callable[[float | None], bool]
    """Given how long the loop would wait, jumps; True where a thread is to be waited for instead."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if found or (timeout is not None and timeout <= 0) or not self.pause(timeout):
            return found
        found = super().select(PATIENCE)
        if not found:
            raise DeadlockError(f"a call in a thread has not come back for {PATIENCE:g} real seconds")
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose `time()` starts at 0 and moves only when nothing is left to do.

    Calls made through `run_in_executor` and `asyncio.to_thread` are waited for in real time. Files are looked at, but
    not waited for while a timer is set: tests that talk to a server belong on an ordinary loop.
    """

    def __init__(self) -> None:
        self._virtual_now = 0.0
        self._outside: set[Future[Any]] = set()
        self._threads: ThreadPoolExecutor | None = None
        selector = JumpingSelector()
        selector.pause = self._pause
        super().__init__(selector)
        # The loop fires what is due before `time() + resolution`. The machine's nanosecond is lost in the rounding once
        # the loop is half a year old: nothing would ever be due again.
        vars(self)["_clock_resolution"] = 1e-7

    def time(self) -> float:
        return self._virtual_now

    @property
    def outstanding(self) -> int:
        """Calls in threads that have not come back."""
        return sum(not call.done() for call in self._outside)

    def _pause(self, timeout: float | None) -> bool:
        if self._outside:
            return True
        if timeout is None:
            raise DeadlockError(f"nothing is ready, no timer is set, no thread is at work{self._who()}")
        self._virtual_now += timeout
        if self._virtual_now > HORIZON:
            raise DeadlockError(f"the run goes on for more than {HORIZON / 86_400:g} virtual days{self._who()}")
        return False

    def _who(self) -> str:
        waiting = sorted(where(task) for task in asyncio.all_tasks(self))
        return "".join(f"\n  {line}" for line in ["these wait:", *waiting]) if waiting else ""

    def run_in_executor(  # pyright: ignore[reportIncompatibleMethodOverride] -- typeshed's own two bases disagree
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        if executor is None:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(thread_name_prefix="virtual")
            executor = self._threads
        call = executor.submit(func, *args)
        answer = asyncio.wrap_future(call, loop=self)
        self._outside.add(call)
        # Added after `wrap_future` added its own: the answer is in the loop before the loop may jump again.
        call.add_done_callback(self._came_back)
        return answer

    def _came_back(self, call: Future[Any]) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self.call_soon_threadsafe(self._outside.discard, call)

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        if self._threads is not None:
            # Calls that still run are those that the run gave up; waiting for them could take for ever.
            self._threads.shutdown(wait=not self._outside, cancel_futures=True)


class VirtualClock:
    """The clock of a virtual loop: `START` plus the loop's time, plus `skew` for a machine whose clock is wrong.

    It belongs to the loop in which it is made, or else first used; made outside a loop it stands at its start.
    """

    virtual = True

    def __init__(self, *, start: float = START, skew: float = 0.0) -> None:
        self.start = start
        self.skew = skew
        self._loop: asyncio.AbstractEventLoop | None = None
        self._bind()

    def _bind(self) -> asyncio.AbstractEventLoop | None:
        if self._loop is None:
            with suppress(RuntimeError):  # no loop runs here
                self._loop = asyncio.get_running_loop()
        return self._loop

    def now(self) -> float:
        return self.start + self.skew + self.monotonic()

    def monotonic(self) -> float:
        loop = self._loop or self._bind()
        return 0.0 if loop is None else loop.time()

    async def sleep(self, delay: float) -> None:
        self._bind()
        await asyncio.sleep(max(0, delay))

    def timeout(self, delay: float | None) -> AbstractAsyncContextManager[object]:
        return asyncio.timeout(delay)


def run_virtual(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on a fresh virtual loop."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)


def where(task: asyncio.Task[Any]) -> str:
    """Return a line that tells which task this is and where it waits."""
    frames = task.get_stack(limit=1)
    place = f" at {frames[-1].f_code.co_filename}:{frames[-1].f_lineno}" if frames else ""
    return f"{task.get_name()}: {getattr(task.get_coro(), '__qualname__', task.get_coro())}{place}"


def timers_of(loop: asyncio.AbstractEventLoop) -> list[asyncio.TimerHandle]:
    """Return the timers that are set on a loop of asyncio's own."""
    return [timer for timer in cast("list[asyncio.TimerHandle]", vars(loop)["_scheduled"]) if not timer.cancelled()]
