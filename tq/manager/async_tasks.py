"""Tracks running bodies outside the line: bounded in number, bounded in age, ended in order."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from tq.clock import Clock, SystemClock, seconds
from tq.errors import HungTaskError, InvalidInputError
from tq.lifecycle import Service
from tq.model import Task

from .figures import AsyncTaskMetrics, ShutdownResult
from .slots import Slot, Slots

__all__ = ["AsyncTaskManager"]

log = logging.getLogger("tq.manager")

OnTimeout = Callable[[str, Task[Any], float], Awaitable[None] | None]


class Entry:
    """One tracked body; told from others by identity, for an id may come again (D-23)."""

    __slots__ = ("abandon", "evict", "limit", "running", "slot", "started_at", "task")

    def __init__(
        self,
        task: Task[Any],
        running: asyncio.Task[Any],
        slot: Slot,
        started_at: float,
        limit: float,
        evict: Callable[[HungTaskError], None] | None,
        abandon: Callable[[], None] | None,
    ) -> None:
        self.task = task
        self.running = running
        self.slot = slot
        self.started_at = started_at
        self.limit = limit
        self.evict = evict
        self.abandon = abandon


class AsyncTaskManager(Service):
    """Cares for bodies that were handed over: how many run, for how long, and what becomes of them at the end.

    Args:
        max_tasks: bodies tracked at once (ATM-01).
        sweep_interval: seconds between looks at the ages; 0 or less switches them off (ATM-19).
        default_max_duration: seconds after which a body is ended, unless it has a limit of its own (ATM-06).
        on_task_timeout: called for each body so ended, as `(task id, task, seconds)`; plain or async (ATM-07).
        shutdown_grace_period: seconds for which `shutdown` waits for what runs (ATM-15).
        clock: where the present comes from; the machine's, or what `use_clock` says.

    Raises:
        InvalidInputError: a setting is refused; it says which, and what to give instead.
    """

    def __init__(
        self,
        max_tasks: int = 100,
        *,
        sweep_interval: float | timedelta = 5.0,
        default_max_duration: float | timedelta = 600.0,
        on_task_timeout: OnTimeout | None = None,
        shutdown_grace_period: float | timedelta = 10.0,
        clock: Clock | None = None,
    ) -> None:
        super().__init__()
        if type(max_tasks) is not int or max_tasks < 0:  # users pass anything; True is no number of tasks
            raise InvalidInputError("max_tasks", max_tasks, "give a whole number, zero or more")
        interval = sweep_interval.total_seconds() if isinstance(sweep_interval, timedelta) else sweep_interval
        self._sweep_interval = interval if interval <= 0 else seconds("sweep_interval", interval)
        self._max_duration = seconds("default_max_duration", default_max_duration)
        self._grace = seconds("shutdown_grace_period", shutdown_grace_period)
        self._on_timeout = on_task_timeout
        self._own_clock = clock is not None
        self._clock = clock or SystemClock()
        self._slots = Slots(max_tasks)
        self._tracked: dict[str, Entry] = {}
        self._ending: set[Entry] = set()
        self._accepting = True
        self._closing = asyncio.Lock()
        self._hurry = asyncio.Event()
        """Set once nothing is left to wait for, or nobody wants to wait any longer."""
        self._completed_late = 0
        """Completed while shutting down."""
        self._result: ShutdownResult | None = None
        self.reset_counters()

    def use_clock(self, clock: Clock) -> None:
        """Read this clock, unless one was given at construction: the handler's, which a user need not repeat."""
        if not self._own_clock:
            self._clock = clock

    @property
    def grace_period(self) -> float:
        """Seconds for which `shutdown` waits."""
        return self._grace

    # --- taking tasks -------------------------------------------------------------------------------------------------

    def can_accept_task(self, type: str | None = None, limit: int | None = None) -> bool:
        """Tell whether a task would be taken now: accepting, room in all, and room for its type (ATM-14, D-27)."""
        return self._accepting and self._slots.free(type, limit)

    def reserve(self, task: Task[Any], *, limit: int | None = None) -> Slot | None:
        """Take a slot for `task` before its custody moves (D-20, D-28); None, and one more rejection, if refused.

        Refused as `handoff_task` refuses. Whoever reserves gives the slot to `handoff_task`, or releases it.
        """
        if self._refuses(task, limit):
            self._rejected += 1
            return None
        return self._slots.take(task.type)

    def _refuses(self, task: Task[Any], limit: int | None) -> bool:
        return not task.id or not self._accepting or task.id in self._tracked or not self._slots.free(task.type, limit)

    def handoff_task(
        self,
        task: Task[Any],
        running: asyncio.Task[Any],
        *,
        timeout: float | timedelta | None = None,
        limit: int | None = None,
        evict: Callable[[HungTaskError], None] | None = None,
        abandon: Callable[[], None] | None = None,
        slot: Slot | None = None,
    ) -> bool:
        """Track a running body from now on; False if refused, and then nothing but `total_rejected` has changed.

        Refused, in this order: a task without id, while shutting down, an id that is tracked already, when full, when
        `limit` bodies of its type are tracked (ATM-01, ATM-02, D-27). A slot that was reserved is room enough, also
        while shutting down: its task's custody has moved already.

        Args:
            task: whose body runs.
            running: the body; it is cancelled on eviction and at the end of a shutdown.
            timeout: seconds after which it is ended, instead of the manager's own limit; 0 is at the next sweep.
            limit: most bodies of this task's type (`max_concurrent_async`).
            evict: called as the body is cancelled for its age: the caller settles the task as failed (D-22).
            abandon: called as the body is cancelled by a shutdown: the caller gives the task back (D-63).
            slot: from `reserve`.
        """
        own_limit = self._max_duration if timeout is None else seconds("timeout", timeout)
        if slot is None:
            refused = self._refuses(task, limit)
        else:
            refused = not task.id or self._result is not None or task.id in self._tracked
        if refused:
            self._rejected += 1
            return False
        slot = slot or self._slots.take(task.type)
        slot.held = True
        entry = Entry(task, running, slot, self._clock.monotonic(), own_limit, evict, abandon)
        self._tracked[task.id] = entry
        self._handed_off += 1
        running.add_done_callback(lambda _: self._ended(entry))
        return True

    def _ended(self, entry: Entry) -> None:
        """The body has really ended: only now its slot is free (D-22)."""
        entry.slot.free()
        self._ending.discard(entry)
        if self._tracked.get(entry.task.id) is entry:
            del self._tracked[entry.task.id]
            self._completed += 1
            self._completed_late += not self._accepting
        if not entry.running.cancelled():
            entry.running.exception()  # its error is the runner's to tell; here it is only seen, so that none is "lost"
        if not self._accepting and not self._tracked and not self._ending:
            self._hurry.set()

    # --- what is told -------------------------------------------------------------------------------------------------

    def is_handed_off(self, task_id: object) -> bool:
        """Tell whether a body is tracked under this id (ATM-14)."""
        return str(task_id) in self._tracked

    def get_oldest_task_age(self) -> float:
        """Return the age, in seconds, of the body that has run for longest outside the line; 0 when idle (ATM-12)."""
        starts = [entry.started_at for entry in (*self._tracked.values(), *self._ending)]
        return self._clock.monotonic() - min(starts) if starts else 0.0

    def get_metrics(self) -> AsyncTaskMetrics:
        """Return the figures of this instant (ATM-11)."""
        active, size = len(self._tracked) + len(self._ending), self._slots.size
        return AsyncTaskMetrics(
            active_task_count=active,
            ending_task_count=len(self._ending),
            total_handed_off=self._handed_off,
            total_completed=self._completed,
            total_rejected=self._rejected,
            total_timed_out=self._timed_out,
            oldest_task_age=self.get_oldest_task_age(),
            max_tasks=size,
            utilization_percent=active / size * 100 if size else 0.0,
        )

    def reset_counters(self) -> None:
        """Set the four totals to zero, and nothing else (ATM-13)."""
        self._handed_off = self._completed = self._rejected = self._timed_out = 0

    # --- age ----------------------------------------------------------------------------------------------------------

    def sweep(self, now: float | None = None) -> list[str]:
        """End every body that is older than its limit at `now`; return their ids (ATM-05, ATM-09).

        `now` is a reading of the clock's `monotonic`: nobody grows older because a clock was put right. What is
        ended is untracked, counted, cancelled and told; it keeps its slot until it has really ended (D-22, ATM-10).
        """
        at = self._clock.monotonic() if now is None else now
        hung = [
            entry
            for entry in self._tracked.values()
            if at - entry.started_at > entry.limit and not entry.running.done()
        ]
        for entry in hung:
            self._evict(entry, at - entry.started_at)
        return [entry.task.id for entry in hung]

    def _evict(self, entry: Entry, age: float) -> None:
        task = entry.task
        self._timed_out += 1
        error = HungTaskError(f"task {task.id} ran for {age:g} s outside the line, {entry.limit:g} s are allowed")
        log.warning("%s; its body is cancelled", error)
        evict = entry.evict
        self._end(entry, None if evict is None else lambda: evict(error))
        if self._on_timeout is None:
            return
        try:
            told = self._on_timeout(task.id, task, age)
        except Exception:
            log.exception("on_task_timeout raised for task %s", task.id)
            return
        if inspect.isawaitable(told):
            self._spawner.spawn(_contained(told, task.id), f"on_task_timeout {task.id}")

    def _end(self, entry: Entry, settle: Callable[[], None] | None) -> None:
        """Untrack and cancel a body; the runner is told first, so that it knows why its body is cancelled."""
        del self._tracked[entry.task.id]
        self._ending.add(entry)
        before = entry.running.cancelling()
        try:
            if settle is not None:
                settle()
        except Exception:
            log.exception("the runner could not settle task %s", entry.task.id)
        if entry.running.cancelling() == before:  # asked twice, the body would be interrupted in its clean-up
            entry.running.cancel()

    async def _main(self) -> None:
        if self._sweep_interval <= 0:
            await self._stopping.wait()
        while not self._stopping.is_set():
            try:
                async with self._clock.timeout(self._sweep_interval):
                    await self._stopping.wait()
            except TimeoutError:
                self.sweep()

    # --- the end ------------------------------------------------------------------------------------------------------

    async def shutdown(self, signal: asyncio.Event | None = None) -> ShutdownResult:
        """Refuse new tasks from now on, and wait for those that run (ATM-15).

        Returns when all have ended, the grace period is over, or `signal` is set, whichever comes first (ATM-17). What
        still runs then is abandoned: cancelled, and given back by `abandon` so that it runs elsewhere at once (D-63).
        A further call returns the same result; its signal counts as well.
        """
        self._accepting = False
        self._stopping.set()
        watch = None if signal is None else self._spawner.spawn(self._watch(signal), "shutdown signal")
        try:
            async with self._closing:
                if self._result is None:
                    self._result = await self._drain()
        finally:
            if watch is not None:
                watch.cancel()
        return self._result

    async def _watch(self, signal: asyncio.Event) -> None:
        await signal.wait()
        self._hurry.set()

    async def _drain(self) -> ShutdownResult:
        if self._tracked or self._ending:
            try:
                async with self._clock.timeout(self._grace):
                    await self._hurry.wait()
            except TimeoutError:
                pass
        left = [entry for entry in self._tracked.values() if not entry.running.done()]
        completed = self._completed_late + len(self._tracked) - len(left)
        for entry in left:
            self._end(entry, entry.abandon)
        if left:
            log.warning("%d tasks were still running and are given back", len(left))
        return ShutdownResult(
            completed_during_grace=completed, abandoned_task_ids=tuple(entry.task.id for entry in left)
        )

    async def stop(self) -> None:
        """Shut down, then wait until all is quiet."""
        await self.shutdown()
        await super().stop()


async def _contained(told: Awaitable[None], task_id: str) -> None:
    try:
        await told
    except Exception:
        log.exception("on_task_timeout raised for task %s", task_id)
