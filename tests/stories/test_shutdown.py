"""A stop drains, then releases; an absent or full server loses nothing and convicts nobody; nothing is left behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tq import Actions, AsyncTaskManager, Task, TaskHandler, TaskQueuesManager, TaskStatus, connect
from tq.errors import BackendUnavailableError, DatabaseFullError
from tq.manager import ShutdownResult
from tq.ports import Backend
from tq.testing import Probe, VirtualClock


def sleeping(clock: VirtualClock, began: list[str], **options: Any) -> TaskQueuesManager:
    """An executor "work" that sleeps as long as its payload says; "bad" then raises."""
    executors = TaskQueuesManager()

    async def work(task: Task[float], actions: Actions) -> None:
        began.append(task.id)
        await asyncio.sleep(task.payload)
        if task.type == "bad":
            raise ValueError("bad")
        actions.success(task, task.id)

    given: dict[str, Any] = {"store_on_success": True, **options}
    executors.executor("work", **given)(work)
    executors.executor("bad", **given)(work)
    return executors


def work(id: str, seconds: float, type: str = "work") -> Task[float]:
    return Task(type=type, payload=seconds, id=id)


@pytest.mark.spec("D-63", "ATM-15", "ATM-16", "EXE-11")
async def test_a_stop_waits_for_long_runs_and_gives_back_what_is_left(
    url: str, clock: VirtualClock, probe: Probe
) -> None:
    began, manager = list[str](), AsyncTaskManager(shutdown_grace_period=20)
    executors = sleeping(clock, began, handoff_timeout=2, max_duration=1e6)
    backend = connect(url, clock=clock)
    first = TaskHandler.on(backend, executors, clock=clock, async_tasks=manager, lifecycle=probe)
    second = TaskHandler.on(backend, executors, clock=clock)
    tasks = [work("good", 30), work("bad", 30, "bad"), work("left", 1e5), work("late", 1e5)]
    await first.add_tasks(tasks)
    await first.start()
    await clock.sleep(20)
    at = clock.now()
    stopping = asyncio.create_task(first.stop())
    await clock.sleep(1)
    assert not manager.can_accept_task()
    await stopping
    assert clock.now() - at == pytest.approx(20, abs=1)
    assert await manager.shutdown() == ShutdownResult(completed_during_grace=2, abandoned_task_ids=("left", "late"))
    assert await second.task("good").result() == "good"
    assert await second.task("bad").status() is TaskStatus.FAILED
    places = await backend.queue.locate(["left", "late"])
    assert [(it.attempt, it.crashes, it.lease_until) for it in places.values()] == [(0, 0, 0.0)] * 2
    assert not [seen for seen in probe.of("on_task_failed") if seen.value.task_id in ("left", "late")]
    await second.start()
    await clock.sleep(1)
    assert began[4:] == ["left", "late"], "they run elsewhere at once"
    await second.kill()
    await backend.close()


@pytest.mark.spec("ATM-17", "D-63")
async def test_the_grace_of_long_runs_can_be_cut_short(url: str, clock: VirtualClock) -> None:
    began, manager, hurry = list[str](), AsyncTaskManager(shutdown_grace_period=500), asyncio.Event()
    backend = connect(url, clock=clock)
    handler = TaskHandler.on(
        backend, sleeping(clock, began, handoff_timeout=2), clock=clock, async_tasks=manager, grace_period=600
    )
    await handler.add_tasks([work("a", 1e5)])
    await handler.start()
    await clock.sleep(20)
    at = clock.now()
    stopping = asyncio.create_task(handler.stop())
    result = asyncio.create_task(manager.shutdown(hurry))
    await clock.sleep(7)
    assert not stopping.done()
    hurry.set()
    await stopping
    assert clock.now() - at == pytest.approx(7, abs=0.1)
    assert (await result).abandoned_task_ids == ("a",)
    assert (await backend.queue.locate(["a"]))["a"].lease_until == 0.0
    await backend.close()


@pytest.mark.spec("INV-10", "ATM-07")
async def test_after_a_stop_nothing_is_left_of_anything(url: str, clock: VirtualClock) -> None:
    async def never(*_: object) -> None:
        await asyncio.sleep(1e9)

    class Never:
        async def on_task_started(self, event: object) -> None:
            await asyncio.sleep(1e9)

    began, manager = list[str](), AsyncTaskManager(default_max_duration=20, on_task_timeout=never)
    executors = sleeping(clock, began, handoff_timeout=2, timeout=1e6)
    provider: Any = Never()
    backend = connect(url, clock=clock)
    handler = TaskHandler.on(backend, executors, clock=clock, async_tasks=manager, lifecycle=provider)
    await handler.add_tasks([work("swept", 1e9), work("ran", 1e9)])
    before = asyncio.all_tasks()
    await handler.start()
    await clock.sleep(29)
    await handler.add_tasks([work("runs", 1e9)])
    await clock.sleep(1)
    at = clock.now()
    await handler.stop()
    assert clock.now() - at < 36, "the grace, and a little for those who listen"
    for _ in range(5):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    await handler.stop()
    await backend.close()


@pytest.mark.spec("INV-10")
async def test_after_a_kill_nothing_is_left_either(url: str, clock: VirtualClock) -> None:
    began, manager = list[str](), AsyncTaskManager()
    backend = connect(url, clock=clock)
    before = asyncio.all_tasks()
    handler = TaskHandler.on(
        backend, sleeping(clock, began, handoff_timeout=2), clock=clock, async_tasks=manager, concurrency=2
    )
    await handler.add_tasks([work(f"t{number}", 1e5) for number in range(5)])
    await handler.start()
    await clock.sleep(20)
    await handler.kill()
    assert asyncio.all_tasks() == before
    await backend.close()


class Faulty:
    """A backend's `commit` that fails while a fault is set: before it takes effect, or after."""

    def __init__(self, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
        self._commit = backend.commit
        self.fault: Exception | None = None
        self.after = False
        self.refusals = 0
        monkeypatch.setattr(backend, "commit", self.commit)

    async def commit(self, *args: Any) -> Any:
        hop = await self._commit(*args) if self.fault is None or self.after else None
        if self.fault is not None:
            self.refusals += 1
            raise self.fault
        return hop


FAULTS = [BackendUnavailableError("no answer"), DatabaseFullError("no room is left on the disk")]


@pytest.mark.spec("D-24", "INV-01", "INV-02", "RET-15", "HND-10", "AAC-08")
@pytest.mark.parametrize("handoff", [None, 2.0], ids=["in line", "handed over"])
@pytest.mark.parametrize("fault", FAULTS, ids=["away", "full"])
async def test_a_server_that_cannot_write_loses_nothing_and_convicts_nobody(
    url: str,
    clock: VirtualClock,
    monkeypatch: pytest.MonkeyPatch,
    fault: Exception,
    handoff: float | None,
    probe: Probe,
) -> None:
    began = list[str]()
    backend = connect(url, clock=clock)
    faulty = Faulty(backend, monkeypatch)
    handler = TaskHandler.on(backend, sleeping(clock, began, handoff_timeout=handoff), clock=clock, lifecycle=probe)
    ids = [f"t{number}" for number in range(20)]
    await handler.add_tasks([work(task_id, 5 + number / 10) for number, task_id in enumerate(ids)])
    await handler.start()
    await clock.sleep(4)
    faulty.fault = fault
    await clock.sleep(90)
    assert faulty.refusals > 10
    assert not probe.of("on_task_completed")
    assert [await handler.task(task_id).status() for task_id in ids] == [TaskStatus.PROCESSING] * 20
    faulty.fault = None
    await clock.sleep(6)
    assert [await handler.task(task_id).result() for task_id in ids] == ids
    assert sorted(began) == sorted(ids), "leases were kept meanwhile: nobody ran twice"
    assert not await handler.dead.list()
    assert len(probe.of("on_task_completed")) == 20
    await handler.close()
    await backend.close()


@pytest.mark.spec("INV-01", "INV-02")
async def test_answers_that_are_lost_for_seconds_lose_nothing(
    url: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = list[str]()
    backend = connect(url, clock=clock)
    faulty = Faulty(backend, monkeypatch)
    handler = TaskHandler.on(backend, sleeping(clock, began), clock=clock)
    ids = [f"t{number}" for number in range(20)]
    await handler.add_tasks([work(task_id, 5 + number) for number, task_id in enumerate(ids)])
    await handler.start()
    for _ in range(5):
        await clock.sleep(4)
        faulty.fault, faulty.after = BackendUnavailableError("the answer was lost"), True
        await clock.sleep(2)
        faulty.fault = None
    await clock.sleep(60)
    assert [await handler.task(task_id).result() for task_id in ids] == ids
    assert sorted(began) == sorted(ids)
    await handler.close()
    await backend.close()


@pytest.mark.spec("D-63", "INV-10", "INV-02")
async def test_a_stop_while_the_server_is_away_ends_and_the_task_runs_elsewhere(
    url: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = list[str]()
    backend = connect(url, clock=clock)
    faulty = Faulty(backend, monkeypatch)
    executors = sleeping(clock, began)
    first = TaskHandler.on(backend, executors, clock=clock, grace_period=10)
    second = TaskHandler.on(backend, executors, clock=clock)
    await first.add_tasks([work("ended", 5), work("runs", 1e5)])
    await first.start()
    await clock.sleep(2)
    faulty.fault = BackendUnavailableError("no answer")
    await clock.sleep(8)
    at = clock.now()
    await first.stop()
    assert clock.now() - at < 20
    faulty.fault = None
    await second.start()
    await clock.sleep(60)
    assert sorted(began) == ["ended", "ended", "runs", "runs"], "at least once: the outcome could not be written"
    assert await second.task("ended").result() == "ended"
    await second.kill()
    await backend.close()
