"""Run your own executors in a test: one process, virtual time, and questions with an answer or an `AssertionError`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from tq.app.handler import TaskHandler
from tq.clock import Clock
from tq.codec import loads
from tq.errors import ConfigurationError
from tq.model import FlowState, Record, Task, TaskStatus
from tq.runner.registry import TaskQueuesManager
from tq.testing.virtual import VirtualClock, VirtualLoop

__all__ = ["Harness", "harness"]

STEP, STEPS = 10.0, 360


class Harness:
    """A handler, and short ways to ask it what became of tasks and flows.

    `run(task, …)` adds tasks and drains; `drain()` runs what is due; `later(seconds)` lets time pass, then drains.
    """

    def __init__(self, handler: TaskHandler, clock: Clock) -> None:
        self.handler = handler
        self.clock = clock

    async def add(self, *tasks: Task[Any]) -> list[str]:
        """Add tasks and return their ids; nothing runs yet."""
        return await self.handler.add_tasks(tasks)

    async def run(self, *tasks: Task[Any]) -> list[str]:
        """Add tasks and run whatever is due, and what that brings; return the ids."""
        ids = await self.handler.add_tasks(tasks)
        await self.handler.drain()
        return ids

    async def drain(self) -> None:
        """Run whatever is due now."""
        await self.handler.drain()

    async def later(self, seconds: float) -> None:
        """Let time pass: whatever falls due meanwhile runs at its time.

        Flows' deadlines, and upkeep, are looked to every ten seconds, or 360 times in all where that is less often.
        """
        end = self.clock.now() + seconds
        stride = max(STEP, seconds / STEPS)
        while (left := end - self.clock.now()) > 0:
            step = min(left, stride)
            until = self.clock.now() + step
            await self.handler.drain(within=step)
            await self.clock.sleep(until - self.clock.now())
        await self.handler.drain()

    async def record(self, task_id: str) -> Record:
        """Return what is kept of a task's ending.

        Raises:
            AssertionError: nothing is; tells where the task stands.
        """
        record = await self.handler.task(task_id).record()
        assert record is not None, f"nothing is kept of {task_id}; it is {await self.handler.task(task_id).status()}"
        return record

    async def stats(self, task_id: str) -> dict[str, Any]:
        """Return the execution stats that were kept with a task's ending."""
        record = await self.record(task_id)
        return dict(loads(record.stats)) if record.stats else {}

    async def flows(self) -> Sequence[FlowState]:
        """Return every flow, oldest first."""
        barrier = self.handler.backend.barrier
        return [] if barrier is None else list(reversed(await barrier.list(limit=1_000)))

    async def assert_succeeded(self, task_id: str, result: object = ...) -> None:
        """Assert that a task succeeded, with this result if one is given; needs a kept result."""
        record = await self.record(task_id)
        assert record.status is TaskStatus.EXECUTED, f"{task_id} {record.status}: {record.error}"
        if result is not ...:
            kept = None if record.result is None else loads(record.result)
            assert kept == result, f"the result of {task_id} is {kept!r}, not {result!r}"

    async def assert_failed(self, task_id: str, error: str = "") -> None:
        """Assert that a task failed for good, and that its error contains these words."""
        record = await self.record(task_id)
        assert record.status is not TaskStatus.EXECUTED, f"{task_id} is {record.status}"
        assert error in (record.error or ""), f"the error of {task_id} is {record.error!r}"

    async def assert_quiet(self) -> None:
        """Assert that nothing is waiting, running, held or open."""
        for part in (self.handler.backend.queue, self.handler.backend.store):
            counts = {
                queue: {kind: n for kind, n in kinds.items() if n} for queue, kinds in (await part.counts()).items()
            }
            left = {queue: kinds for queue, kinds in counts.items() if kinds}
            assert not left, f"tasks are left: {left}"
        unfinished = [state.id for state in await self.flows() if state.verdict is None or not state.confirmed]
        assert not unfinished, f"flows are open: {unfinished}"


@asynccontextmanager
async def harness(
    executors: TaskQueuesManager, *, url: str = "memory://", clock: Clock | None = None, **options: Any
) -> AsyncGenerator[Harness]:
    """Open a handler on a backend of its own; `options` are those of `TaskHandler`.

    With the default `VirtualClock` it must run on a `VirtualLoop`: the plugin's tests do, `run_virtual` does.

    Raises:
        ConfigurationError: it does not; nobody would move the clock, and `later` would never return.
    """
    clock = clock or VirtualClock()
    if clock.virtual and not isinstance(asyncio.get_running_loop(), VirtualLoop):
        raise ConfigurationError(
            "the harness runs in virtual time, which only a VirtualLoop has: call pytest with -p tq.testing.plugin, "
            "run it by tq.testing.run_virtual(…), or give clock=SystemClock() to wait in real time"
        )
    async with TaskHandler.connect(url, executors, clock=clock, **options) as handler:
        yield Harness(handler, clock)
