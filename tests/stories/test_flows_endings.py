"""Whichever way a step ends, it counts, once; and nothing that comes later opens what is closed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.stories.flows import Stage, entries
from tq import Actions, AsyncTaskManager, FlowStep, Join, Task, TaskHandler, TaskStatus, connect
from tq.codec import amend_body
from tq.model import Batch, Claim, Hop, Message
from tq.testing import VirtualClock
from tq.testing.harness import Harness, harness


@pytest.fixture(autouse=True)
def nothing_repaired(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Every ending counts by itself: none is found later, by looking over open flows."""
    yield
    words = [record.getMessage() for record in caplog.get_records("call")]
    assert not [it for it in words if "was not counted" in it or "counts as failed: lost" in it]


async def start(h: Harness, step: FlowStep) -> str:
    """Start a flow of a step that succeeds and the one that the story is about."""
    return await h.handler.start_flow([FlowStep("step", queue="media", payload="ok"), step], join=Join("join"))


def counted(stage: Stage, status: str, error: str) -> None:
    """Check that the join ran once, and was told how the second step ended."""
    first, second = entries(stage.only)
    assert first == (0, "success", "ok")
    assert second[:2] == (1, status)
    assert error in second[2], second
    assert stage.only["verdict"] == "completed"


@pytest.mark.spec("F-02", "D-47", "FLOW-15", "FLOW-18")
@pytest.mark.parametrize(
    ("payload", "error"),
    [
        ({"fail": "said no"}, "said no"),
        ({"fail": None}, "Step failed"),
        ({"raise": "raised"}, "raised"),
        ({"final": "never"}, "never"),
    ],
    ids=["recorded", "recorded without words", "raised", "not retryable"],
)
async def test_a_final_failure_counts(url: str, clock: VirtualClock, payload: Any, error: str) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        await start(h, FlowStep("step", queue="media", payload=payload))
        await h.drain()
        counted(stage, "fail", error)
        await h.assert_quiet()


@pytest.mark.spec("FLOW-14", "D-47")
async def test_a_failure_that_is_tried_again_does_not_count_the_last_one_does(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        flow = await start(h, FlowStep("step", queue="media", payload={"fail": "no"}, retries=2, retry_after=10.0))
        await h.handler.start()
        for moment, runs in ((5, 1), (15, 2)):
            await clock.sleep(moment - clock.monotonic())
            assert stage.runs[f"{flow}.1"] == runs
            assert not stage.told
            assert (await h.handler.flow(flow).status()).remaining == 1
        await clock.sleep(60)
        assert stage.runs[f"{flow}.1"] == 3
        counted(stage, "fail", "no")


@pytest.mark.spec("D-47", "D-07")
async def test_an_executor_that_says_nothing_has_failed(url: str, clock: VirtualClock) -> None:
    stage = Stage()

    @stage.executors.executor("mute", queue="media", retries=0)
    async def mute(task: Task[Any], actions: Actions) -> None: ...

    async with harness(stage.executors, url=url, clock=clock) as h:
        await start(h, FlowStep("mute", queue="media"))
        await h.drain()
        counted(stage, "fail", "outcome")


@pytest.mark.spec("D-47", "D-35")
async def test_an_expiry_counts(url: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        commit = h.handler.backend.commit

        def expiring(message: Message) -> Message:
            if not message.id.endswith(".1"):
                return message
            return message._replace(body=amend_body(message.body, expires_at=clock.now() + 5))

        async def amended(batch: Batch, claim: Claim | None = None) -> Hop:
            effects = [it._replace(messages=tuple([expiring(one) for one in it.messages])) for it in batch.effects]
            return await commit(replace(batch, effects=effects), claim)

        monkeypatch.setattr(h.handler.backend, "commit", amended)
        flow = await start(h, FlowStep("step", queue="media", payload="too late"))
        monkeypatch.undo()
        await clock.sleep(6)  # nobody works meanwhile
        await h.drain()
        assert stage.ran == [f"{flow}.0"]
        counted(stage, "fail", "expired")
        assert await h.handler.task(f"{flow}.1").status() is TaskStatus.EXPIRED


@pytest.mark.spec("D-47")
@pytest.mark.parametrize("running", [False, True], ids=["waiting", "running"])
async def test_a_cancel_of_one_step_counts(url: str, clock: VirtualClock, running: bool) -> None:  # noqa: FBT001 -- drawn
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        flow = await start(h, FlowStep("step", queue="media", payload={"sleep": 1000.0}))
        if running:
            await h.handler.start()
            await clock.sleep(5)
        assert await h.handler.task(f"{flow}.1").cancel()
        if running:
            await clock.sleep(40)
        else:
            await h.drain()
        counted(stage, "cancelled", "cancelled")
        assert (f"{flow}.1" in stage.ran) is running
        status = await h.handler.flow(flow).status()
        assert (status.succeeded, status.failed) == (1, 1), "a step cancelled alone counts as a failure"


@pytest.mark.spec("D-47")
async def test_a_type_that_nobody_knows_counts_after_the_grace(
    url: str, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock, unknown_grace=600) as h:
        flow = await start(h, FlowStep("of.tomorrow", queue="media"))
        await h.handler.start()
        await clock.sleep(590)
        assert not stage.told
        await clock.sleep(100)
        counted(stage, "fail", "of.tomorrow")
        assert "was not counted" not in caplog.text, "it counts by itself, not because it is missed"
        assert await h.handler.task(f"{flow}.1").status() is TaskStatus.IGNORED


@pytest.mark.spec("D-47")
async def test_a_payload_that_does_not_fit_counts(url: str, clock: VirtualClock) -> None:
    stage = Stage()

    @stage.executors.task("typed", queue="media")
    async def typed(payload: int) -> None: ...

    backend = connect(url, clock=clock)
    producer = TaskHandler.on(backend, clock=clock)
    worker = TaskHandler.on(backend, stage.executors, clock=clock)
    members = [FlowStep("step", queue="media", payload="ok"), FlowStep("typed", queue="media", payload="no number")]
    await producer.start_flow(members, join=Join("join"))
    await worker.drain()
    counted(stage, "fail", "no number")
    await worker.close()
    await producer.close()
    await backend.close()


@pytest.mark.spec("F-02", "D-47")
@pytest.mark.parametrize("most", [0, 1])
async def test_a_step_that_kills_its_workers_counts_at_the_cap(url: str, clock: VirtualClock, most: int) -> None:
    stage, deaths = Stage(), list[float]()

    @stage.executors.executor("poison", queue="media", max_crashes=most)
    async def poison(task: Task[Any], actions: Actions) -> None:
        deaths.append(clock.now())
        await asyncio.sleep(1e9)

    backend = connect(url, clock=clock)
    while not stage.told and len(deaths) < 9:
        worker = TaskHandler.on(backend, stage.executors, clock=clock)
        if not deaths:
            await start(Harness(worker, clock), FlowStep("poison", queue="media"))
        await worker.start()
        before = len(deaths)
        for _ in range(60):
            await clock.sleep(1)
            if len(deaths) > before or stage.told:
                break
        if stage.told:
            await worker.close()
        else:
            await worker.kill()
    counted(stage, "fail", "died")
    assert len(deaths) == (1 if most == 0 else 3), "two in company, then once alone"
    await backend.close()


@pytest.mark.spec("D-47")
async def test_an_attempt_that_takes_too_long_counts(url: str, clock: VirtualClock) -> None:
    stage = Stage()

    @stage.executors.executor("slow", queue="media", timeout=20, retries=0)
    async def slow(task: Task[Any], actions: Actions) -> None:
        await asyncio.sleep(1e9)

    async with harness(stage.executors, url=url, clock=clock) as h:
        await start(h, FlowStep("slow", queue="media"))
        await h.handler.start()
        await clock.sleep(40)
        counted(stage, "fail", "20")


@pytest.mark.spec("D-25", "D-26", "D-47")
@pytest.mark.parametrize("fate", ["success", "fail", "swept"])
async def test_a_step_in_the_managers_care_counts(url: str, clock: VirtualClock, fate: str) -> None:
    stage = Stage()

    @stage.executors.executor("long", queue="media", handoff_timeout=5, max_duration=100, retries=0)
    async def long(task: Task[Any], actions: Actions) -> None:
        await asyncio.sleep(1e9 if fate == "swept" else 50)
        if fate == "fail":
            actions.fail(task, "after all")
        else:
            actions.success(task, "at last")

    manager = AsyncTaskManager(clock=clock)
    async with harness(stage.executors, url=url, clock=clock, async_tasks=manager) as h:
        await start(h, FlowStep("long", queue="media"))
        await h.handler.start()
        await clock.sleep(30)
        assert not stage.told
        await clock.sleep(400)
        if fate == "success":
            assert entries(stage.only)[1] == (1, "success", "at last")
        else:
            counted(stage, "fail", "after all" if fate == "fail" else "swept")


@pytest.mark.spec("D-25")
async def test_a_flow_started_after_the_hand_over_is_started(url: str, clock: VirtualClock) -> None:
    stage = Stage()

    @stage.executors.executor("long", handoff_timeout=5)
    async def long(task: Task[Any], actions: Actions) -> None:
        await asyncio.sleep(50)
        actions.start_flow([FlowStep("step", queue="media", payload=1)], join=Join("join"))
        actions.success(task)

    async with harness(stage.executors, url=url, clock=clock, async_tasks=AsyncTaskManager(clock=clock)) as h:
        await h.add(long.task(None))
        await h.handler.start()
        await clock.sleep(55)
        assert entries(stage.only) == [(0, "success", 1)]


@pytest.mark.spec("D-47", "D-41")
async def test_an_error_that_the_server_refuses_counts_as_a_failure(url: str, clock: VirtualClock) -> None:
    """A lone surrogate has no place in any server's text."""
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        other = await stage.start(h.handler, ["neighbour"])

        @stage.executors.executor("odd", queue="media", retries=0)
        async def odd(task: Task[Any], actions: Actions) -> None:
            actions.fail(task, "\ud800")

        odd_flow = await h.handler.start_flow([FlowStep("odd", queue="media")], join=Join("join"))
        await h.drain()
        await h.later(120)
        told = {it["flow_id"]: it for it in stage.told}
        assert len(stage.told) == 2
        assert entries(told[other]) == [(0, "success", "neighbour")]
        assert entries(told[odd_flow])[0][1] == "fail"
        await h.assert_quiet()


# --- afterwards -------------------------------------------------------------------------------------------------------


@pytest.mark.spec("D-43", "D-48", "INV-05")
async def test_replaying_a_dead_step_never_opens_a_closed_flow(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        flow = await start(h, FlowStep("step", queue="media", payload={"fail": "no"}))
        await h.drain()
        before = await h.handler.flow(flow).status()
        for _ in range(2):
            assert list(await h.handler.dead.replay(f"{flow}.1")) == [f"{flow}.1"]
            await h.drain()
        assert stage.runs[f"{flow}.1"] == 3, "the replayed step does run"
        assert await h.handler.flow(flow).status() == before
        assert len(stage.told) == 1
        await h.later(3600)
        assert len(stage.told) == 1
        await h.assert_quiet()


@pytest.mark.spec("D-43", "D-48", "INV-06")
async def test_replaying_a_step_that_ended_after_the_verdict_counts_nowhere(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        late = {"sleep": 20.0, "fail": "too late to matter"}
        flow = await stage.start(h.handler, [{"fail": "no"}, late], failure_policy="abort")
        await h.drain()
        before = await h.handler.flow(flow).status()
        assert (before.failed, before.remaining, before.verdict) == (1, 1, "aborted")
        assert list(await h.handler.dead.replay(f"{flow}.1")) == [f"{flow}.1"]
        await h.drain()
        assert stage.runs[f"{flow}.1"] == 2
        assert await h.handler.flow(flow).status() == before
        assert [it[1] for it in entries(stage.only)] == ["fail", "open"]
        await h.assert_quiet()


async def test_a_dead_step_replayed_while_its_flow_is_open_counts_once(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        flow = await stage.start(h.handler, [{"fail": "no"}, {"sleep": 50.0, "result": "ok"}])
        await h.handler.start()
        await clock.sleep(5)
        await h.handler.task(f"{flow}.0").retry()
        await clock.sleep(100)
        assert stage.runs[f"{flow}.0"] == 2
        assert entries(stage.only) == [(0, "fail", "no"), (1, "success", "ok")], "its first ending stands"


@pytest.mark.spec("F-06", "D-48", "INV-09")
async def test_a_closed_flow_is_remembered_and_then_forgotten_an_open_one_never(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    day = 86_400.0

    async def days_later(count: float) -> None:
        await clock.sleep(count * day)
        await h.drain()

    async with harness(stage.executors, url=url, clock=clock) as h:
        h.handler.executors.queue("elsewhere")
        closed = await stage.start(h.handler, ["a"])
        open_ = await h.handler.start_flow([FlowStep("t", queue="elsewhere")], join=Join("join"))
        await h.drain()
        await days_later(6.9)
        assert (await h.handler.flow(closed).status()).verdict == "completed"
        await days_later(0.2)
        assert [state.id for state in await h.flows()] == [open_]
        await days_later(60)
        assert (await h.handler.flow(open_).status()).verdict is None, "a flow may wait for weeks"
