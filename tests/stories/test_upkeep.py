"""What is done now and then, unasked: retention, announcing, taking back what the dead left; no trouble spreads."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.stories.flows import Stage
from tq import Actions, FlowStep, Join, Task, TaskHandler, TaskQueuesManager, TaskStatus, connect
from tq.clock import to_datetime
from tq.errors import BackendUnavailableError, InvalidInputError, UnknownFlowError
from tq.testing import VirtualClock
from tq.testing.harness import harness

DAY = 86_400.0


@pytest.mark.spec("POL-07", "STO-10", "RES-09")
async def test_results_go_after_a_day_flows_after_seven_dead_letters_after_thirty(
    url: str, clock: VirtualClock
) -> None:
    stage = Stage()

    @stage.executors.task("result")
    async def result(payload: int) -> int:
        return payload

    @stage.executors.task("longer", result_ttl=5 * DAY)
    async def longer(payload: int) -> int:
        return payload

    @stage.executors.task("dead")
    async def dead(payload: None) -> None:
        raise ValueError("dead")

    async with harness(stage.executors, url=url, clock=clock) as h:
        closed = await stage.start(h.handler, ["a"])
        one, five, letter = await h.run(result.task(1), longer.task(5), dead.task(None))
        await h.handler.queue("media").pause()
        opened = await stage.start(h.handler, ["never runs"])
        waiting = (await h.add(result.task(9, execute_at=to_datetime(clock.now() + 40 * DAY))))[0]
        names = {one: "one", five: "five", letter: "dead", closed: "closed", opened: "open"}
        began = clock.now()

        async def kept(at: float) -> list[str]:
            await h.later(began + at - clock.now())
            records = await h.handler.backend.store.records([one, five, letter])
            flows = {state.id for state in await h.flows()}
            return [name for id, name in names.items() if id in records or id in flows]

        assert await kept(DAY - 1) == ["one", "five", "dead", "closed", "open"]
        assert await kept(DAY + 1) == ["five", "dead", "closed", "open"]
        assert await kept(5 * DAY - 1) == ["five", "dead", "closed", "open"]
        assert await kept(5 * DAY + 1) == ["dead", "closed", "open"]
        assert await kept(7 * DAY - 1) == ["dead", "closed", "open"]
        assert await kept(7 * DAY + 1) == ["dead", "open"]
        with pytest.raises(UnknownFlowError):
            await h.handler.flow(closed).status()
        assert await kept(30 * DAY - 1) == ["dead", "open"]
        assert await kept(30 * DAY + 1) == ["open"], "an open flow never expires"
        assert await h.handler.task(waiting).status() is TaskStatus.SCHEDULED, "nor does what waits"
        assert await h.handler.dead.list() == []


@pytest.mark.spec("POL-07")
async def test_much_that_is_due_to_go_goes_at_once(url: str, clock: VirtualClock) -> None:
    executors = TaskQueuesManager()

    @executors.task("result", result_ttl=100)
    async def result(payload: int) -> int:
        return payload

    async with harness(executors, url=url, clock=clock) as h:
        await h.handler.start()
        await h.add(*[result.task(number) for number in range(2_500)])
        await clock.sleep(90)
        assert (await h.handler.backend.store.stats())["records"] == 2_500
        await clock.sleep(40)
        assert (await h.handler.backend.store.stats())["records"] == 0, "a thousand at a time, one after the other"


@pytest.mark.spec("MQ-03", "D-32")
async def test_workers_announce_their_queues_and_producers_hear_of_them(url: str, clock: VirtualClock) -> None:
    executors, declared = TaskQueuesManager(), TaskQueuesManager()
    declared.queue("other")

    @executors.task("work", queue="media")
    async def work(payload: None) -> None: ...

    backend = connect(url, clock=clock)
    worker = TaskHandler.on(backend, executors, clock=clock)
    producer = TaskHandler.on(backend, declared, clock=clock)
    task: Task[Any] = Task(type="work", queue_id="media")
    with pytest.raises(InvalidInputError, match="known are: other"):
        await producer.add_tasks([task])
    await worker.start()
    await producer.add_tasks([task])
    await clock.sleep(3700)
    await producer.add_tasks([task])
    assert list(await backend.queue.announced()) == ["media"], "told again and again"
    await worker.stop()
    assert list(await backend.queue.announced()) == [], "it says good-bye"
    await producer.add_tasks([Task(type="work", queue_id="other"), task])
    with pytest.raises(InvalidInputError, match="known are: other"):
        await TaskHandler.on(backend, declared, clock=clock).add_tasks([task])
    await worker.close()
    await producer.close()
    await backend.close()


async def test_a_queue_whose_worker_has_died_is_served_for_half_a_minute_more(url: str, clock: VirtualClock) -> None:
    executors = TaskQueuesManager()

    @executors.task("work")
    async def work(payload: None) -> None: ...

    backend = connect(url, clock=clock)
    worker = TaskHandler.on(backend, executors, clock=clock)
    await worker.start()
    await clock.sleep(100)
    await worker.kill()
    await clock.sleep(24)
    assert list(await backend.queue.announced()) == ["default"]
    await clock.sleep(7)
    assert list(await backend.queue.announced()) == []
    await backend.close()


@pytest.mark.spec("POL-05", "D-31")
async def test_trouble_in_one_round_stops_neither_the_others_nor_the_next(
    url: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage()

    @stage.executors.task("result", result_ttl=100)
    async def result(payload: int) -> int:
        return payload

    backend = connect(url, clock=clock)
    handler = TaskHandler.on(backend, stage.executors, clock=clock)
    await handler.start()
    [task_id] = await handler.add_tasks([result.task(1)])
    await clock.sleep(1)

    async def away(*args: Any, **options: Any) -> Any:
        raise BackendUnavailableError("no answer")

    async def broken(*args: Any, **options: Any) -> Any:
        raise RuntimeError("a fault of ours")

    assert backend.barrier is not None
    with monkeypatch.context() as patch:
        patch.setattr(backend.barrier, "due", broken)
        patch.setattr(backend.barrier, "quiet", away)
        patch.setattr(backend.queue, "announce", away)
        await clock.sleep(220)
        assert await handler.task(task_id).record() is None, "retention goes on"
        [other] = await handler.add_tasks([result.task(2)])
        await clock.sleep(1)
        assert await handler.task(other).result() == 2, "tasks run on"
        patch.setattr(backend.store, "purge", broken)
        await clock.sleep(220)
        assert await handler.task(other).record() is not None
        flow = await stage.start(handler, [{"sleep": 100}], timeout=10)
        await clock.sleep(20)
        assert (await handler.flow(flow).status()).verdict is None
    await clock.sleep(62)
    assert await handler.task(other).record() is None
    assert (await handler.flow(flow).status()).verdict is not None
    words = {record.message for record in caplog.records}
    assert "announcing failed and will be tried again: no answer" in words
    assert "deadlines and joins failed and will be tried again: a fault of ours" in words
    await handler.close()
    await backend.close()


@pytest.mark.spec("POL-06", "D-34", "ADP-05")
@pytest.mark.parametrize("lease", [30.0, 120.0])
async def test_what_a_dead_worker_left_is_taken_up_when_its_lease_is_over(
    url: str, clock: VirtualClock, lease: float
) -> None:
    executors, began = TaskQueuesManager(), list[float]()

    @executors.executor("work", store_on_success=True)
    async def work(task: Task[Any], actions: Actions) -> None:
        began.append(clock.now())
        await asyncio.sleep(1e9 if len(began) == 1 else 1)
        actions.success(task)

    backend = connect(url, clock=clock)
    first, second = [TaskHandler.on(backend, executors, clock=clock, lease=lease) for _ in range(2)]
    [task_id] = await first.add_tasks([work.task(None)])
    await first.start()
    await second.start()
    await clock.sleep(20 * lease)
    assert len(began) == 1, "age alone is no reason"
    await first.kill()
    died = clock.now()
    await clock.sleep(lease + 2)
    assert len(began) == 2
    assert lease * 2 / 3 - 1 <= began[1] - died <= lease + 1
    record = await second.task(task_id).record()
    assert record is not None
    assert (record.status, record.attempt, record.fence) == (TaskStatus.EXECUTED, 0, 2)
    await second.close()
    await backend.close()


@pytest.mark.spec("D-37", "POL-05")
async def test_polls_never_overlap_and_errors_of_a_claim_end_nothing(
    url: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    executors, ran = TaskQueuesManager(), list[int]()

    @executors.task("work")
    async def work(payload: int) -> None:
        ran.append(payload)

    backend = connect(url, clock=clock)
    handler = TaskHandler.on(backend, executors, clock=clock)
    commit, at_work, calls = backend.commit, 0, 0

    async def slow(*args: Any) -> Any:
        nonlocal at_work, calls
        at_work, calls = at_work + 1, calls + 1
        assert at_work == 1
        try:
            await clock.sleep(7)
            if calls % 3 == 0:
                raise BackendUnavailableError("no answer")
            return await commit(*args)
        finally:
            at_work -= 1

    producer = TaskHandler.on(backend, executors, clock=clock)
    for number in range(10):
        monkeypatch.setattr(backend, "commit", commit)
        await producer.add_tasks([work.task(number)])
        monkeypatch.setattr(backend, "commit", slow)
        await handler.start()
        await clock.sleep(11)
    monkeypatch.setattr(backend, "commit", commit)
    await clock.sleep(60)
    assert sorted(ran) == list(range(10))
    assert calls > 10
    assert "the backend cannot commit, trying on: no answer" in caplog.text
    await handler.close()
    await producer.close()
    await backend.close()


@pytest.mark.spec("INV-09")
async def test_nothing_is_remembered_of_what_is_over(clock: VirtualClock) -> None:
    executors = TaskQueuesManager()

    @executors.executor("work", timeout=100, handoff_timeout=50)
    async def work(task: Task[int], actions: Actions) -> None:
        if task.payload % 3 == 0:
            raise ValueError("bad")
        actions.start_flow([FlowStep("step")], join=Join("join"))
        actions.success(task)

    @executors.task("step")
    async def step(payload: None) -> None: ...

    @executors.executor("join")
    async def join(task: Task[Any], actions: Actions) -> None:
        actions.success(task)

    async with harness(executors, clock=clock) as h:
        await h.run(*[work.task(number) for number in range(3_000)])
        worker = h.handler._station.worker
        assert worker is not None
        assert worker.idle
        assert worker._report._rounds == {}
        assert len(worker._alarms._heap) <= 1_000
        assert worker._slots.running == worker._slots.waiting == 0
        await clock.sleep(31 * DAY)
        await h.drain()
        stats = await h.handler.backend.store.stats()
        assert set(stats.values()) == {0}
        assert not await h.flows()
