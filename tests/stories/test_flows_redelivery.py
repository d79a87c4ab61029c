"""Marks come again, workers are cut off, answers are lost: a step counts once, and its first ending stands.

What other libraries make of a step that is delivered again is told in `test_known_failures`.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.stories.flows import Deaf, Stage, barrier, entries
from tq import Actions, FlowStep, Join, Task, TaskHandler, connect
from tq.errors import BackendUnavailableError
from tq.model import Batch, Claim, Hop, Mark, StepStatus
from tq.testing import VirtualClock
from tq.testing.harness import harness


@pytest.mark.spec("F-04", "BAR-02", "BAR-03", "D-43")
async def test_marks_that_come_again_change_nothing_whatever_they_say(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        flow = await stage.start(h.handler, ["A", "B", "C"])
        await h.handler.queue("media").pause()
        port = barrier(h.handler)
        answers: list[int] = []
        for index, result in ((0, b'"A"'), (0, b'"A"'), (0, b'"other"'), (1, b'"B"'), (2, b'"C"'), (0, b'"late"')):
            (state,) = await port.batch_decrement_and_check([Mark(flow, index, StepStatus.SUCCESS, 0, result)])
            answers.append(state.answer)
        assert answers == [2, 2, 2, 1, 0, 0], "0 to everybody until the join is on its way"
        await h.drain()
        assert entries(stage.only) == [(0, "success", "A"), (1, "success", "B"), (2, "success", "C")]
        (state,) = await port.batch_decrement_and_check([Mark(flow, 1, StepStatus.FAIL, 0, None, "late")])
        assert state.answer == -1
        await h.handler.queue("media").resume()
        await h.drain()
        assert len(stage.told) == 1


@pytest.mark.spec("F-29", "INV-03", "BAR-03", "INV-06")
@pytest.mark.parametrize("first", ["cut off", "other"])
async def test_of_two_workers_that_run_one_step_the_one_with_the_lease_counts(
    url: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    stage = Stage()
    outcomes = iter([("cut off", 40.0 if first == "cut off" else 80.0), ("other", 20.0)])

    @stage.executors.executor("slow", queue="media", retries=0)
    async def slow(task: Task[Any], actions: Actions) -> None:
        name, lasts = next(outcomes)
        await clock.sleep(lasts)
        actions.success(task, name)

    backend = connect(url, clock=clock)
    keeper = backend.keeper
    monkeypatch.setattr(backend, "keeper", Deaf)
    cut_off = TaskHandler.on(backend, stage.executors, clock=clock, queues=["media"])
    await cut_off.start_flow([FlowStep("slow", queue="media")], join=Join("join"))
    await cut_off.start()
    await clock.sleep(5)
    monkeypatch.setattr(backend, "keeper", keeper)
    other = TaskHandler.on(backend, stage.executors, clock=clock)
    await other.start()
    await clock.sleep(300)
    assert entries(stage.only) == [(0, "success", "other")]
    for handler in (cut_off, other):
        await handler.close()
    await backend.close()


@pytest.mark.spec("INV-02", "INV-05", "D-40")
async def test_commits_whose_answers_are_lost_count_once(
    url: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        flow = await stage.start(h.handler, ["a", "b", {"fail": "no"}])
        commit, lost = h.handler.backend.commit, list[str]()

        async def losing(batch: Batch, claim: Claim | None = None) -> Hop:
            for settlement in batch.settlements:
                if settlement.receipt.id not in lost:
                    lost.append(settlement.receipt.id)
                    await commit(batch)
                    raise BackendUnavailableError("the answer was lost")
            return await commit(batch, claim)

        monkeypatch.setattr(h.handler.backend, "commit", losing)
        await h.handler.start()
        await clock.sleep(60)
        assert sorted(lost) == [f"{flow}.0", f"{flow}.1", f"{flow}.2", f"{flow}.join"]
        assert entries(stage.only) == [(0, "success", "a"), (1, "success", "b"), (2, "fail", "no")]
        assert set(stage.runs.values()) == {1}
        monkeypatch.undo()
        await h.assert_quiet()
