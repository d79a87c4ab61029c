"""The instants of a hand-over: no room, no store, an end in the middle, two servers; nothing is lost or run twice."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tq import Actions, AsyncTaskManager, Task, TaskHandler, TaskQueuesManager, TaskStatus, connect
from tq.errors import BackendUnavailableError
from tq.memory import MemoryBackend
from tq.model import Delivery, State
from tq.ports import Backend
from tq.testing import Fault, Faults, Probe, VirtualClock, plans
from tq.testing.harness import harness


class Log:
    """Executors "work" and "other", handed over after five seconds; remembers when which body began and ended."""

    def __init__(self, clock: VirtualClock, **options: Any) -> None:
        self.clock = clock
        self.start = clock.now()
        self.began: list[tuple[int, str]] = []
        self.ended: list[tuple[int, str]] = []
        self.executors = TaskQueuesManager()
        given: dict[str, Any] = {"handoff_timeout": 5, "store_on_success": True, **options}
        self.executors.executor("work", **given)(self._work)
        self.executors.executor("other", **given)(self._work)

    @property
    def now(self) -> int:
        return round(self.clock.now() - self.start)

    async def _work(self, task: Task[float], actions: Actions) -> None:
        self.began.append((self.now, task.id))
        await asyncio.sleep(task.payload)
        self.ended.append((self.now, task.id))
        actions.success(task, task.id)


def work(id: str, seconds: float, type: str = "work") -> Task[float]:
    return Task(type=type, payload=seconds, id=id)


@pytest.mark.spec("D-20", "D-28", "CON-04", "ATM-01", "ATM-03")
async def test_of_two_with_one_place_one_moves_and_the_other_keeps_its_slot(url: str, clock: VirtualClock) -> None:
    log, manager = Log(clock, concurrency=2), AsyncTaskManager(1)
    async with harness(log.executors, url=url, clock=clock, async_tasks=manager) as h:
        await h.add(work("a", 60), work("b", 100), work("c", 1), work("d", 1))
        await h.handler.start()
        await clock.sleep(50)
        assert [id for id in ("a", "b") if manager.is_handed_off(id)] == ["a"]
        assert log.began == [(0, "a"), (0, "b"), (5, "c"), (6, "d")], "one slot is free, the other taken"
        metrics = manager.get_metrics()
        assert (metrics.active_task_count, metrics.total_handed_off, metrics.utilization_percent) == (1, 1, 100)
        assert metrics.total_rejected >= 1
        await clock.sleep(15)
        assert manager.is_handed_off("b"), "it asks again, and there is a place now"
        await clock.sleep(60)
        assert [id for _, id in log.began] == ["a", "b", "c", "d"], "nobody ran twice"
        for task_id in "abcd":
            await h.assert_succeeded(task_id, task_id)


@pytest.mark.spec("D-27")
async def test_the_limit_per_type_holds(url: str, clock: VirtualClock) -> None:
    log, manager = Log(clock, max_concurrent_async=1), AsyncTaskManager(10)
    async with harness(log.executors, url=url, clock=clock, async_tasks=manager) as h:
        await h.add(work("a", 60), work("b", 70), work("x", 60, "other"))
        await h.handler.start()
        await clock.sleep(50)
        assert [id for id in "abx" if manager.is_handed_off(id)] == ["a", "x"]
        await clock.sleep(13)
        assert manager.is_handed_off("b")
        await clock.sleep(20)
        for task_id in "abx":
            await h.assert_succeeded(task_id, task_id)


def slow_park(backend: Backend, clock: VirtualClock, *, before: float = 0.0, after: float = 0.0) -> Any:
    """Return a `park` that takes its time before, or after, it takes effect."""
    park = backend.park

    async def slow(delivery: Delivery, token: str, lease: float) -> Delivery | None:
        await clock.sleep(before)
        parked = await park(delivery, token, lease)
        await clock.sleep(after)
        return parked

    return slow


@pytest.mark.spec("INV-02", "INV-03", "HND-03")
@pytest.mark.parametrize("times", [{"before": 4.0}, {"after": 4.0}], ids=["before", "after"])
async def test_a_body_that_ends_while_its_custody_moves_ends_once(
    url: str, clock: VirtualClock, times: dict[str, float], monkeypatch: pytest.MonkeyPatch, probe: Probe
) -> None:
    log, manager = Log(clock, concurrency=1), AsyncTaskManager(1)
    backend = connect(url, clock=clock)
    monkeypatch.setattr(backend, "park", slow_park(backend, clock, **times))
    handler = TaskHandler.on(backend, log.executors, clock=clock, async_tasks=manager, lifecycle=probe)
    await handler.add_tasks([work("a", 7), work("b", 1)])
    await handler.start()
    await clock.sleep(8)
    assert log.began == [(0, "a"), (7, "b")]
    await clock.sleep(100)
    assert len(probe.of("on_task_completed")) == 2
    assert await handler.task("a").result() == "a"
    assert log.began == [(0, "a"), (7, "b")]
    metrics = manager.get_metrics()
    assert (metrics.active_task_count, metrics.total_handed_off, metrics.max_tasks) == (0, 0, 1)
    assert manager.can_accept_task(), "the place that was held for it is free again"
    assert await handler.queue("default").counts() == {"waiting": 0, "delayed": 0, "running": 0, "held": 0}
    await handler.close()
    await backend.close()


async def test_a_renewal_in_the_midst_of_a_move_takes_no_lease_away(
    url: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log(clock)
    backend = connect(url, clock=clock)
    monkeypatch.setattr(backend, "park", slow_park(backend, clock, after=12.0))
    handler = TaskHandler.on(backend, log.executors, clock=clock)
    await handler.add_tasks([work("a", 100)])
    await handler.start()
    await clock.sleep(150)
    assert await handler.task("a").result() == "a"
    assert (log.began, log.ended) == ([(0, "a")], [(100, "a")])
    await handler.close()
    await backend.close()


@pytest.mark.spec("D-24", "CON-04")
async def test_a_store_that_is_away_leaves_message_and_lease_as_they_are(
    url: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, manager = Log(clock), AsyncTaskManager()
    backend = connect(url, clock=clock)
    park, away = backend.park, True

    async def faulty(delivery: Delivery, token: str, lease: float) -> Delivery | None:
        if away:
            raise BackendUnavailableError("no answer")
        return await park(delivery, token, lease)

    monkeypatch.setattr(backend, "park", faulty)
    handler = TaskHandler.on(backend, log.executors, clock=clock, async_tasks=manager)
    other = TaskHandler.on(backend, log.executors, clock=clock)
    await handler.add_tasks([work("a", 40), work("b", 200)])
    await handler.start()
    await clock.sleep(4)
    before = await backend.queue.locate(["a", "b"])
    await other.start()
    await clock.sleep(34)
    now = await backend.queue.locate(["a", "b"])
    assert {id: (it.token, it.state) for id, it in now.items()} == {
        id: (it.token, State.RUNNING) for id, it in before.items()
    }
    assert manager.get_metrics().active_task_count == 0
    await clock.sleep(10)
    assert await handler.task("a").result() == "a", "it ended as an ordinary long one"
    away = False
    await clock.sleep(2)
    assert manager.is_handed_off("b"), "it is tried again"
    await clock.sleep(200)
    assert await handler.task("b").result() == "b"
    assert log.began == [(0, "a"), (0, "b")]
    await handler.close()
    await other.close()
    await backend.close()


@pytest.mark.spec("INV-02", "INV-04", "D-36")
async def test_a_move_that_was_not_answered_is_known_again_and_is_no_crash(url: str, clock: VirtualClock) -> None:
    """Meanwhile renewals say that the old lease is gone: it is, and the body's own new one stands in its place."""
    log, backend = Log(clock), connect(url, clock=clock)
    unheard = Faults(plans.on("backend.park", Fault.AFTER, times=4)).backend(backend)
    handler = TaskHandler.on(unheard, log.executors, clock=clock, lease=3.0)
    await handler.add_tasks([work("a", 30)])
    await handler.start()
    await clock.sleep(20)
    place = (await backend.store.locate(["a"]))["a"]
    assert (place.state, place.crashes) == (State.RUNNING, 0)
    await clock.sleep(20)
    assert await handler.task("a").result() == "a"
    assert log.began == [(0, "a")]
    await handler.close()
    await backend.close()


@pytest.mark.spec("D-04", "INV-02", "HND-02")
async def test_custody_goes_from_the_queue_s_server_to_the_store_s(clock: VirtualClock) -> None:
    log = Log(clock)
    near, far = MemoryBackend(clock=clock), MemoryBackend(clock=clock)
    parts: dict[str, Any] = {"queue": near.queue, "store": far.store, "barrier": far.barrier}
    first = TaskHandler(**parts, executors=log.executors, clock=clock)
    second = TaskHandler(**parts, executors=log.executors, clock=clock)
    await first.add_tasks([work("a", 200)])
    await first.start()
    await clock.sleep(4)
    assert (list(await near.queue.locate(["a"])), list(await far.store.locate(["a"]))) == (["a"], [])
    await clock.sleep(6)
    assert (list(await near.queue.locate(["a"])), list(await far.store.locate(["a"]))) == ([], ["a"])
    await second.start()
    await clock.sleep(100)
    assert log.began == [(0, "a")], "the manager renews the row's lease"
    await first.kill()
    await clock.sleep(31)
    assert [id for _, id in log.began] == ["a", "a"], "the row runs elsewhere when its lease is over"
    await clock.sleep(250)
    assert await second.task("a").status() is TaskStatus.EXECUTED
    await second.close()


@pytest.mark.spec("D-24", "HND-10", "AAC-08", "CON-05")
async def test_a_late_outcome_is_written_until_it_is_written(
    url: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, probe: Probe
) -> None:
    log = Log(clock)
    backend = connect(url, clock=clock)
    commit, away = backend.commit, False

    async def faulty(*args: Any) -> Any:
        if away:
            raise BackendUnavailableError("no answer")
        return await commit(*args)

    monkeypatch.setattr(backend, "commit", faulty)
    handler = TaskHandler.on(backend, log.executors, clock=clock, lifecycle=probe)
    await handler.add_tasks([work("a", 30)])
    await handler.start()
    await clock.sleep(20)
    away = True
    await clock.sleep(60)
    assert log.ended == [(30, "a")]
    assert await handler.task("a").status() is TaskStatus.PROCESSING
    assert not probe.of("on_task_completed"), "told once it is true"
    assert caplog.text.count("the backend cannot commit, trying on: no answer") == 1
    away = False
    await clock.sleep(6)
    assert await handler.task("a").result() == "a"
    assert log.began == [(0, "a")]
    await handler.close()
    await backend.close()
