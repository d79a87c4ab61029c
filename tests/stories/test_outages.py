"""What a worker does while its backend is away, refuses, or fails: outcomes are kept in hand, nothing is lost."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from tq import Actions, Backoff, Task, TaskHandler, TaskQueuesManager, TaskStatus, connect
from tq.errors import BackendUnavailableError, ContentRefusedError
from tq.model import Batch, Claim, Hop
from tq.testing import Probe, VirtualClock
from tq.testing.harness import harness


async def nothing(payload: None) -> None: ...


class Faulty:
    """Stands before a backend's commit; `fault` looks at a batch and returns what to raise."""

    def __init__(
        self, handler: TaskHandler, patch: pytest.MonkeyPatch, fault: Callable[[Batch], Exception | None]
    ) -> None:
        self._commit, self._fault = handler.backend.commit, fault
        self.refused = 0
        patch.setattr(handler.backend, "commit", self)

    async def __call__(self, batch: Batch, claim: Claim | None = None) -> Hop:
        error = self._fault(batch)
        if error is not None:
            self.refused += 1
            raise error
        return await self._commit(batch, claim)


@pytest.mark.spec("F-32", "RET-15", "CON-05", "D-12", "D-13", "INV-02")
async def test_an_absent_backend_is_waited_out_with_the_outcomes_in_hand(
    url: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    executors, runs = TaskQueuesManager(), list[str]()

    @executors.executor("work", retries=1, backoff=Backoff(jitter=0), store_on_success=True)
    async def work(task: Task[str], actions: Actions) -> None:
        runs.append(task.payload)
        await clock.sleep(5)
        if task.payload == "retried" and task.attempt == 0:
            raise ValueError("again")
        actions.success(task, task.payload)

    async with harness(executors, url=url, clock=clock) as h:
        ids = await h.add(work.task("good"), work.task("retried"))
        await h.handler.start()
        await clock.sleep(1)
        until = clock.now() + 20
        away = BackendUnavailableError("the server is away")
        faulty = Faulty(h.handler, monkeypatch, lambda batch: away if clock.now() < until else None)
        await clock.sleep(15)
        assert [await h.handler.task(task_id).status() for task_id in ids] == [TaskStatus.PROCESSING] * 2
        await clock.sleep(30)
        for task_id in ids:
            await h.assert_succeeded(task_id)
        assert faulty.refused > 1
    assert sorted(runs) == ["good", "retried", "retried"], "nothing that had ended ran again"


@pytest.mark.spec("RET-15", "CON-05", "D-05", "D-12", "AAC-08")
async def test_an_outcome_that_the_backend_refuses_is_a_dead_letter_and_its_neighbours_are_written(
    url: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    executors = TaskQueuesManager()

    @executors.executor("work", store_on_success=True)
    async def work(task: Task[int], actions: Actions) -> None:
        actions.success(task, "poison" if task.payload == 3 else "fine")

    def fault(batch: Batch) -> Exception | None:
        results = [record.result for item in batch.settlements for record in item.effects.records]
        return ContentRefusedError("poison is refused") if b'"poison"' in results else None

    async with harness(executors, url=url, clock=clock) as h:
        Faulty(h.handler, monkeypatch, fault)
        ids = await h.run(*[work.task(number) for number in range(7)])
        for number, task_id in enumerate(ids):
            if number == 3:
                await h.assert_failed(task_id, "the outcome could not be stored: poison is refused")
            else:
                await h.assert_succeeded(task_id, "fine")
        assert [letter.task_id for letter in await h.handler.dead.list()] == [ids[3]]
        await h.assert_quiet()


@pytest.mark.spec("CON-02", "CON-05", "RET-15", "POL-06", "INV-02", "QLC-05", "QNT-01", "WLC-03", "CLC-02", "AAC-08")
async def test_a_worker_that_fails_as_a_whole_raises_and_its_tasks_run_elsewhere(
    url: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch, probe: Probe
) -> None:
    executors, runs = TaskQueuesManager(), list[float]()

    @executors.executor("work", store_on_success=True)
    async def work(task: Task[Any], actions: Actions) -> None:
        runs.append(clock.now())
        await clock.sleep(1)
        actions.success(task)

    backend = connect(url, clock=clock)
    parts: dict[str, Any] = {"queue": backend.queue, "store": backend.store, "barrier": backend.barrier, "clock": clock}
    told: dict[str, Any] = dict.fromkeys(("workers", "queue_lifecycle", "notifications"), probe)
    first = TaskHandler(**parts, executors=executors, **told)
    second = TaskHandler(**parts, executors=executors)
    [task_id] = await first.add_tasks([Task(type="work")])
    with monkeypatch.context() as patch:
        broken = RuntimeError("an adapter's bug")
        Faulty(first, patch, lambda batch: broken if batch.settlements else None)
        with pytest.raises(RuntimeError, match="an adapter's bug"):
            await first.run(signals=False)
    [trouble] = [seen.value for seen in probe.of("on_task_error")]
    assert (trouble.error, trouble.context) == (broken, "running tasks")
    for name in ("on_consumer_disconnected", "on_consumer_stopped", "on_worker_stopped"):
        assert [seen.value.reason for seen in probe.of(name)] == ["error"]
    await second.start()
    await clock.sleep(32)
    assert len(runs) == 2
    assert await second.task(task_id).status() is TaskStatus.EXECUTED
    await second.close()
    await backend.close()


@pytest.mark.spec("D-01", "CON-06")
async def test_what_a_slow_claim_brings_after_the_stop_is_given_back_at_once(
    url: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    executors, ran = TaskQueuesManager(), list[int]()

    @executors.task("work", retries=3)
    async def work(payload: None) -> None:
        ran.append(1)

    async with harness(executors, url=url, clock=clock) as h:
        [task_id] = await h.add(work.task(None))
        commit = h.handler.backend.commit

        async def slow(batch: Batch, claim: Claim | None = None) -> Hop:
            hop = await commit(batch, claim)
            await clock.sleep(2 if claim is not None else 0)
            return hop

        monkeypatch.setattr(h.handler.backend, "commit", slow)
        await h.handler.start()
        await clock.sleep(1)
        began = clock.now()
        await h.handler.stop()
        assert clock.now() - began < 2
        place = (await h.handler.backend.queue.locate([task_id]))[task_id]
        assert (place.state, place.attempt, place.crashes) == ("waiting", 0, 0)
        assert place.run_at <= clock.now(), "due as it was"
        assert ran == []


@pytest.mark.spec("POL-05")
async def test_a_round_that_fails_is_logged_and_comes_again(
    url: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    executors = TaskQueuesManager()
    executors.task("work", result_ttl=30)(nothing)
    async with harness(executors, url=url, clock=clock) as h:
        store, calls = h.handler.backend.store, list[float]()
        purge = store.purge

        async def failing(now: float, remember: float, limit: int) -> int:
            calls.append(now)
            if len(calls) == 1:
                raise RuntimeError("no purge today")
            return await purge(now, remember, limit)

        monkeypatch.setattr(store, "purge", failing)
        with caplog.at_level(logging.WARNING):
            await h.handler.start()
            await clock.sleep(130)
        assert "retention failed and will be tried again" in caplog.text
        assert len(calls) == 3, "once a minute"
        [task_id] = await h.add(Task(type="work"))
        await clock.sleep(2)
        assert await h.handler.task(task_id).status() is not TaskStatus.SCHEDULED, "and the worker went on"
