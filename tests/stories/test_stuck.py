"""Nothing stays for ever: not a worker behind a suspect, not a slot, not a task behind a body, not a stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tq import Actions, FlowStep, Join, Task, TaskHandler, TaskQueuesManager, TaskStatus, connect
from tq.errors import BackendUnavailableError, ContentRefusedError
from tq.model import Batch, Claim, Delivery, Hop, Message
from tq.model.events import TaskStarted
from tq.ports import Backend, Keeper
from tq.testing import VirtualClock
from tq.testing.harness import harness


class Stubborn:
    """A body that does not end when it is told to, but when it is let go."""

    def __init__(self) -> None:
        self.free = False
        self.began = 0

    async def __call__(self) -> None:
        self.began += 1
        while not self.free:
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                continue


def on(backend: Backend, executors: TaskQueuesManager, clock: VirtualClock, **options: Any) -> TaskHandler:
    return TaskHandler.on(backend, executors, clock=clock, **options)


def intercept(backend: Backend, monkeypatch: pytest.MonkeyPatch, before: Any = None, after: Any = None) -> None:
    """Let something happen before or after every commit."""
    inner = backend.commit

    async def commit(batch: Batch, claim: Claim | None = None) -> Hop:
        if before is not None:
            await before(batch)
        hop = await inner(batch, claim)
        if after is not None:
            await after(hop)
        return hop

    monkeypatch.setattr(backend, "commit", commit)


# --- suspects ---------------------------------------------------------------------------------------------------------


async def test_a_suspect_that_is_cancelled_before_its_turn_holds_up_nobody(url: str, clock: VirtualClock) -> None:
    executors, ended = TaskQueuesManager(), list[str]()

    @executors.task("suspect")
    async def suspect(payload: None) -> None:
        await asyncio.sleep(1e6)

    @executors.task("work")
    async def work(seconds: int) -> None:
        await asyncio.sleep(seconds)
        ended.append(str(seconds))

    backend = connect(url, clock=clock)
    producer = on(backend, executors, clock)
    [suspect_id] = await producer.add_tasks([suspect.task(None)])
    for _ in range(2):
        worker = on(backend, executors, clock)
        await worker.start()
        await clock.sleep(1)
        await worker.kill()
        await clock.sleep(31)
    await producer.add_tasks([work.task(120)])
    worker = on(backend, executors, clock)
    await worker.start()
    await clock.sleep(5)
    await producer.task(suspect_id).cancel()
    await clock.sleep(30)
    assert await producer.task(suspect_id).status() is TaskStatus.CANCELLED
    await producer.add_tasks([work.task(1)])
    await clock.sleep(5)
    assert ended == ["1"], "nobody waits to be alone any more, so that the worker claims again"
    await clock.sleep(200)
    assert ended == ["1", "120"]
    await worker.close()
    await backend.close()


# --- bodies that do not end -------------------------------------------------------------------------------------------


async def test_a_worker_full_of_bodies_that_do_not_end_leaves_tasks_to_others(url: str, clock: VirtualClock) -> None:
    executors, stubborn, ran = TaskQueuesManager(), Stubborn(), list[str]()

    @executors.task("stubborn", timeout=1, cancel_grace=1)
    async def _stubborn(payload: None) -> None:
        await stubborn()

    @executors.executor("work")
    async def work(task: Task[Any], actions: Actions) -> None:
        ran.append(actions.worker_id)
        actions.success(task)

    backend = connect(url, clock=clock)
    stuck, other = (on(backend, executors, clock, concurrency=2) for _ in range(2))
    await stuck.add_tasks([Task(type="stubborn") for _ in range(2)])
    await stuck.start()
    await clock.sleep(10)
    assert stubborn.began == 2
    await stuck.add_tasks([Task(type="work") for _ in range(2)])
    await clock.sleep(1)
    await other.start()
    await clock.sleep(1)
    assert ran == [other.worker_id] * 2
    await other.stop()
    stubborn.free = True
    await clock.sleep(200)
    await stuck.add_tasks([Task(type="work") for _ in range(2)])
    await clock.sleep(1)
    assert ran[2:] == [stuck.worker_id] * 2, "once they have ended, their slots are of use again"
    await stuck.close()
    await backend.close()


async def test_a_stop_leaves_bodies_behind_that_do_not_end(url: str, clock: VirtualClock) -> None:
    executors, stubborn = TaskQueuesManager(), Stubborn()

    @executors.task("stubborn")
    async def _stubborn(payload: None) -> None:
        await stubborn()

    async with harness(executors, url=url, clock=clock, grace_period=5) as h:
        [task_id] = await h.add(Task(type="stubborn"))
        await h.handler.start()
        await clock.sleep(1)
        began = clock.now()
        await h.handler.stop()
        assert clock.now() - began == pytest.approx(15), "the grace period, and what is left to a body to end"
        assert await h.handler.task(task_id).status() is TaskStatus.SCHEDULED, "given back"
        stubborn.free = True
        await clock.sleep(200)


# --- stops ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["hop", "round"])
async def test_a_stop_does_not_wait_for_a_backend_that_does_not_answer(
    url: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    executors = TaskQueuesManager()

    @executors.task("work")
    async def work(payload: None) -> None: ...

    async def hang(batch: Batch) -> None:
        if batch.settlements:
            await asyncio.Event().wait()

    async def due(now: float, limit: int) -> object:
        return await asyncio.Event().wait()

    backend = connect(url, clock=clock)
    handler = on(backend, executors, clock, grace_period=5)
    await handler.add_tasks([work.task(None)])
    if where == "hop":
        intercept(backend, monkeypatch, before=hang)
    else:
        monkeypatch.setattr(backend.barrier, "due", due)
    await handler.start()
    await clock.sleep(1)
    async with clock.timeout(60):
        await handler.stop()
    await backend.close()


async def test_what_is_claimed_while_a_stop_begins_is_given_back_unrun(
    url: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    executors, ran = TaskQueuesManager(), list[int]()

    @executors.task("work")
    async def work(payload: None) -> None:
        ran.append(1)
        await asyncio.sleep(20)

    async def late(hop: Hop) -> None:
        if hop.deliveries:
            await clock.sleep(1)

    backend = connect(url, clock=clock)
    handler = on(backend, executors, clock)
    [task_id] = await handler.add_tasks([work.task(None)])
    intercept(backend, monkeypatch, after=late)
    await handler.start()
    await clock.sleep(0.5)
    began = clock.now()
    await handler.stop()
    assert ran == []
    assert clock.now() - began < 2
    where = (await backend.queue.locate([task_id]))[task_id]
    assert (where.state, where.crashes) == ("waiting", 0)
    await backend.close()


# --- groups -----------------------------------------------------------------------------------------------------------


async def test_a_group_that_times_out_before_its_body_frees_its_slot(url: str, clock: VirtualClock) -> None:
    executors, ran, heard = TaskQueuesManager(), list[str](), list[str]()

    class Groups:
        async def on_tasks(self, tasks: Sequence[Task[Any]], actions: Actions) -> None:
            for task in tasks:
                ran.append(task.id)
                actions.success(task)

    class Slow:
        async def on_task_started(self, event: TaskStarted) -> None:
            heard.append(event.task_id)
            if len(heard) == 1:
                await clock.sleep(5)

    executors.register("groups", Groups(), multiple=True, timeout=1, chunk_size=2, store_on_success=True)
    async with harness(executors, url=url, clock=clock, concurrency=1, lifecycle=Slow(), lifecycle_mode="sync") as h:
        ids = await h.add(*[Task(type="groups", retries=1, retry_after=1) for _ in range(2)])
        await h.handler.start()
        await clock.sleep(60)
        assert sorted(ran) == sorted(ids)
        await h.assert_quiet()


# --- joins ------------------------------------------------------------------------------------------------------------


async def test_a_join_that_is_cancelled_in_line_does_not_run(url: str, clock: VirtualClock) -> None:
    executors, ran = TaskQueuesManager(), list[str]()

    @executors.executor("join", concurrency=1)
    async def join(task: Task[Any], actions: Actions) -> None:
        ran.append(task.id)
        await asyncio.sleep(60)
        actions.success(task)

    async with harness(executors, url=url, clock=clock) as h:
        await h.handler.start()
        flows = [await h.handler.start_flow([], join=Join("join")) for _ in range(3)]
        await clock.sleep(1)
        assert len(ran) == 1
        waiting = [flow for flow in flows if f"{flow}.join" not in ran]
        for flow in waiting:
            await h.handler.task(f"{flow}.join").cancel()
        await clock.sleep(300)
        assert len(ran) == 1
        for flow in waiting:
            assert await h.handler.task(f"{flow}.join").status() is TaskStatus.CANCELLED


# --- what the server refuses ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["chunks", "effects"])
async def test_a_task_whose_ending_is_refused_ends_and_the_worker_goes_on(
    url: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    executors, ran = TaskQueuesManager(), list[str]()

    @executors.executor("wide")
    async def wide(task: Task[Any], actions: Actions) -> None:
        ran.append("wide")
        actions.start_flow([FlowStep("work", payload=None)] * 1200, join=Join("work"))
        actions.success(task)

    @executors.task("work")
    async def work(payload: object) -> None:
        ran.append("work")

    async def refuse(batch: Batch) -> None:
        effects = [*batch.effects, *(it.effects for it in batch.settlements)]
        if any(one.chunks or (what == "effects" and one.records) for one in effects):
            raise ContentRefusedError("the server takes none of this")

    backend = connect(url, clock=clock)
    intercept(backend, monkeypatch, before=refuse)
    handler = on(backend, executors, clock)
    [task_id] = await handler.add_tasks([Task(type="wide")])
    await handler.start()
    await clock.sleep(100)
    await handler.add_tasks([work.task(None)])
    await clock.sleep(1)
    assert ran == ["wide", "work"]
    status = await handler.task(task_id).status()
    assert status == (TaskStatus.FAILED if what == "chunks" else "unknown")
    await handler.close()
    await backend.close()


@pytest.mark.parametrize("how", ["raises", "says"])
async def test_an_error_that_is_no_text_is_retried_like_any_other(url: str, clock: VirtualClock, how: str) -> None:
    executors, ran = TaskQueuesManager(), list[int]()

    @executors.executor("work", retries=2)
    async def work(task: Task[Any], actions: Actions) -> None:
        ran.append(task.attempt)
        if how == "raises":
            raise FileNotFoundError("no such file: \udcff.txt")
        actions.fail(task, "no such file: \udcff.txt")

    async with harness(executors, url=url, clock=clock) as h:
        [task_id] = await h.run(Task(type="work"))
        await h.later(10)
        await h.later(30)
        assert ran == [0, 1, 2]
        await h.assert_failed(task_id, r"no such file: \udcff.txt")


@pytest.mark.parametrize("stats", [b"[1]", b"no JSON", b"5"])
@pytest.mark.parametrize("type", ["good", "bad"])
async def test_stats_that_are_none_hold_up_no_slot(url: str, clock: VirtualClock, stats: bytes, type: str) -> None:
    executors = TaskQueuesManager()

    @executors.task("good")
    async def good(payload: None) -> None: ...

    @executors.task("bad")
    async def bad(payload: None) -> None:
        raise ValueError

    async with harness(executors, url=url, clock=clock, concurrency=1) as h:
        body = b'{"v":1,"id":"x","type":"%b","queue":"default"}\nnull' % type.encode()
        await h.handler.backend.queue.add([Message("x", "default", type, body, clock.now(), stats=stats)])
        await h.drain()
        await h.assert_quiet()


# --- leases -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["opening", "renewing"])
async def test_leases_are_renewed_again_after_whatever_went_wrong(
    url: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    executors, ran, faults = TaskQueuesManager(), list[int](), [BackendUnavailableError("away"), OSError("odd")]

    @executors.task("work")
    async def work(payload: None) -> None:
        ran.append(1)
        await asyncio.sleep(100)

    backend = connect(url, clock=clock)
    inner = backend.keeper

    class Faulty(Keeper):
        def __init__(self, keeper: Keeper) -> None:
            self.keeper = keeper

        async def renew(self, deliveries: Sequence[Delivery], lease: float) -> Any:
            if faults:
                raise faults.pop()
            return await self.keeper.renew(deliveries, lease)

    @asynccontextmanager
    async def keeper() -> AsyncGenerator[Keeper]:
        if where == "opening" and faults:
            raise faults.pop()
        async with inner() as found:
            yield Faulty(found)

    monkeypatch.setattr(backend, "keeper", keeper)
    first, second = on(backend, executors, clock, lease=6), on(backend, executors, clock, lease=6)
    await first.add_tasks([work.task(None)])
    await first.start()
    await clock.sleep(1)
    await second.start()
    await clock.sleep(150)
    assert ran == [1], "a lease that is renewed runs out for nobody"
    await first.close()
    await second.close()
    await backend.close()
