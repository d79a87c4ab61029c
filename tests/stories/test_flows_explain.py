"""A flow says in words which steps are missing, where each is, since when, and what happens next."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import Any

import pytest

from tests.stories.flows import Stage, barrier, steps
from tq import Actions, FlowStep, Join, Task, TaskHandler, connect
from tq.clock import to_datetime
from tq.errors import UnknownFlowError
from tq.flow import Explanation
from tq.model import Batch, Claim, Hop
from tq.testing import VirtualClock
from tq.testing.harness import Harness, harness


def at(instant: float) -> str:
    """Return an instant as it is told."""
    return to_datetime(instant).isoformat(sep=" ", timespec="seconds")


async def said(h: Harness, flow: str) -> str:
    return str(await h.handler.flow(flow).explain())


async def test_a_step_that_waits_for_a_worker_says_since_when(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        began = clock.now()
        flow = await stage.start(h.handler, ["a", "b"])
        await clock.sleep(90)
        words = await said(h, flow)
        assert f"Flow {flow} is open since {at(began)} (continue): 0 of 2 succeeded, 0 failed, 2 missing." in words
        for index in range(2):
            assert f"step {index} (step on media) is due since {at(began)} and waits for a worker" in words
        assert "It completes when nobody is missing: now 2." in words
        assert "It has no deadline." in words


async def test_a_step_on_a_paused_queue_says_so(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        flow = await stage.start(h.handler, ["a"])
        await h.handler.queue("media").pause()
        assert f"is due since {at(clock.now())} and waits: queue media is paused" in await said(h, flow)
        await h.handler.queue("media").resume()
        assert "paused" not in await said(h, flow)


async def test_a_step_that_runs_says_where_since_when_and_under_which_lease(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        flow = await stage.start(h.handler, ["a", {"sleep": 100.0}])
        began = clock.now()
        await h.handler.start()
        await clock.sleep(5)
        words = await said(h, flow)
        assert "1 of 2 succeeded" in words
        assert "step 0" not in words, "only those that are missing"
        found = re.search(
            r"step 1 \(step on media\) runs at worker (\S+), attempt 1, under a lease until (.+), due since (.+)", words
        )
        assert found is not None, words
        assert found.group(1) == h.handler.worker_id
        assert at(clock.now() + 10) <= found.group(2) <= at(clock.now() + 30)
        assert found.group(3) == at(began)


async def test_a_step_whose_cancel_was_asked_for_says_so(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        flow = await stage.start(h.handler, ["a"])
        await h.handler.task(f"{flow}.0").cancel()
        assert "; its cancel was asked for" in await said(h, flow)


async def test_a_step_that_was_left_by_a_dead_worker_says_so(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    backend = connect(url, clock=clock)
    worker = TaskHandler.on(backend, stage.executors, clock=clock)
    flow = await stage.start(worker, [{"sleep": 1e5}])
    await worker.start()
    await clock.sleep(5)
    await worker.kill()
    await clock.sleep(60)
    words = str(await TaskHandler.on(backend, clock=clock).flow(flow).explain())
    assert f"was left by worker {worker.worker_id} at " in words
    assert "is taken back at the next claim" in words
    await backend.close()


async def test_a_step_that_is_tried_again_says_when(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        member = FlowStep("step", queue="media", payload={"fail": "no"}, retries=3, retry_after=60.0)
        flow = await h.handler.start_flow([member], join=Join("join"))
        await h.drain()
        assert f"is retried: attempt 2 is due at {at(clock.now() + 60)}" in await said(h, flow)
        await h.later(61)
        assert "is retried: attempt 3 is due at" in await said(h, flow)


async def test_a_step_that_nobody_knows_says_when_it_is_tried_next(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        flow = await h.handler.start_flow([FlowStep("of.tomorrow", queue="media")], join=Join("join"))
        await h.drain()
        assert f"step 0 (of.tomorrow on media) waits until {at(clock.now() + 1)}" in await said(h, flow)


async def test_a_step_that_waits_for_its_own_flow_says_for_which(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    inner: list[str] = []

    @stage.executors.executor("nest", queue="media")
    async def nest(task: Task[Any], actions: Actions) -> None:
        inner.append(actions.start_flow(steps({"sleep": 100.0}), join=Join("join")))
        actions.success_when(inner[0])

    async with harness(stage.executors, url=url, clock=clock) as h:
        flow = await h.handler.start_flow([FlowStep("nest", queue="media")], join=Join("join"))
        await h.handler.start()
        await clock.sleep(5)
        assert f"step 0 (nest on media) waits for its own flow {inner[0]}" in await said(h, flow)
        assert "runs at worker" in await said(h, inner[0])


async def test_a_step_that_ended_and_was_not_counted_says_how(
    url: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        commit = h.handler.backend.commit

        async def forgetful(batch: Batch, claim: Claim | None = None) -> Hop:
            settlements = [it._replace(effects=it.effects._replace(marks=())) for it in batch.settlements]
            return await commit(replace(batch, settlements=settlements), claim)

        flow = await stage.start(h.handler, [{"fail": "no"}])
        monkeypatch.setattr(h.handler.backend, "commit", forgetful)
        await h.drain()
        ended = clock.now()
        await clock.sleep(30)
        words = await said(h, flow)
        assert f"step 0 (step on media) ended as dead letter (no) at {at(ended)} and is not counted yet" in words


async def test_a_step_that_stands_in_the_plan_and_one_that_is_nowhere(
    url: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        wide = await stage.start(h.handler, list(range(1200)))
        words = await said(h, wide)
        assert "step 0 (step) stands in the plan and is not written yet" in words
        assert "and 1180 more" in words, "twenty are named"
        assert "3 of 3 parts of its plan are still to be written." in words

        await barrier(h.handler).advance(wide, spread=3)
        words = await said(h, wide)
        assert "step 0 (step) is nowhere to be found and is written again from the plan" in words


async def test_a_policy_and_a_deadline_say_what_would_end_the_flow(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        quorum = await stage.start(h.handler, ["a", {"fail": "no"}, *[{"sleep": 50.0}] * 4], quorum=3, timeout=600)
        abort = await stage.start(h.handler, [{"sleep": 50.0}] * 2, failure_policy="abort")
        began = clock.now()
        await h.handler.start()
        await clock.sleep(5)
        words = await said(h, quorum)
        assert "(quorum=3)" in words
        assert "It completes at 3 successes, 2 more than now." in words
        assert "It is aborted at 4 failures, 3 more than now." in words
        assert f"Its deadline is {at(began + 600)}; its join then runs with what there is." in words
        assert "It is aborted at 1 failures, 1 more than now." in await said(h, abort)


async def test_a_closed_flow_says_how_it_ended_and_where_its_join_is(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    stage.join_sleeps = 100.0
    async with harness(stage.executors, url=url, clock=clock) as h:
        members = [{"sleep": 10.0, "fail": "no"}, {"sleep": 1000.0}]
        flow = await stage.start(h.handler, members, failure_policy="abort")
        began = clock.now()
        await h.handler.start()
        await clock.sleep(20)
        words = await said(h, flow)
        assert f"Flow {flow} was aborted at {at(began + 10)}, by step 0: 0 of 2 succeeded, 1 failed, 1 missing" in words
        assert f"Its join {flow}.join (join on default) runs at worker {h.handler.worker_id}" in words
        await clock.sleep(150)
        assert f"ended as executed at {at(began + 110)}." in await said(h, flow)

        cancelled = await stage.start(h.handler, [{"sleep": 1000.0}])
        await clock.sleep(1)
        await h.handler.flow(cancelled).cancel("a reason")
        words = await said(h, cancelled)
        assert "because a reason" in words
        assert "Its 1 members that had not ended are being cancelled." in words


async def test_a_redriven_flow_names_its_generation(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        flow = await stage.start(h.handler, [{"fail": "no"}])
        await h.drain()
        await h.handler.flow(flow).redrive()
        assert "(continue, generation 1)" in await said(h, flow)


async def test_what_is_said_is_there_as_values_too(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        flow = await stage.start(h.handler, ["a", {"sleep": 100.0}], timeout=600)
        await h.handler.start()
        await clock.sleep(5)
        told: Explanation = await h.handler.flow(flow).explain()
        (member,) = told.members
        assert (member.index, member.id, member.type, member.queue) == (1, f"{flow}.1", "step", "media")
        assert member.standing == "running"
        assert member.detail == h.handler.worker_id
        assert (told.total, told.succeeded, told.remaining, told.more) == (2, 1, 1, 0)
        await asyncio.sleep(0)
        with pytest.raises(UnknownFlowError, match="never began"):
            await h.handler.flow("never").explain()
