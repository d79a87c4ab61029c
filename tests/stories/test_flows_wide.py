"""A wide flow survives its producer: nothing of it is real before the seal, and from there on everything is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.stories.flows import Stage, barrier, steps
from tests.stories.homes import Home
from tq import Actions, FlowStep, Join, Task, TaskHandler, connect
from tq.errors import InvalidInputError, UnknownFlowError
from tq.flow import Reconciler
from tq.ids import flow_id
from tq.model import Batch, Claim, Hop
from tq.ports import Backend
from tq.testing import VirtualClock
from tq.testing.harness import harness

COUNT = 2_000


class Wide(Stage):
    """A task "fan" that starts a flow of many steps, and a join that counts what is streamed to it."""

    def __init__(self, count: int = COUNT) -> None:
        super().__init__()
        self.count = count
        self.streamed: list[int] = []
        self.executors.executor("fan", retries=0, store_on_success=True)(self._fan)
        self.executors.executor("count", retries=0, store_on_success=True)(self._count)
        self.executors.executor("tiny", queue="media", retries=0)(self._tiny)
        self.sizes: dict[str, int] = {}

    def members(self) -> list[FlowStep]:
        return [FlowStep("tiny", queue="media", payload=number) for number in range(self.count)]

    async def _fan(self, task: Task[Any], actions: Actions) -> None:
        actions.start_flow(self.members(), join=Join("count"))
        actions.success(task)

    async def _tiny(self, task: Task[Any], actions: Actions) -> None:
        self.ran.append(task.id)
        actions.success(task, task.payload)

    async def _count(self, task: Task[Any], actions: Actions) -> None:
        self.told.append(task.payload["flow_results"])
        found = 0
        async for entry in actions.flow_results(task):
            assert (entry["step_index"], entry["status"], entry["result"]) == (found, "success", found)
            found += 1
        self.streamed.append(found)
        actions.success(task, found)


@asynccontextmanager
async def halting(backend: Backend, at: int, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[asyncio.Event]:
    """Let the commit hang for ever that would write chunk number `at`, or the seal after that many."""
    commit, seen, halted = backend.commit, 0, asyncio.Event()

    async def slow(batch: Batch, claim: Claim | None = None) -> Hop:
        nonlocal seen
        effects = [*batch.effects, *[it.effects for it in batch.settlements]]
        if any(it.chunks for it in effects) or any(flow.chunks for it in effects for flow in it.flows):
            if seen == at:
                halted.set()
                await asyncio.sleep(1e9)
            seen += sum(len(it.chunks) for it in effects)
        return await commit(batch, claim)

    monkeypatch.setattr(backend, "commit", slow)
    yield halted
    monkeypatch.undo()


async def test_others_have_their_turn_while_a_wide_flow_is_started_and_spread(
    url: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred thousand steps in one go would block the loop for seconds, and with it all that has a deadline."""
    wide, turns, between = Wide(5_000), 0, list[int]()

    async def watching() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with harness(wide.executors, url=url, clock=clock) as h:
        commit = h.handler.backend.commit

        async def noting(batch: Batch, claim: Claim | None = None) -> Hop:
            if any(it.chunks or it.spreads for it in batch.effects):
                between.append(turns)
            return await commit(batch, claim)

        monkeypatch.setattr(h.handler.backend, "commit", noting)
        watch = asyncio.create_task(watching())
        await h.handler.start_flow(wide.members(), join=Join("count"))
        assert between[0] >= 9, "between any five hundred steps that were checked"
        await Reconciler(h.handler.backend, clock).tick_due()
        watch.cancel()
        assert len(between) == 20, "ten chunks, written and spread"
        assert len(set(between)) == 20, "and others had their turn between any two of them"


@pytest.mark.parametrize("by", ["executor", "handler"])
@pytest.mark.parametrize("count", [500, 501])
async def test_a_wide_flow_begins_as_soon_as_a_narrow_one(home: Home, by: str, count: int) -> None:
    """One step more must not cost a second: who seals a plan does not wait for a round to spread it."""
    wide = Wide(count)
    handler = home.handler(wide.executors)
    await handler.start()
    await home.clock.sleep(0.5)
    if by == "executor":
        await handler.add_tasks([Task(type="fan")])
    else:
        await handler.start_flow(wide.members(), join=Join("count"))
    await home.clock.sleep(0.2)
    assert wide.ran
    await home.clock.sleep(60)
    assert wide.streamed == [count]
    await handler.close()


@pytest.mark.spec("F-18", "FLOW-13", "D-53", "INV-05")
@pytest.mark.parametrize("by", ["executor", "handler"])
async def test_two_thousand_steps_join_once_with_an_entry_for_each(url: str, clock: VirtualClock, by: str) -> None:
    wide = Wide()
    async with harness(wide.executors, url=url, clock=clock) as h:
        if by == "executor":
            await h.run(Task(type="fan"))
        else:
            await h.handler.start_flow(wide.members(), join=Join("count"))
            await h.drain()
        assert wide.streamed == [COUNT]
        assert len(set(wide.ran)) == len(wide.ran) == COUNT
        assert len(wide.only["steps"]) == COUNT
        await h.assert_quiet()


@pytest.mark.spec("F-10", "D-53")
async def test_no_message_grows_with_the_number_of_steps(
    url: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = Wide(12_000)
    async with harness(wide.executors, url=url, clock=clock) as h:
        largest, most, commit = 0, 0, h.handler.backend.commit

        async def measured(batch: Batch, claim: Claim | None = None) -> Hop:
            nonlocal largest, most
            effects = [*batch.effects, *[it.effects for it in batch.settlements]]
            bodies = [message.body for it in effects for message in it.messages]
            flows = [len(flow.join.body) + len(flow.meta) for it in effects for flow in it.flows]
            largest = max([largest, *map(len, bodies), *flows])
            most = max(most, sum(len(it.messages) + sum(len(one.messages) for one in it.chunks) for it in effects))
            return await commit(batch, claim)

        monkeypatch.setattr(h.handler.backend, "commit", measured)
        await h.run(Task(type="fan"))
        assert wide.streamed == [12_000]
        assert wide.only["manifest"] is True, "beyond ten thousand entries a join streams"
        assert wide.only["counts"] == {"success": 12_000, "fail": 0, "open": 0}
        assert largest < 2_000
        assert most <= 2_000


@pytest.mark.spec("F-09", "D-48", "D-52", "INV-02", "INV-05")
@pytest.mark.parametrize("at", [0, 4, 8, 10], ids=["first chunk", "between chunks", "last chunks", "seal"])
async def test_a_producer_killed_before_the_seal_leaves_nothing_and_its_task_starts_it_again(
    url: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    wide = Wide(5_000)
    backend = connect(url, clock=clock)
    first, second = (TaskHandler.on(backend, wide.executors, clock=clock) for _ in range(2))
    born = clock.now()
    [task_id] = await first.add_tasks([Task(type="fan")])
    async with halting(backend, at, monkeypatch) as halted:
        await first.start()
        async with clock.timeout(100):
            await halted.wait()
        await first.kill()
    with pytest.raises(UnknownFlowError):
        await second.flow(flow_id(task_id, born, 0, "#0")).status()
    await second.start()
    await clock.sleep(20)
    assert not wide.ran
    await clock.sleep(40)
    assert wide.streamed == [5_000]
    assert len(set(wide.ran)) == len(wide.ran) == 5_000
    assert (await second.flow(flow_id(task_id, born, 0, "#0")).status()).verdict == "completed"
    await second.close()
    await backend.close()


@pytest.mark.spec("INV-09", "D-48")
async def test_chunks_that_were_never_sealed_are_swept(
    url: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = Wide()
    backend = connect(url, clock=clock)
    producer = TaskHandler.on(backend, wide.executors, clock=clock)
    async with halting(backend, 3, monkeypatch) as halted:
        starting = asyncio.create_task(producer.start_flow(wide.members(), join=Join("count")))
        await halted.wait()
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
    assert (await backend.store.stats())["chunks"] == 3
    worker = TaskHandler.on(backend, wide.executors, clock=clock)
    await clock.sleep(3600)
    await worker.drain()
    assert not wide.ran, "what was not sealed never runs"
    await clock.sleep(7 * 86_400.0)
    await worker.drain()
    assert (await backend.store.stats())["chunks"] == 0
    await worker.close()
    await backend.close()


@pytest.mark.spec("F-09", "D-40", "INV-05")
async def test_a_worker_killed_while_it_spreads_is_followed_by_another(
    url: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = Wide(6_000)
    backend = connect(url, clock=clock)
    first, second = (TaskHandler.on(backend, wide.executors, clock=clock) for _ in range(2))
    flow = await first.start_flow(wide.members(), join=Join("count"))
    commit, spread, halted = backend.commit, 0, asyncio.Event()

    async def slow(batch: Batch, claim: Claim | None = None) -> Hop:
        nonlocal spread
        if any(it.spreads for it in batch.effects):
            if spread == 5:
                halted.set()
                await asyncio.sleep(1e9)
            spread += 1
        return await commit(batch, claim)

    monkeypatch.setattr(backend, "commit", slow)
    await first.start()
    async with clock.timeout(100):
        await halted.wait()
    assert (await barrier(first).get([flow]))[flow].spread == 5
    await first.kill()
    monkeypatch.undo()
    await second.start()
    await clock.sleep(60)
    assert wide.streamed == [6_000]
    assert len(set(wide.ran)) == 6_000
    assert len(wide.ran) - 6_000 <= 200, "only what ran when it was killed runs twice"
    await second.close()
    await backend.close()


async def test_a_wide_flow_cancelled_before_it_is_spread_is_not_begun(url: str, clock: VirtualClock) -> None:
    wide = Wide()
    async with harness(wide.executors, url=url, clock=clock) as h:
        flow = await h.handler.start_flow(wide.members(), join=Join("join"))
        await h.handler.flow(flow).cancel()
        await h.drain()
        assert not wide.ran
        assert await h.handler.task(f"{flow}.0").record() is None, "they were not even written"
        assert {it["status"] for it in wide.only["steps"]} == {"cancelled"}
        await h.handler.start()
        assert await h.handler.flow(flow).redrive() == COUNT
        await clock.sleep(120)
        assert len(set(wide.ran)) == COUNT, "redriven, it is"
        assert {it["status"] for it in wide.told[1]["steps"]} == {"success"}


async def test_large_payloads_make_a_flow_wide_too(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        flow = await h.handler.start_flow(steps(*[{"pad": "x" * 900_000, "result": 1}] * 12), join=Join("join"))
        assert (await barrier(h.handler).get([flow]))[flow].flow.chunks >= 10, "about a megabyte each"
        await h.drain()
        assert [it["result"] for it in stage.only["steps"]] == [1] * 12
        with pytest.raises(InvalidInputError, match="payload"):
            await h.handler.start_flow(steps("x" * 1_100_000), join=Join("join"))
