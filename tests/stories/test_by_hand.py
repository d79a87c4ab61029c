"""Whoever goes a worker's rounds by hand may stop waiting for them: what is held is given back, as no crash."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tq import Actions, AsyncTaskManager, Task, TaskHandler, TaskQueuesManager, TaskStatus, connect
from tq.errors import BackendUnavailableError
from tq.ports import Backend
from tq.testing import VirtualClock


def sleeping(began: list[str], **options: Any) -> TaskQueuesManager:
    """Return an executor "work" that sleeps as long as its payload says."""
    executors = TaskQueuesManager()

    @executors.executor("work", store_on_success=True, max_crashes=0, **options)
    async def work(task: Task[float], actions: Actions) -> None:
        began.append(task.id)
        await asyncio.sleep(task.payload)
        actions.success(task, task.id)

    return executors


def work(id: str, seconds: float) -> Task[float]:
    return Task(type="work", payload=seconds, id=id)


async def left_alone(backend: Backend, *ids: str) -> bool:
    """Tell whether these wait as if nobody had ever had them."""
    places = await backend.queue.locate(ids)
    return [(it.attempt, it.crashes, it.lease_until) for it in places.values()] == [(0, 0, 0.0)] * len(ids)


@pytest.mark.parametrize("handoff", [None, 2.0], ids=["in line", "handed over"])
@pytest.mark.parametrize("how", ["drain", "process_batch"])
async def test_cancelled_it_gives_back_what_it_holds_and_counts_no_crash(
    url: str, clock: VirtualClock, how: str, handoff: float | None
) -> None:
    began, backend = list[str](), connect(url, clock=clock)
    executors = sleeping(began, concurrency=2, handoff_timeout=handoff)
    handler = TaskHandler.on(backend, executors, clock=clock, async_tasks=AsyncTaskManager())
    await handler.add_tasks([work("quick", 1), *(work(id, 500) for id in "abc")])
    arguments = ("default",) if how == "process_batch" else ()
    at = clock.now()
    with pytest.raises(TimeoutError):
        async with clock.timeout(5):
            await getattr(handler, how)(*arguments)
    assert clock.now() - at < 5.1
    assert await left_alone(backend, "a", "b", "c")
    assert await handler.task("quick").result() == "quick", "what had ended is written"
    await clock.sleep(100)
    await handler.drain()
    assert await handler.task("c").result() == "c", "it may be gone on with"
    assert await handler.dead.list() == []
    await handler.close()
    await backend.close()


async def test_cancelled_in_the_midst_of_a_hop_it_gives_back_what_that_has_claimed(
    url: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, backend = list[str](), connect(url, clock=clock)
    handler = TaskHandler.on(backend, sleeping(began), clock=clock)
    await handler.add_tasks([work("a", 1)])
    commit = backend.commit

    async def slow(*arguments: Any) -> Any:
        hop = await commit(*arguments)
        await clock.sleep(2)
        return hop

    monkeypatch.setattr(backend, "commit", slow)
    with pytest.raises(TimeoutError):
        async with clock.timeout(1):
            await handler.drain()
    assert began == []
    assert await left_alone(backend, "a")
    await handler.close()
    await backend.close()


@pytest.mark.parametrize("how", ["drain", "process_batch"])
async def test_what_a_failing_batch_leaves_behind_is_written_when_the_handler_closes(
    url: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    began, backend = list[str](), connect(url, clock=clock)
    handler = TaskHandler.on(backend, sleeping(began), clock=clock)
    await handler.add_tasks([work("a", 1), work("b", 10)])
    hop = backend.commit
    fault: list[BaseException] = []

    async def failing(*arguments: Any) -> Any:
        if fault:
            raise fault[0]
        return await hop(*arguments)

    monkeypatch.setattr(backend, "commit", failing)
    asyncio.get_running_loop().call_later(0.5, fault.append, RuntimeError("a fault of the adapter's"))
    arguments = ("default",) if how == "process_batch" else ()
    with pytest.raises(RuntimeError):
        await getattr(handler, how)(*arguments)
    fault.clear()
    await clock.sleep(1)
    await handler.close()
    assert await handler.task("b").result() == "b"
    assert began == ["a", "b"]
    await backend.close()


async def test_a_batch_that_fails_leaves_the_worker_able_to_claim(
    url: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, backend = list[str](), connect(url, clock=clock)
    handler = TaskHandler.on(backend, sleeping(began), clock=clock)
    await handler.add_tasks([work("a", 1)])
    hop, calls = backend.commit, list[object]()

    async def failing(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            raise RuntimeError("a fault of the adapter's")
        return await hop(*arguments)

    monkeypatch.setattr(backend, "commit", failing)
    with pytest.raises(RuntimeError):
        await handler.process_batch("default")
    await handler.add_tasks([work("b", 1)])
    await handler.drain()
    assert await handler.task("b").result() == "b"
    await handler.close()
    await backend.close()


async def test_a_stop_beside_a_drain_waits_for_its_bodies_as_for_any(url: str, clock: VirtualClock) -> None:
    began, backend = list[str](), connect(url, clock=clock)
    handler = TaskHandler.on(backend, sleeping(began), clock=clock, grace_period=30)
    await handler.add_tasks([work("short", 10), work("long", 500)])
    draining = asyncio.create_task(handler.drain())
    await clock.sleep(1)
    await handler.stop()
    await draining
    assert await handler.task("short").result() == "short"
    assert await handler.task("long").status() is TaskStatus.SCHEDULED
    assert await left_alone(backend, "long")
    await handler.close()
    await backend.close()


async def test_a_server_that_is_away_is_not_waited_for_by_who_has_gone(
    url: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, backend = list[str](), connect(url, clock=clock)
    handler = TaskHandler.on(backend, sleeping(began), clock=clock)
    await handler.add_tasks([work("a", 500)])
    draining = asyncio.create_task(handler.drain())
    await clock.sleep(1)
    commit = backend.commit

    async def away(*_: Any) -> Any:
        raise BackendUnavailableError("no answer")

    monkeypatch.setattr(backend, "commit", away)
    at = clock.now()
    draining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await draining
    assert clock.now() - at < 11
    monkeypatch.setattr(backend, "commit", commit)
    await handler.close()
    assert await left_alone(backend, "a"), "the last hop gives it back"
    await backend.close()
