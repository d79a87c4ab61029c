"""One batch by hand, and a worker from its start to its stop."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tq import Actions, FlowStep, Join, Task, TaskQueuesManager, TaskStatus
from tq.clock import to_datetime
from tq.model import Batch, Claim, Hop
from tq.testing import Probe, VirtualClock
from tq.testing.harness import harness


def of_every_ending() -> TaskQueuesManager:
    """Return an executor that ends as its payload says."""
    executors = TaskQueuesManager()

    @executors.executor("work", store_on_success=True)
    async def work(task: Task[str], actions: Actions) -> None:
        match task.payload:
            case "success":
                actions.success(task)
            case "failed":
                actions.fail(task, "as asked")
            case "rescheduled":
                actions.reschedule(60)
            case "deferred":
                actions.success_when(actions.start_flow([FlowStep("work", payload="success")], join=Join("join")))
            case "raises":
                raise ValueError("as asked")
            case _:
                pass

    @executors.executor("join")
    async def join(task: Task[Any], actions: Actions) -> None:
        actions.success(task)

    return executors


# --- by hand ----------------------------------------------------------------------------------------------------------


@pytest.mark.spec("MQ-07", "CON-07", "EXE-01", "MEM-08", "INV-01")
async def test_a_batch_by_hand_tells_how_each_task_ended(url: str, clock: VirtualClock) -> None:
    async with harness(of_every_ending(), url=url, clock=clock) as h:
        endings = ["success", "failed", "rescheduled", "deferred", "raises", "silent"]
        ids = await h.add(*[Task(type="work", payload=ending) for ending in endings], Task(type="nobody"))
        told = await h.handler.process_batch("default", limit=len(ids))
        assert told == dict(
            zip(ids, ["success", "failed", "rescheduled", "deferred", "failed", "failed", "released"], strict=True)
        )


@pytest.mark.spec("MQ-07", "CON-07", "MEM-02", "MEM-08")
async def test_a_batch_by_hand_has_ten_tasks_unless_it_is_said_and_none_is_none(url: str, clock: VirtualClock) -> None:
    async with harness(of_every_ending(), url=url, clock=clock) as h:
        assert await h.handler.process_batch("default") is None
        later = to_datetime(clock.now() + 60)
        await h.add(*[Task(type="work", payload="success", execute_at=when) for when in [None] * 13 + [later]])
        assert len(await h.handler.process_batch("default") or {}) == 10
        assert len(await h.handler.process_batch("default", limit=2) or {}) == 2
        assert len(await h.handler.process_batch("default") or {}) == 1
        assert await h.handler.process_batch("default") is None, "what is not due is not taken"
        await clock.sleep(60)
        assert len(await h.handler.process_batch("default") or {}) == 1


@pytest.mark.spec("MQ-07", "D-32")
async def test_a_batch_by_hand_takes_from_its_queue_only(url: str, clock: VirtualClock) -> None:
    executors = of_every_ending()
    executors.task("work", queue="other")(nothing)
    async with harness(executors, url=url, clock=clock) as h:
        here, there = await h.add(Task(type="work", payload="success"), Task(type="work", queue_id="other"))
        assert await h.handler.process_batch("default") == {here: "success"}
        assert await h.handler.task(there).status() is TaskStatus.SCHEDULED


async def nothing(payload: None) -> None: ...


@pytest.mark.spec("ADP-06")
async def test_what_ends_in_one_instant_is_written_in_one_go(
    url: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    executors = TaskQueuesManager()

    @executors.task("work", store_on_success=True)
    async def work(payload: int) -> int:
        await clock.sleep(1)
        return payload

    async with harness(executors, url=url, clock=clock) as h:
        ids = await h.add(*[work.task(number) for number in range(50)])
        commit, written = h.handler.backend.commit, list[int]()

        async def counted(batch: Batch, claim: Claim | None = None) -> Hop:
            written.append(len(batch.settlements))
            return await commit(batch, claim)

        monkeypatch.setattr(h.handler.backend, "commit", counted)
        await h.drain()
        assert sum(written) == 50
        assert sum(size > 0 for size in written) <= 3, "a few wake first, the others together"
        for number, task_id in enumerate(ids):
            await h.assert_succeeded(task_id, number)


@pytest.mark.spec("IMM-06")
async def test_the_immediate_queue_has_nothing_left_to_take(clock: VirtualClock) -> None:
    async with harness(of_every_ending(), url="immediate://", clock=clock) as h:
        await h.add(Task(type="work", payload="success"))
        assert await h.handler.process_batch("default") is None


@pytest.mark.spec("IMM-04")
async def test_what_an_executor_raises_is_its_outcome_and_what_ends_the_run_reaches_who_added(
    clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with harness(of_every_ending(), url="immediate://", clock=clock) as h:
        [task_id] = await h.add(Task(type="work", payload="raises"))
        await h.assert_failed(task_id, "as asked")
        commit = h.handler.backend.commit

        async def broken(batch: Batch, claim: Claim | None = None) -> Hop:
            if claim is not None:
                raise RuntimeError("the disk is gone")
            return await commit(batch, claim)

        monkeypatch.setattr(h.handler.backend, "commit", broken)
        with pytest.raises(RuntimeError, match="the disk is gone"):
            await h.add(Task(type="work", payload="success"))


# --- start and stop ---------------------------------------------------------------------------------------------------


@pytest.mark.spec("MQ-05", "MEM-01", "CON-08")
async def test_start_returns_at_once_and_later_tasks_are_taken_up(url: str, clock: VirtualClock) -> None:
    executors, ran = TaskQueuesManager(), list[float]()

    @executors.task("work")
    async def work(payload: None) -> None:
        ran.append(clock.now())
        await clock.sleep(10)

    async with harness(executors, url=url, clock=clock) as h:
        await h.add(work.task(None))
        began = clock.now()
        await h.handler.start()
        assert clock.now() == began
        for _ in range(3):
            await clock.sleep(100)
            added = clock.now()
            await h.add(work.task(None))
            await clock.sleep(1.1)
            assert ran[-1] - added <= 1, "within the poll interval at the latest"
        assert len(ran) == 4


@pytest.mark.spec("CON-08", "CON-09", "MQ-10", "MEM-07")
async def test_a_worker_tells_of_its_start_and_its_stop_once_however_often_it_is_stopped(
    url: str, clock: VirtualClock, probe: Probe
) -> None:
    async with harness(of_every_ending(), url=url, clock=clock, workers=probe, lifecycle_mode="sync") as h:
        await h.run(Task(type="work", payload="success"))
        assert "on_worker_started" not in probe.names(), "only a worker that was started says so"
        probe.events.clear()
        await h.handler.start()
        await h.handler.start()
        await clock.sleep(1)
        await asyncio.gather(h.handler.stop(), h.handler.stop())
        await h.handler.stop()
    told = [name for name in probe.names() if "heartbeat" not in name]
    assert told[0] == "on_worker_started"
    assert told[-2:] == ["on_consumer_stopped", "on_worker_stopped"]
    assert sorted(set(told)) == sorted(told)
    [stopped], [consumer] = probe.of("on_worker_stopped"), probe.of("on_consumer_stopped")
    assert (stopped.value.reason, consumer.value.reason) == ("shutdown", "shutdown")


@pytest.mark.spec("CON-06", "MQ-09", "MQ-10", "EXE-01")
async def test_a_stopped_handler_claims_nothing(url: str, clock: VirtualClock) -> None:
    executors, ran = TaskQueuesManager(), list[int]()

    @executors.task("work")
    async def work(payload: None) -> None:
        ran.append(1)

    async with harness(executors, url=url, clock=clock) as h:
        await h.add(work.task(None))
        await h.handler.stop()
        assert await h.handler.process_batch("default") is None
        await h.handler.drain()
        await h.handler.start()
        await clock.sleep(10)
        await h.handler.stop()
        assert ran == []
        assert (await h.handler.queue("default").counts())["waiting"] == 1, "and it is still there"


@pytest.mark.spec("CON-08", "INV-10", "D-63")
async def test_run_returns_when_it_is_stopped_and_leaves_nothing_behind(url: str, clock: VirtualClock) -> None:
    executors, ran = TaskQueuesManager(), list[int]()

    @executors.task("work")
    async def work(payload: None) -> None:
        await clock.sleep(5)
        ran.append(1)

    async with harness(executors, url=url, clock=clock) as h:
        await h.add(work.task(None))
        running = asyncio.create_task(h.handler.run(signals=False))
        await clock.sleep(1)
        await h.handler.stop()
        assert ran == [1], "what ran was waited for"
        await running
        assert asyncio.all_tasks() == {asyncio.current_task()}
