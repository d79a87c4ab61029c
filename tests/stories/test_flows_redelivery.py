"""Brokers deliver again, workers are cut off, answers are lost: a step counts once, and its first ending stands.

Two failures of other libraries are told here: a group of three that receives A, A, B, C, and a member that comes again
with another value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from tests.stories.flows import Deaf, Stage, barrier, entries
from tq import Actions, FlowStep, Join, Task, TaskHandler, connect
from tq.errors import BackendUnavailableError
from tq.memory import MemoryQueue
from tq.model import Batch, Claim, Hop, Mark, Message, Receipt, StepStatus
from tq.testing import VirtualClock
from tq.testing.harness import harness


class Repeating(MemoryQueue):
    """A broker that keeps what it handed out, and may hand it out again after it was acknowledged."""

    guarantees = MemoryQueue.guarantees._replace(redelivery=3600.0)

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock=clock)
        self.sent: dict[str, Message] = {}
        self.at_once: set[str] = set()
        """Ids that come again as soon as they are acknowledged."""

    async def add(self, messages: Sequence[Message]) -> list[str]:
        self.sent.update({message.id: message for message in messages})
        return await super().add(messages)

    async def ack(self, receipts: Sequence[Receipt]) -> list[Receipt]:
        lost = await super().ack(receipts)
        again = [receipt.id for receipt in receipts if receipt.id in self.at_once]
        self.at_once -= set(again)
        await self.again(*again)
        return lost

    async def again(self, *ids: str) -> None:
        """Deliver these once more."""
        await super().add([self.sent[id] for id in ids])


class Counting(Stage):
    """A step whose result is different each time it runs: "A1", then "A2"."""

    def __init__(self) -> None:
        super().__init__()
        self.executors.executor("counting", queue="media", retries=0)(self._counting)
        self.times: Counter[str] = Counter()

    async def _counting(self, task: Task[Any], actions: Actions) -> None:
        self.times[task.payload] += 1
        self.ran.append(task.id)
        actions.success(task, f"{task.payload}{self.times[task.payload]}")

    def members(self) -> list[FlowStep]:
        return [FlowStep("counting", queue="media", payload=name) for name in "ABC"]


@pytest.mark.spec("BAR-03", "INV-05", "INV-06", "D-48")
@pytest.mark.parametrize("name", ["counting", "same"])
async def test_a_group_of_three_that_receives_a_a_b_c_joins_once_after_c(
    url: str, clock: VirtualClock, name: str
) -> None:
    """In another library it joins after B, and once more after C."""
    stage = Counting()
    backend, queue = connect(url, clock=clock), Repeating(clock)
    handler = TaskHandler(
        queue=queue, store=backend.store, barrier=backend.barrier, executors=stage.executors, clock=clock, concurrency=1
    )
    members = stage.members()
    if name == "same":
        members = [FlowStep("step", queue="media", payload=f"{letter}1") for letter in "ABC"]
    flow = await handler.start_flow(members, join=Join("join"))
    queue.at_once = {f"{flow}.0"}
    assert await handler.process_batch("media", 1)
    remaining = (await handler.flow(flow).status()).remaining
    assert remaining == 2
    assert await handler.process_batch("media", 1)  # B, or A again
    await handler.drain()
    assert entries(stage.only) == [(0, "success", "A1"), (1, "success", "B1"), (2, "success", "C1")]
    status = await handler.flow(flow).status()
    assert (status.succeeded, status.remaining, status.verdict) == (3, 0, "completed")

    await queue.again(f"{flow}.0", f"{flow}.2")  # and late, when all is over
    await handler.drain()
    await clock.sleep(600)
    await handler.drain()
    assert len(stage.told) == 1
    assert await handler.flow(flow).status() == status
    await handler.close()
    await backend.close()


@pytest.mark.spec("BAR-03", "INV-06")
async def test_a_member_redelivered_with_another_value_keeps_its_first_one(url: str, clock: VirtualClock) -> None:
    """In another library the join runs with [A1, A2, B1], without C."""
    stage = Counting()
    backend, queue = connect(url, clock=clock), Repeating(clock)
    handler = TaskHandler(
        queue=queue, store=backend.store, barrier=backend.barrier, executors=stage.executors, clock=clock, concurrency=1
    )
    flow = await handler.start_flow(stage.members(), join=Join("join"))
    assert await handler.process_batch("media", 1)
    await backend.store.purge(clock.now() + 1e7, 0.0, 1000)  # whatever would let it be recognised
    await queue.again(f"{flow}.0")
    await handler.drain()
    assert entries(stage.only) == [(0, "success", "A1"), (1, "success", "B1"), (2, "success", "C1")]
    await handler.close()
    await backend.close()


@pytest.mark.spec("BAR-02", "BAR-03", "D-43")
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


@pytest.mark.spec("INV-03", "BAR-03", "INV-06")
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
