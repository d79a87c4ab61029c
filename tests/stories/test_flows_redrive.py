"""A flow that was decided is opened again for the steps that did not succeed; and a flow is ended by hand."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.stories.flows import Stage, entries, projection
from tq import Actions, Entity, FlowStep, Join, Task, TaskHandler, TaskStatus, connect
from tq.errors import FlowStateError, UnknownFlowError
from tq.testing import VirtualClock
from tq.testing.harness import harness


class Weather(Stage):
    """Steps that fail while their payload is among `bad`, and otherwise succeed with it and a count of their runs."""

    def __init__(self, *bad: str) -> None:
        super().__init__()
        self.bad = set(bad)
        self.executors.executor("try", queue="media", retries=0)(self._try)

    async def _try(self, task: Task[Any], actions: Actions) -> None:
        self.ran.append(task.id)
        if task.payload in self.bad:
            actions.fail(task, f"{task.payload} is bad")
        else:
            actions.success(task, task.payload)

    async def begin(self, handler: TaskHandler, names: str, **settings: Any) -> str:
        members = [FlowStep("try", queue="media", payload=name) for name in names]
        return await handler.start_flow(members, join=Join("join"), **settings)


@pytest.mark.spec("INV-05", "D-43")
async def test_a_redrive_runs_only_what_failed_and_joins_once_more_twice(url: str, clock: VirtualClock) -> None:
    stage = Weather("b", "d")
    async with harness(stage.executors, url=url, clock=clock) as h:
        flow = await stage.begin(h.handler, "abcd", entity=Entity("Item", "i-1"))
        await h.drain()
        assert [it[1] for it in entries(stage.only)] == ["success", "fail", "success", "fail"]

        stage.bad = {"d"}
        assert await h.handler.flow(flow).redrive() == 2
        status = await h.handler.flow(flow).status()
        assert (status.generation, status.remaining, status.succeeded, status.failed) == (1, 2, 2, 0)
        assert status.verdict is None
        await h.drain()
        assert stage.runs == {f"{flow}.0": 1, f"{flow}.1": 2, f"{flow}.2": 1, f"{flow}.3": 2}
        assert entries(stage.told[1]) == [
            (0, "success", "a"),
            (1, "success", "b"),
            (2, "success", "c"),
            (3, "fail", "d is bad"),
        ]

        stage.bad = set()
        assert await h.handler.flow(flow).redrive() == 1
        await h.drain()
        assert stage.runs == {f"{flow}.0": 1, f"{flow}.1": 2, f"{flow}.2": 1, f"{flow}.3": 3}
        assert [it[1] for it in entries(stage.told[2])] == ["success"] * 4
        assert [join.id for join in stage.joins] == [f"{flow}.join", f"{flow}.join.1", f"{flow}.join.2"]
        assert [told["generation"] for told in stage.told] == [0, 1, 2]
        with pytest.raises(FlowStateError, match="nothing is left"):
            await h.handler.flow(flow).redrive()
        await h.later(3600)
        assert len(stage.told) == 3
        await h.assert_quiet()


async def test_a_flow_that_was_aborted_is_redriven_whole(url: str, clock: VirtualClock) -> None:
    """What ended well after the verdict has ended: it runs no more, and counts."""
    stage = Weather("a")
    async with harness(stage.executors, url=url, clock=clock) as h:
        members = [
            FlowStep("try", queue="media", payload="a"),
            FlowStep("step", queue="media", payload={"sleep": 30.0, "result": "well"}),
            FlowStep("step", queue="media", payload={"sleep": 30.0, "fail": "badly"}),
            FlowStep("step", queue="media", payload={"sleep": 1000.0, "result": "slowly"}),
        ]
        flow = await h.handler.start_flow(members, join=Join("join"), failure_policy="abort")
        await h.handler.start()
        await clock.sleep(60)
        assert [it[1] for it in entries(stage.only)] == ["fail", "open", "open", "open"]
        stage.bad = set()
        assert await h.handler.flow(flow).redrive() == 3
        await clock.sleep(10)
        assert (await h.handler.flow(flow).status()).verdict is None
        await clock.sleep(100)
        assert stage.told[1]["aborted"] is True, "the third step fails again"
        assert entries(stage.told[1]) == [
            (0, "success", "a"),
            (1, "success", "well"),
            (2, "fail", "badly"),
            (3, "open", None),
        ]
        assert stage.runs[f"{flow}.1"] == 1
        assert stage.runs[f"{flow}.2"] == 2
        await clock.sleep(1000)
        assert await h.handler.flow(flow).redrive() == 1
        await clock.sleep(60)
        assert entries(stage.told[2])[3] == (3, "success", "slowly")
        assert stage.runs[f"{flow}.3"] == 1
        await h.assert_quiet()


async def test_a_step_that_was_replayed_by_hand_and_succeeded_counts_in_a_redrive(
    url: str, clock: VirtualClock
) -> None:
    stage = Weather("a", "b")
    async with harness(stage.executors, url=url, clock=clock) as h:
        flow = await stage.begin(h.handler, "abc")
        await h.drain()
        stage.bad = {"b"}
        await h.handler.dead.replay(f"{flow}.0")
        await h.drain()
        assert len(stage.told) == 1
        stage.bad = set()
        assert await h.handler.flow(flow).redrive() == 1
        await h.drain()
        assert entries(stage.told[1]) == [(0, "success", "a"), (1, "success", "b"), (2, "success", "c")]
        assert stage.runs == {f"{flow}.0": 2, f"{flow}.1": 2, f"{flow}.2": 1}
        await h.assert_quiet()


@pytest.mark.spec("D-50", "FLOW-26", "INV-07")
@pytest.mark.parametrize("by", ["replay", "retry", "redrive"])
async def test_a_join_that_alone_failed_runs_again_and_the_row_of_its_flow_tells(
    url: str, clock: VirtualClock, by: str
) -> None:
    stage = Weather()
    stage.join_says = ValueError("the mail server is down")
    async with harness(stage.executors, url=url, clock=clock) as h:
        flow = await stage.begin(h.handler, "ab", entity=Entity("Album", "a-1"))
        await h.drain()
        for says in (ValueError("it is still down"), ValueError("still"), "sent"):
            row = await projection(h.handler, flow)
            assert row is not None
            assert (row.status, row.error) == (TaskStatus.FAILED, str(stage.join_says))
            stage.join_says = says
            if by == "redrive":
                assert await h.handler.flow(flow).redrive() == 0
                with pytest.raises(FlowStateError, match="has not ended"):
                    await h.handler.flow(flow).redrive()
            elif by == "replay":
                assert list(await h.handler.dead.replay(type="join")) == [f"{flow}.join"]
            else:
                await h.handler.task(f"{flow}.join").retry()
            await h.later(5)
        row = await projection(h.handler, flow)
        assert row is not None
        assert (row.status, row.result, row.error) == (TaskStatus.EXECUTED, b'"sent"', None)
        assert stage.told == [stage.told[0]] * 4, "it is told the same"
        assert set(stage.runs.values()) == {1}, "no step ran again"
        with pytest.raises(FlowStateError, match="its join did not fail: nothing is left"):
            await h.handler.flow(flow).redrive()
        await h.assert_quiet()


async def test_a_step_whose_dead_letter_was_purged_counts_at_once_in_a_redrive(url: str, clock: VirtualClock) -> None:
    """It cannot run again: the join must not wait for it until it is called lost, an hour later."""
    stage = Weather("b", "c")
    async with harness(stage.executors, url=url, clock=clock) as h:
        flow = await stage.begin(h.handler, "abc")
        await h.drain()
        assert list(await h.handler.dead.purge(f"{flow}.1")) == [f"{flow}.1"]
        stage.bad = set()
        assert await h.handler.flow(flow).redrive() == 1
        await h.later(1)
        assert entries(stage.told[1]) == [(0, "success", "a"), (1, "fail", "b is bad"), (2, "success", "c")]
        with pytest.raises(FlowStateError, match=r"nothing is kept of the 1 members .* purged, they cannot run again"):
            await h.handler.flow(flow).redrive()
        assert (await h.handler.flow(flow).status()).generation == 1, "it stays as it is"
        await h.assert_quiet()


async def test_a_step_that_keeps_no_failures_runs_again_all_the_same(url: str, clock: VirtualClock) -> None:
    stage = Stage()

    @stage.executors.executor("forgetful", queue="media", retries=0, store_on_failure=False)
    async def forgetful(task: Task[Any], actions: Actions) -> None:
        if task.generation == 0:
            actions.fail(task, "no")
        else:
            actions.success(task, task.payload)

    async with harness(stage.executors, url=url, clock=clock) as h:
        flow = await h.handler.start_flow([FlowStep("forgetful", queue="media", payload="x")], join=Join("join"))
        await h.drain()
        assert await h.handler.flow(flow).redrive() == 1
        await h.drain()
        assert entries(stage.told[1]) == [(0, "success", "x")], "a redrive needs its body"


@pytest.mark.spec("D-46")
async def test_a_redrive_has_a_deadline_of_its_own_or_none(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        flow = await stage.start(h.handler, [{"sleep": 400.0}], timeout=300, cancel_siblings=True)
        await h.handler.start()
        await clock.sleep(350)
        assert stage.only["timed_out"] is True
        assert await h.handler.flow(flow).redrive(timeout=200) == 1
        await clock.sleep(190)
        assert len(stage.told) == 1
        await clock.sleep(50)
        assert stage.told[1]["timed_out"] is True
        assert await h.handler.flow(flow).redrive() == 1
        assert (await h.handler.flow(flow).status()).deadline is None
        await clock.sleep(450)
        assert entries(stage.told[2]) == [(0, "success", None)]


async def test_an_open_flow_and_one_whose_join_has_not_ended_are_not_redriven(url: str, clock: VirtualClock) -> None:
    """A join that is tried again must be told what it was told before."""
    stage = Weather("a")
    stage.join_sleeps = 50.0
    async with harness(stage.executors, url=url, clock=clock) as h:
        flow = await h.handler.start_flow(
            [FlowStep("try", queue="media", payload="a"), FlowStep("step", queue="media", payload={"sleep": 20.0})],
            join=Join("join"),
        )
        await h.handler.start()
        await clock.sleep(10)
        with pytest.raises(FlowStateError, match="is open"):
            await h.handler.flow(flow).redrive()
        await clock.sleep(20)
        with pytest.raises(FlowStateError, match="has not ended"):
            await h.handler.flow(flow).redrive()
        await clock.sleep(50)
        assert await h.handler.flow(flow).redrive() == 1
        with pytest.raises(UnknownFlowError):
            await h.handler.flow("never").redrive()


async def test_of_two_redrives_at_once_one_wins(url: str, clock: VirtualClock) -> None:
    stage = Weather("a")
    async with harness(stage.executors, url=url, clock=clock) as h:
        flow = await stage.begin(h.handler, "ab")
        await h.drain()
        stage.bad = set()
        answers = await asyncio.gather(*[h.handler.flow(flow).redrive() for _ in range(3)], return_exceptions=True)
        assert [it for it in answers if isinstance(it, BaseException)] == [
            it for it in answers if isinstance(it, FlowStateError)
        ]
        assert 1 in answers
        await h.drain()
        assert stage.runs[f"{flow}.0"] == 2
        assert (await h.handler.flow(flow).status()).generation == 1
        assert len(stage.told) == 2


# --- by hand ----------------------------------------------------------------------------------------------------------


@pytest.mark.spec("BAR-06", "INV-05")
async def test_a_cancel_ends_the_flow_its_open_steps_and_tells_the_join(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock, concurrency=2) as h:
        row = Entity("Item", "i-1")
        flow = await stage.start(h.handler, ["a", *[{"sleep": 1e6}] * 5], entity=row)
        await h.handler.start()
        await clock.sleep(5)
        assert await h.handler.flow(flow).cancel("no longer wanted")
        status = await h.handler.flow(flow).status()
        assert (status.verdict, status.reason) == ("cancelled", "no longer wanted")
        await clock.sleep(40)
        assert (stage.only["cancelled"], stage.only["reason"]) == (True, "no longer wanted")
        assert entries(stage.only) == [(0, "success", "a"), *[(index, "cancelled", None) for index in range(1, 6)]]
        assert len(stage.cancelled) == 2, "those that ran were stopped"
        assert len(stage.ran) == 3, "those that waited were never begun"
        assert {str(await h.handler.task(f"{flow}.{index}").status()) for index in range(1, 6)} == {"cancelled"}
        kept = await projection(h.handler, flow)
        assert kept is not None
        assert (kept.status, kept.error) == (TaskStatus.CANCELLED, "flow_cancelled")
        assert not await h.handler.flow(flow).cancel()
        await h.assert_quiet()


@pytest.mark.spec("D-43")
async def test_a_cancelled_flow_is_redriven_for_those_it_stopped(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock, concurrency=2) as h:
        flow = await stage.start(h.handler, ["a", {"sleep": 20.0, "result": "b"}, {"sleep": 20.0, "result": "c"}, "d"])
        await h.handler.start()
        await clock.sleep(5)
        await h.handler.flow(flow).cancel()
        await clock.sleep(30)
        assert [it[1] for it in entries(stage.only)] == ["success"] + ["cancelled"] * 2 + [entries(stage.only)[3][1]]
        assert await h.handler.flow(flow).redrive() >= 2
        await clock.sleep(60)
        assert entries(stage.told[1]) == [(i, "success", it) for i, it in enumerate("abcd")]
        assert "cancelled" not in stage.told[1]


async def test_a_flow_cancelled_while_nobody_works_joins_with_the_next_worker(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    backend = connect(url, clock=clock)
    producer = TaskHandler.on(backend, stage.executors, clock=clock)
    flow = await stage.start(producer, ["a", "b"])
    assert await producer.flow(flow).cancel()
    worker = TaskHandler.on(backend, stage.executors, clock=clock)
    await worker.start()
    await clock.sleep(5)
    assert stage.only["cancelled"] is True
    assert [it[1] for it in entries(stage.only)] == ["cancelled", "cancelled"]
    await clock.sleep(60)
    assert len(stage.told) == 1
    await worker.close()
    await producer.close()
    await backend.close()
