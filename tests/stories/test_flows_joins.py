"""A join runs once, when it must, and is told of every step: inline or by a manifest, and the same each time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.stories.flows import Stage, barrier, entries, projection, steps
from tq import Actions, Backoff, Entity, FlowStep, Join, Task, TaskHandler, TaskStatus, connect
from tq.errors import InvalidInputError
from tq.testing import VirtualClock
from tq.testing.harness import harness

KIB = 1024


@pytest.mark.spec("FLOW-13", "FLOW-14", "FLOW-19", "BAR-05")
async def test_the_last_step_brings_the_join_with_every_result_in_order(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        await h.handler.start()
        began = clock.monotonic()
        await stage.start(h.handler, [{"sleep": 10.0 * (12 - index), "result": {"at": index}} for index in range(12)])
        await clock.sleep(119)
        assert not stage.told, "no join before the last step"
        await clock.sleep(2)
        assert entries(stage.only) == [(index, "success", {"at": index}) for index in range(12)]
        assert stage.told_at[0] - began == pytest.approx(120, abs=0.1)


@pytest.mark.spec("FLOW-11", "FLOW-17", "D-51")
async def test_what_a_join_looks_like(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        flow = await stage.start(h.handler, [1, 2], entity=Entity("Item", "i-1"))
        await h.later(5)
        (join,) = stage.joins
        assert (join.id, join.type, join.queue_id, join.attempt) == (f"{flow}.join", "join", "default", 0)
        assert join.flow_meta is not None
        assert (join.flow_meta["is_join"], join.flow_meta["step_index"], join.flow_meta["total_steps"]) == (True, -1, 2)
        assert join.flow_meta["flow_id"] == flow
        assert join.entity is None
        assert set(join.payload) == {"flow_results"}
        assert set(join.payload["flow_results"]) == {"flow_id", "generation", "total", "verdict", "steps"}
        assert await projection(h.handler, join.id) is None, "no rows of its own"
        assert all(not (task.flow_meta or {}).get("is_join") for task in stage.seen.values())


@pytest.mark.spec("FLOW-11")
async def test_what_is_no_join_has_no_results_and_nobody_can_pretend_to_be_one(url: str, clock: VirtualClock) -> None:
    stage = Stage()

    @stage.executors.executor("plain", store_on_success=True)
    async def plain(task: Task[Any], actions: Actions) -> None:
        with pytest.raises(InvalidInputError, match="join"):
            [entry async for entry in actions.flow_results(task)]
        actions.success(task, "fine")

    async with harness(stage.executors, url=url, clock=clock) as h:
        with pytest.raises(InvalidInputError, match="flow_meta"):
            await h.add(plain.task(None, metadata={"flow_meta": {"flow_id": "f", "step_index": -1, "is_join": True}}))
        [task_id] = await h.run(plain.task(None))
        await h.assert_succeeded(task_id)
        assert not stage.told


class Streamed:
    """A join that takes what `flow_results` streams."""

    def __init__(self, stage: Stage) -> None:
        self.streams: list[list[tuple[int, str, int, str | None]]] = []
        self.told: list[dict[str, Any]] = []
        stage.executors.executor("collect", store_on_success=True)(self.collect)

    async def collect(self, task: Task[Any], actions: Actions) -> None:
        found = [entry async for entry in actions.flow_results(task)]
        self.streams.append([(it["step_index"], it["status"], len(it["result"] or ""), it["error"]) for it in found])
        self.told.append(task.payload["flow_results"])
        actions.success(task)


@pytest.mark.spec("F-11", "D-53", "FLOW-13")
@pytest.mark.parametrize("over", [0, 1], ids=["256 KiB", "one byte more"])
async def test_results_are_inline_up_to_256_kib_and_streamed_beyond(url: str, clock: VirtualClock, over: int) -> None:
    stage = Stage()
    collect = Streamed(stage)
    async with harness(stage.executors, url=url, clock=clock) as h:
        sizes = [64 * KIB - 2] * 3 + [63 * KIB - 2 + over]  # two quotation marks each, as JSON
        await h.handler.start_flow(
            [*steps(*["x" * size for size in sizes]), *steps({"fail": "e" * KIB})], join=Join("collect")
        )
        await h.drain()
        (told,), (stream,) = collect.told, collect.streams
        expected = [(index, "success", size, None) for index, size in enumerate(sizes)]
        assert stream == [*expected, (4, "fail", 0, "e" * KIB)], "the same entries either way"
        if over:
            assert told["manifest"] is True
            assert "steps" not in told, "who would read them here must not take them for none"
            assert told["counts"] == {"success": 4, "fail": 1, "open": 0}
            assert (told["total"], told["verdict"]) == (5, "completed")
        else:
            assert "manifest" not in told
            assert len(told["steps"]) == 5
        await h.assert_quiet()


@pytest.mark.spec("D-53", "D-42")
async def test_a_manifest_tells_of_those_that_were_open(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    collect = Streamed(stage)
    async with harness(stage.executors, url=url, clock=clock) as h:
        large = steps(*["x" * 200 * KIB] * 3, {"sleep": 1e5}, {"sleep": 50.0, "fail": "no"}, {"sleep": 1e5})
        await h.handler.start_flow(large, join=Join("collect"), failure_policy="abort")
        await h.handler.start()
        await clock.sleep(60)
        (told,), (stream,) = collect.told, collect.streams
        assert told["counts"] == {"success": 3, "fail": 1, "open": 2}
        assert told["aborted"] is True
        assert [entry[1] for entry in stream] == ["success"] * 3 + ["open", "fail", "open"]


@pytest.mark.spec("F-19", "D-40", "INV-05", "INV-06")
async def test_a_join_that_is_tried_again_is_told_the_same(url: str, clock: VirtualClock) -> None:
    stage = Stage()

    @stage.executors.executor("shaky", retries=3, backoff=Backoff(base=100, jitter=0), store_on_success=True)
    async def shaky(task: Task[Any], actions: Actions) -> None:
        stage.joins.append(task)
        if task.attempt < 2:
            raise ValueError("not yet")
        actions.success(task, "in the end")

    async with harness(stage.executors, url=url, clock=clock) as h:
        members = steps("a", {"sleep": 10.0, "fail": "no"}, {"sleep": 50.0, "result": "late"})
        flow = await h.handler.start_flow(members, join=Join("shaky"), failure_policy="abort")
        await h.handler.start()
        ended = await h.handler.flow(flow).wait(timeout=3600)
        assert ended.verdict == "aborted"
        assert [join.attempt for join in stage.joins] == [0, 1, 2]
        first, *others = [join.payload for join in stage.joins]
        assert entries(first["flow_results"]) == [(0, "success", "a"), (1, "fail", "no"), (2, "open", None)]
        assert all(payload == first for payload in others), "what ended meanwhile is not in it"
        await h.assert_succeeded(f"{flow}.join", "in the end")


@pytest.mark.spec("F-01", "D-40", "INV-05")
async def test_a_worker_killed_at_the_join_leaves_it_to_another(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    stage.join_sleeps = 1e6
    backend = connect(url, clock=clock)
    first, second = (TaskHandler.on(backend, stage.executors, clock=clock) for _ in range(2))
    flow = await stage.start(first, ["a", {"fail": "no"}])
    await first.start()
    await clock.sleep(5)
    assert len(stage.told) == 1
    await first.kill()
    stage.join_sleeps = 0.0
    await second.start()
    await clock.sleep(35)
    assert stage.told == [stage.told[0]] * 2, "it is told the same"
    assert [join.id for join in stage.joins] == [f"{flow}.join"] * 2
    assert [join.fence for join in stage.joins] == [1, 2]
    assert await second.task(f"{flow}.join").status() is TaskStatus.EXECUTED
    await clock.sleep(3600)
    assert len(stage.told) == 2
    await second.close()
    await backend.close()


@pytest.mark.spec("FLOW-23", "INV-05")
async def test_a_join_that_fails_for_good_is_a_dead_letter_and_not_made_again(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    stage.join_says = ValueError("cannot publish")
    async with harness(stage.executors, url=url, clock=clock) as h:
        flow = await stage.start(h.handler, ["a"])
        await h.drain()
        await h.later(3600)
        assert len(stage.told) == 1
        await h.assert_failed(f"{flow}.join", "cannot publish")
        assert (await h.handler.flow(flow).status()).verdict == "completed"
        stage.join_says = "published"
        await h.handler.dead.replay(f"{flow}.join")
        await h.drain()
        assert stage.told[0] == stage.told[1], "replayed, it is told the same"
        await h.assert_succeeded(f"{flow}.join", "published")
        await h.assert_quiet()


@pytest.mark.spec("FLOW-20")
async def test_a_join_may_start_another_flow(url: str, clock: VirtualClock) -> None:
    stage = Stage()

    @stage.executors.executor("chain")
    async def chain(task: Task[Any], actions: Actions) -> None:
        total = sum(it["result"] for it in task.payload["flow_results"]["steps"])
        actions.start_flow(steps(total, total + 1), join=Join("join"))
        actions.success(task)

    async with harness(stage.executors, url=url, clock=clock) as h:
        first = await h.handler.start_flow(steps(1, 2), join=Join("chain"), timeout=60)
        await h.drain()
        assert entries(stage.only) == [(0, "success", 3), (1, "success", 4)]
        assert stage.only["flow_id"] != first
        later = await h.handler.flow(stage.only["flow_id"]).status()
        assert later.deadline is None, "a flow of its own"
        await h.assert_quiet()


async def test_a_joins_payload_may_have_a_type(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    seen: list[Any] = []

    @stage.executors.task("typed")
    async def typed(payload: dict[str, dict[str, Any]]) -> int:
        seen.append(payload)
        return len(payload["flow_results"]["steps"])

    async with harness(stage.executors, url=url, clock=clock) as h:
        flow = await h.handler.start_flow(steps(1, 2), join=Join("typed"))
        await h.drain()
        assert seen[0]["flow_results"]["flow_id"] == flow
        assert await (await h.handler.flow(flow).join()).result() == 2


async def test_a_join_waits_for_a_worker_that_knows_it(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    backend = connect(url, clock=clock)
    worker = TaskHandler.on(backend, stage.executors, clock=clock, queues=["media"])
    flow = await stage.start(worker, ["a", "b"])
    await worker.start()
    await clock.sleep(7200)
    assert not stage.told
    other = TaskHandler.on(backend, stage.executors, clock=clock, queues=["default"])
    await other.start()
    await clock.sleep(2)
    assert entries(stage.only) == [(0, "success", "a"), (1, "success", "b")]
    assert (await other.flow(flow).status()).verdict == "completed"
    for handler in (worker, other):
        await handler.close()
    await backend.close()


@pytest.mark.spec("F-17")
async def test_waiting_for_a_flow_ends_with_its_join(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    stage.join_sleeps = 30.0
    async with harness(stage.executors, url=url, clock=clock) as h:
        flow = await stage.start(h.handler, [{"sleep": 10.0}])
        await h.handler.start()
        with pytest.raises(TimeoutError):
            await h.handler.flow(flow).wait(timeout=35)
        began = clock.monotonic()
        await h.handler.flow(flow).wait(timeout=60)
        assert clock.monotonic() - began <= 6
        assert clock.monotonic() == pytest.approx(40, abs=1.5)


@pytest.mark.spec("BAR-06", "D-43")
async def test_steps_that_end_after_a_cancel_are_not_in_the_join(url: str, clock: VirtualClock) -> None:
    stage = Stage()

    @stage.executors.executor("stubborn", queue="media", retries=0, cancel_grace=60)
    async def stubborn(task: Task[Any], actions: Actions) -> None:
        try:
            await asyncio.sleep(1e6)
        except asyncio.CancelledError:
            await asyncio.sleep(20)
        actions.success(task, "nevertheless")

    async with harness(stage.executors, url=url, clock=clock) as h:
        members = [FlowStep("stubborn", queue="media"), *steps("a")]
        flow = await h.handler.start_flow(members, join=Join("join"))
        await h.handler.start()
        await clock.sleep(5)
        assert await h.handler.flow(flow).cancel("enough")
        assert not await h.handler.flow(flow).cancel("again"), "only an open flow can be closed"
        await clock.sleep(120)
        assert entries(stage.only) == [(0, "cancelled", None), (1, "success", "a")]
        assert (stage.only["cancelled"], stage.only["reason"]) == (True, "enough")
        assert (await barrier(h.handler).get([flow]))[flow].reason == "enough"
        await h.assert_quiet()
