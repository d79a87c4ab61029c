"""A deadline is kept on time, by whoever is alive, and decided once against what comes in the same instant."""

from __future__ import annotations

import pytest

from tests.stories.flows import Stage, entries
from tq import FlowStep, Join, TaskHandler, TaskQueuesManager, connect
from tq.model import Batch, Effects, Mark, StepStatus, Verdict
from tq.testing import VirtualClock
from tq.testing.harness import harness

MINUTES = 600.0


@pytest.mark.spec("D-45", "D-46", "FLOW-24", "INV-05", "INV-06")
async def test_a_deadline_joins_on_time_with_what_there_is(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        payloads = ["a", {"sleep": 300.0, "fail": "no"}, {"sleep": 1000.0, "result": "late"}]
        flow = await stage.start(h.handler, payloads, timeout=MINUTES)
        await h.handler.start()
        await clock.sleep(MINUTES - 1)
        assert not stage.told
        await clock.sleep(2.5)
        assert MINUTES <= stage.told_at[0] <= MINUTES + 2
        assert (stage.only["timed_out"], stage.only["verdict"]) == (True, "timed_out")
        assert entries(stage.only) == [(0, "success", "a"), (1, "fail", "no"), (2, "open", None)]
        before = await h.handler.flow(flow).status()
        await clock.sleep(1000)
        assert not stage.cancelled
        assert len(stage.told) == 1, "the step that ends later changes nothing"
        assert await h.handler.flow(flow).status() == before
        await h.assert_quiet()


@pytest.mark.spec("FLOW-24")
async def test_with_cancel_siblings_a_deadline_ends_what_runs(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        flow = await stage.start(h.handler, ["a", {"sleep": 1e6}], timeout=MINUTES, cancel_siblings=True)
        await h.handler.start()
        await clock.sleep(MINUTES + 40)
        assert entries(stage.only) == [(0, "success", "a"), (1, "cancelled", None)]
        assert stage.cancelled == [f"{flow}.1"]
        await h.assert_quiet()


@pytest.mark.spec("D-46", "FLOW-24")
async def test_a_deadline_needs_no_step_that_ever_ran(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    stage.executors.queue("elsewhere")
    async with harness(stage.executors, url=url, clock=clock) as h:
        members = [FlowStep("t", queue="elsewhere"), FlowStep("t", queue="elsewhere")]
        await h.handler.start_flow(members, join=Join("join"), timeout=MINUTES)
        await h.handler.start()
        await clock.sleep(MINUTES - 1)
        assert not stage.told
        await clock.sleep(2.5)
        assert entries(stage.only) == [(0, "open", None), (1, "open", None)]
        assert stage.only["timed_out"] is True


@pytest.mark.spec("D-46")
async def test_a_deadline_is_kept_when_the_worker_that_started_the_flow_was_killed(
    url: str, clock: VirtualClock
) -> None:
    stage = Stage()
    backend = connect(url, clock=clock)
    first = TaskHandler.on(backend, stage.executors, clock=clock)
    second = TaskHandler.on(backend, stage.executors, clock=clock, queues=["default"])
    await first.start()
    await stage.start(first, [{"sleep": 1e6}], timeout=MINUTES)
    await clock.sleep(100)
    await first.kill()
    await second.start()
    await clock.sleep(MINUTES - 101)
    assert not stage.told
    await clock.sleep(2.5)
    assert stage.only["timed_out"] is True
    assert MINUTES <= stage.told_at[0] <= MINUTES + 2
    await second.close()
    await backend.close()


@pytest.mark.spec("D-46")
async def test_a_deadline_that_passed_while_nobody_was_alive_is_kept_by_the_next_worker(
    url: str, clock: VirtualClock
) -> None:
    stage = Stage()
    backend = connect(url, clock=clock)
    producer = TaskHandler.on(backend, stage.executors, clock=clock)
    await stage.start(producer, ["a"], timeout=MINUTES)
    await producer.close()
    await clock.sleep(2 * MINUTES)
    worker = TaskHandler.on(backend, stage.executors, clock=clock, queues=["default"])
    await worker.start()
    await clock.sleep(2)
    assert stage.only["timed_out"] is True
    await worker.close()
    await backend.close()


@pytest.mark.spec("FLOW-25", "D-43", "INV-05")
async def test_a_deadline_after_the_end_does_nothing(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        complete = await stage.start(h.handler, ["a"], timeout=MINUTES)
        aborted = await stage.start(
            h.handler, [{"fail": "no"}, {"sleep": 1e5}], timeout=MINUTES, failure_policy="abort"
        )
        cancelled = await stage.start(h.handler, [{"sleep": 1e5}], timeout=MINUTES)
        await h.handler.start()
        await clock.sleep(10)
        await h.handler.flow(cancelled).cancel()
        await clock.sleep(10)
        before = {flow: await h.handler.flow(flow).status() for flow in (complete, aborted, cancelled)}
        assert [it.verdict for it in before.values()] == ["completed", "aborted", "cancelled"]
        await clock.sleep(2 * MINUTES)
        assert {flow: await h.handler.flow(flow).status() for flow in before} == before
        assert len(stage.told) == 3


@pytest.mark.spec("INV-05", "INV-06")
@pytest.mark.parametrize("ends", [599.0, 599.999, 600.0, 600.001, 600.5, 601.0])
@pytest.mark.parametrize("how", ["result", "fail"])
async def test_a_deadline_and_the_last_step_in_the_same_instant_are_decided_once(
    url: str, clock: VirtualClock, ends: float, how: str
) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        policy = "abort" if how == "fail" else "continue"
        await h.handler.start()
        await clock.sleep(0.25)
        flow = await stage.start(h.handler, ["a", {"sleep": ends, how: "x"}], timeout=MINUTES, failure_policy=policy)
        await clock.sleep(700)
        told, status = stage.only, await h.handler.flow(flow).status()
        assert told["verdict"] == status.verdict
        last = entries(told)[1]
        if told["verdict"] == "timed_out":
            assert last == (1, "open", None)
            assert ends >= MINUTES
        else:
            assert told["verdict"] == ("aborted" if how == "fail" else "completed")
            assert last == (1, "fail" if how == "fail" else "success", "x")
        assert [name for name in ("aborted", "timed_out", "cancelled") if told.get(name)] == (
            [] if told["verdict"] == "completed" else [told["verdict"]]
        )
        await h.assert_quiet()


@pytest.mark.spec("D-44", "FLOW-30")
@pytest.mark.parametrize("verdict", [Verdict.TIMED_OUT, Verdict.CANCELLED])
async def test_a_step_that_is_written_with_a_deadline_comes_before_it(
    url: str, clock: VirtualClock, verdict: Verdict
) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        flow = await stage.start(h.handler, ["never run"])
        await h.handler.queue("media").pause()
        ended = Effects(marks=(Mark(flow, 0, StepStatus.SUCCESS, 0, b'"in time"'),))
        await h.handler.backend.commit(Batch(effects=[Effects(verdicts=((flow, verdict, "late"),)), ended]))
        await h.drain()
        assert entries(stage.only) == [(0, "success", "in time")]
        assert stage.only["verdict"] == "completed"


async def test_deadlines_of_many_flows_are_kept_together(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    stage.executors.queue("elsewhere")
    async with harness(stage.executors, url=url, clock=clock) as h:
        await h.handler.start()
        for number in range(250):
            members = [FlowStep("t", queue="elsewhere", payload=number)]
            await h.handler.start_flow(members, join=Join("join"), timeout=MINUTES)
        await clock.sleep(MINUTES + 3)
        assert len(stage.told) == 250
        assert max(stage.told_at) <= MINUTES + 3


async def test_a_deadline_closes_the_flow_also_where_nobody_can_run_its_join(url: str, clock: VirtualClock) -> None:
    executors = TaskQueuesManager()
    for name in ("media", "default", "served"):
        executors.queue(name)

    @executors.task("nothing", queue="served")
    async def nothing() -> None: ...

    async with harness(executors, url=url, clock=clock) as h:
        members = [FlowStep("step", queue="media")]
        flow = await h.handler.start_flow(members, join=Join("join"), timeout=MINUTES)
        await h.handler.start()
        await clock.sleep(MINUTES + 2)
        status = await h.handler.flow(flow).status()
        assert status.verdict == "timed_out"
        assert "waits for a worker" in str(await h.handler.flow(flow).explain())
