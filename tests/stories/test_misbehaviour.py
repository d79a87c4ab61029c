"""Executors that do what they should not: their attempt ends, and the worker lives on."""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tq import Actions, Task, TaskHandler, TaskQueuesManager, TaskStatus, connect
from tq.model import Claim
from tq.ports import Backend
from tq.runner import keeper
from tq.testing import VirtualClock
from tq.testing.harness import harness


class Quit(BaseException):
    """What no `except Exception` catches."""


def working() -> TaskQueuesManager:
    """Return one executor that does as it should."""
    executors = TaskQueuesManager()

    @executors.executor("work", store_on_success=True)
    async def work(task: Task[Any], actions: Actions) -> None:
        actions.success(task)

    return executors


ERRORS = [
    SystemExit(3),
    KeyboardInterrupt("stop"),
    GeneratorExit(),
    StopIteration(1),
    StopAsyncIteration(),
    Quit("out"),
]


@pytest.mark.spec("EXE-06", "D-06")
@pytest.mark.parametrize("error", ERRORS, ids=[type(error).__name__ for error in ERRORS])
@pytest.mark.parametrize("plain", [False, True], ids=["async", "plain"])
async def test_whatever_an_executor_raises_is_the_end_of_its_attempt_only(
    url: str, clock: VirtualClock, error: BaseException, *, plain: bool
) -> None:
    executors = working()
    if plain:

        @executors.task("rude", retries=1)
        def rude(payload: None) -> None:
            raise error
    else:

        @executors.task("rude", retries=1)
        async def rude_too(payload: None) -> None:
            raise error

    async with harness(executors, url=url, clock=clock) as h:
        rude_id, work_id = await h.run(Task(type="rude"), Task(type="work"))
        await h.assert_succeeded(work_id)
        assert await h.handler.task(rude_id).status() is TaskStatus.SCHEDULED, "it is retried like any other"
        await h.later(3)
        await h.assert_failed(rude_id)
        assert type(error).__name__ in (await h.stats(rude_id))["last_error_stack"]
        await h.assert_quiet()


@pytest.mark.parametrize("how", ["raises", "cancels its task"])
async def test_an_executor_that_cancels_itself_has_failed(url: str, clock: VirtualClock, how: str) -> None:
    executors = working()

    @executors.task("rude", concurrency=1)
    async def rude(payload: None) -> None:
        if how == "raises":
            raise asyncio.CancelledError
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(1)

    async with harness(executors, url=url, clock=clock) as h:
        first, second, work = await h.run(rude.task(None), rude.task(None), Task(type="work"))
        await h.assert_failed(first, "cancelled itself")
        await h.assert_failed(second, "cancelled itself")
        await h.assert_succeeded(work)


async def test_an_executor_that_swallows_its_cancel_may_still_say_nothing(url: str, clock: VirtualClock) -> None:
    executors, ended = working(), list[float]()

    @executors.task("rude", timeout=5, cancel_grace=60, result_ttl=60)
    async def rude(payload: None) -> str:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            await asyncio.sleep(20)
        ended.append(clock.now())
        return "as if nothing had happened"

    async with harness(executors, url=url, clock=clock) as h:
        began = clock.now()
        [task_id] = await h.run(rude.task(None))
        assert ended == [began + 25]
        await h.assert_failed(task_id, "timeout of 5 s")


@pytest.mark.realtime
@pytest.mark.spec("F-27", "D-04", "INV-03")
async def test_an_executor_that_blocks_the_loop_keeps_its_lease_and_is_warned_of(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(keeper, "BLOCKED_AFTER", 0.3)
    monkeypatch.setattr(keeper, "TICK", 0.05)
    url = f"{url}/{tmp_path}/tq.db" if url.startswith("sqlite") else url
    executors, backend = TaskQueuesManager(), connect(url)
    stolen: list[int] = []

    @executors.task("rude", store_on_success=True)
    async def rude(payload: None) -> None:
        await asyncio.sleep(0)
        with ThreadPoolExecutor(1) as thread:
            until = time.monotonic() + 0.8
            while time.monotonic() < until:
                time.sleep(0.05)  # noqa: ASYNC251 -- the point
                stolen.append(thread.submit(asyncio.run, steal(url, backend)).result())

    handler = TaskHandler(
        queue=backend.queue,
        store=backend.store,
        barrier=backend.barrier,
        executors=executors,
        lease=0.4,
        grace_period=1,
    )
    [task_id] = await handler.add_tasks([rude.task(None)])
    await handler.start()
    with caplog.at_level(logging.WARNING):
        await handler.task(task_id).result(timeout=5)
    assert len(stolen) > 3
    assert sum(stolen) == 0, "the lease is twice as short as the block"
    assert caplog.text.count("the event loop has been blocked") == 1
    record = await handler.task(task_id).record()
    assert record is not None
    assert record.fence == 1
    await handler.close()
    await backend.close()


async def steal(url: str, backend: Backend) -> int:
    """Claim what is due, as another process would; return how much came."""
    other = connect(url) if url.startswith("sqlite") else backend
    claimed = await other.queue.claim(Claim(("default",), 10, f"thief:{time.monotonic_ns()}", 30))
    if other is not backend:
        await other.close()
    return len(claimed.deliveries)
