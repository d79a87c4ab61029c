"""What a provider hears of workers, their consumers and their batches; and when a worker may say that it runs."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tq import Actions, AsyncTaskManager, Backoff, Task, TaskHandler, TaskQueuesManager, connect
from tq.clock import to_datetime
from tq.errors import BackendUnavailableError, ConfigurationError
from tq.model import Receipt, events
from tq.testing import Probe, VirtualClock
from tq.testing.harness import harness


def two_queues(clock: VirtualClock) -> TaskQueuesManager:
    """Executors "good" and "bad" on "a", "good" on "b"; each takes two seconds."""
    executors = TaskQueuesManager()

    async def good(payload: None) -> None:
        await clock.sleep(2)

    async def bad(payload: None) -> None:
        await clock.sleep(2)
        raise ValueError("bad")

    executors.task("good", queue="a")(good)
    executors.task("bad", queue="a", retries=1, backoff=Backoff(base=100, jitter=0))(bad)
    executors.task("good", queue="b")(good)
    return executors


@pytest.mark.spec("WLC-01", "WLC-03", "WLC-06", "CON-08")
async def test_a_worker_is_told_as_started_and_stopped_once(url: str, clock: VirtualClock, probe: Probe) -> None:
    executors = two_queues(clock)
    async with harness(executors, url=url, clock=clock, workers=probe, heartbeat_interval=1000) as h:
        await h.add(Task(type="good", queue_id="a"), Task(type="bad", queue_id="a"))
        await clock.sleep(100)
        began = clock.now()
        await asyncio.gather(h.handler.start(), h.handler.start())
        await h.handler.start()
        await clock.sleep(10)
        await asyncio.gather(h.handler.stop(), h.handler.stop())
        await h.handler.close()
        info: dict[str, Any] = {
            "worker_id": h.handler.worker_id,
            "hostname": socket.gethostname(),
            "pid": os.getpid(),
            "started_at": to_datetime(began),
            "enabled_queues": ("a", "b"),
        }
        assert [seen.value for seen in probe.of("on_worker_started")] == [events.WorkerStarted(**info)]
        stats = events.WorkerStats(tasks_processed=2, tasks_succeeded=1, tasks_failed=1, avg_processing=1.0)
        stopped = events.WorkerStopped(**info, reason="shutdown", final_stats=stats)
        assert [seen.value for seen in probe.of("on_worker_stopped")] == [stopped]
        assert (probe.names()[0], probe.names()[-1]) == ("on_worker_started", "on_worker_stopped")


@pytest.mark.spec("CON-08", "MQ-05", "WLC-01", "WLC-03")
async def test_run_ends_when_it_is_stopped_and_tells_so_once(url: str, clock: VirtualClock, probe: Probe) -> None:
    async with harness(two_queues(clock), url=url, clock=clock, workers=probe) as h:
        running = asyncio.create_task(h.handler.run(signals=False))
        await clock.sleep(10)
        assert not running.done()
        await h.handler.stop()
        await running
        names = probe.names()
        assert (names.count("on_worker_started"), names.count("on_worker_stopped")) == (1, 1)


@pytest.mark.spec("CON-09", "WLC-01")
async def test_only_a_worker_says_that_a_worker_started(url: str, clock: VirtualClock, probe: Probe) -> None:
    executors = two_queues(clock)
    async with harness(executors, url=url, clock=clock, workers=probe) as h:
        await h.run(Task(type="good", queue_id="a"))
        await h.add(Task(type="good", queue_id="b"))
        assert await h.handler.process_batch("b") is not None
    assert "on_worker_started" not in probe.names()
    assert "on_worker_stopped" not in probe.names()


@pytest.mark.spec("MQ-09", "WLC-01")
async def test_a_worker_that_was_stopped_before_its_start_never_starts(
    url: str, clock: VirtualClock, probe: Probe
) -> None:
    async with harness(two_queues(clock), url=url, clock=clock, workers=probe) as h:
        await h.add(Task(type="good", queue_id="a"))
        await h.handler.stop()
        await h.handler.start()
        await clock.sleep(10)
        assert probe.names() == []


async def test_a_stop_in_the_midst_of_a_start_stops_what_was_started(
    url: str, clock: VirtualClock, probe: Probe
) -> None:
    closed = list[float]()

    @asynccontextmanager
    async def slow() -> AsyncGenerator[None]:
        await clock.sleep(10)
        yield
        closed.append(clock.now())

    async with harness(two_queues(clock), url=url, clock=clock, workers=probe, lifespan=slow) as h:
        began = clock.now()
        starting = asyncio.create_task(h.handler.start())
        await clock.sleep(1)
        await h.handler.stop()
        await starting
        assert closed == [began + 10]
        await clock.sleep(100)
        assert closed == [began + 10]
        assert probe.names()[-1] == "on_worker_stopped"


@pytest.mark.spec("D-87")
async def test_a_worker_that_cannot_serve_says_so_before_it_says_that_it_started(
    url: str, clock: VirtualClock, probe: Probe
) -> None:
    options: dict[str, Any] = {"url": url, "clock": clock, "workers": probe, "queue_lifecycle": probe}
    async with harness(TaskQueuesManager(), **options) as h:
        with pytest.raises(ConfigurationError, match="register an executor"):
            await h.handler.start()
    executors = two_queues(clock)
    executors.queue("declared")
    async with harness(executors, queues=["a", "declared"], **options) as h:
        with pytest.raises(ConfigurationError, match="no executor is registered on declared"):
            await h.handler.start()

    @asynccontextmanager
    async def broken() -> AsyncGenerator[None]:
        raise RuntimeError("no pool")
        yield

    async with harness(executors, lifespan=broken, **options) as h:
        with pytest.raises(RuntimeError, match="no pool"):
            await h.handler.start()
    assert probe.names() == []


@pytest.mark.spec("WLC-02", "WLC-06", "CLC-04", "CON-08")
async def test_heartbeats_tell_what_runs_and_what_was_done(url: str, clock: VirtualClock, probe: Probe) -> None:
    executors = TaskQueuesManager()

    @executors.executor("work", queue="q", retries=1, concurrency=2, backoff=Backoff(base=1000, jitter=0))
    async def work(task: Task[Any], actions: Actions) -> None:
        await clock.sleep(task.payload)
        if task.payload == 3:
            actions.fail(task)
        else:
            actions.success(task)

    async with harness(executors, url=url, clock=clock, workers=probe) as h:
        began = clock.now()
        await h.add(*[work.task(seconds) for seconds in (1, 3, 12)])
        await h.handler.start()
        await clock.sleep(22)
        beats = [seen.value for seen in probe.of("on_worker_heartbeat")]
        assert len(beats) == 5, "at once, and every five seconds"
        assert [beat.active_tasks for beat in beats[1:]] == [1, 1, 0, 0]
        done = [(it.stats.tasks_processed, it.stats.tasks_succeeded, it.stats.tasks_failed) for it in beats[1:]]
        assert done == [(2, 1, 1), (2, 1, 1), (3, 2, 1), (3, 2, 1)]
        [consumer] = beats[-1].active_consumers
        assert consumer == events.ConsumerStats(
            consumer_id=f"{h.handler.backend.queue.name}:q",
            queue_id="q",
            tasks_processed=3,
            tasks_succeeded=2,
            tasks_failed=1,
            last_task_at=to_datetime(began + 13),
        )
        assert beats[-1].memory_usage_mb is None or beats[-1].memory_usage_mb > 1
        assert beats[-1].worker_id == h.handler.worker_id


@pytest.mark.spec("WLC-02")
async def test_the_interval_of_heartbeats_is_a_setting(url: str, clock: VirtualClock, probe: Probe) -> None:
    async with harness(two_queues(clock), url=url, clock=clock, workers=probe, heartbeat_interval=60) as h:
        await h.handler.start()
        await clock.sleep(125)
        assert len(probe.of("on_worker_heartbeat")) == 3


@pytest.mark.spec("CLC-01", "CLC-02", "CLC-03", "CLC-04", "MQ-06", "CON-08")
async def test_a_consumer_starts_with_its_first_batch_and_stops_with_its_worker(
    url: str, clock: VirtualClock, probe: Probe
) -> None:
    async with harness(two_queues(clock), url=url, clock=clock, workers=probe) as h:
        await h.handler.start()
        await clock.sleep(3)
        assert not probe.of("on_consumer_started"), "nothing has come yet"
        began = clock.now()
        await h.add(Task(type="good", queue_id="a"), Task(type="bad", queue_id="a"))
        await clock.sleep(5)
        [started] = [seen.value for seen in probe.of("on_consumer_started")]
        await h.add(Task(type="good", queue_id="a"), Task(type="good", queue_id="b"))
        await clock.sleep(5)
        consumer_id = f"{h.handler.backend.queue.name}:a"
        assert [seen.value.queue_id for seen in probe.of("on_consumer_started")] == ["a", "b"]
        assert started == events.ConsumerStarted(
            consumer_id=consumer_id, queue_id="a", worker_id=h.handler.worker_id, started_at=to_datetime(began)
        )
        await h.handler.stop()
        stopped, other = [seen.value for seen in probe.of("on_consumer_stopped")]
        assert (other.queue_id, other.reason, other.stats.tasks_processed) == ("b", "shutdown", 1)
        stats = events.ConsumerStats(
            consumer_id=consumer_id,
            queue_id="a",
            tasks_processed=3,
            tasks_succeeded=2,
            tasks_failed=1,
            last_task_at=to_datetime(began + 7),
        )
        assert stopped == events.ConsumerStopped(
            consumer_id=consumer_id, queue_id="a", worker_id=h.handler.worker_id, reason="shutdown", stats=stats
        )


@pytest.mark.spec("WLC-04", "WLC-05", "CON-01")
async def test_a_batch_is_told_per_queue_from_its_claim_to_its_last_ending(
    url: str, clock: VirtualClock, probe: Probe
) -> None:
    async with harness(two_queues(clock), url=url, clock=clock, workers=probe) as h:
        began = clock.now()
        kinds = [("good", "a"), ("bad", "a"), ("good", "a"), ("good", "b")]
        await h.add(*[Task(type=type, queue_id=queue) for type, queue in kinds])
        await h.handler.start()
        await clock.sleep(10)
        started = {seen.value.queue_id: seen.value for seen in probe.of("on_batch_started")}
        assert started.keys() == {"a", "b"}
        assert (started["a"].batch_size, started["a"].task_types) == (3, ("good", "bad"))
        assert (started["b"].batch_size, started["b"].task_types) == (1, ("good",))
        assert started["a"].consumer_id == f"{h.handler.backend.queue.name}:a"
        assert (started["a"].worker_id, started["a"].enabled_queues) == (h.handler.worker_id, ("a", "b"))
        completed = {seen.value.queue_id: seen.value for seen in probe.of("on_batch_completed")}
        told = {queue: (it.batch_size, it.succeeded, it.failed, it.duration) for queue, it in completed.items()}
        assert told == {"a": (3, 2, 1, 2.0), "b": (1, 1, 0, 2.0)}
        assert completed["a"].consumer_id == started["a"].consumer_id
        assert clock.now() == began + 10


@pytest.mark.spec("WLC-05", "INV-09")
async def test_a_batch_ends_without_those_that_were_handed_over_given_back_or_lost(
    url: str, clock: VirtualClock, probe: Probe
) -> None:
    executors = TaskQueuesManager()

    @executors.task("work", queue="q", handoff_timeout=3)
    async def work(payload: float) -> None:
        await clock.sleep(payload)

    backend = connect(url, clock=clock)
    options: dict[str, Any] = {"clock": clock, "workers": probe, "async_tasks": AsyncTaskManager()}
    handler = TaskHandler.on(backend, executors, **options)
    unknown: Task[Any] = Task(type="nobody", queue_id="q")
    _, lost, _, _ = await handler.add_tasks([work.task(1), work.task(2), work.task(100), unknown])
    await handler.start()
    await clock.sleep(1)
    other = await backend.queue.locate([lost])
    await backend.release([Receipt(lost, other[lost].token)])  # somebody thought that this worker was dead
    await clock.sleep(4)
    [first] = [seen.value for seen in probe.of("on_batch_completed") if seen.value.batch_size == 4]
    assert (first.succeeded, first.failed) == (1, 0)
    assert first.duration == pytest.approx(3, abs=0.1)
    await clock.sleep(200)
    assert handler._station.worker is not None
    assert not handler._station.worker._report._rounds, "nothing is kept of rounds that are over"
    await handler.close()
    await backend.close()


@pytest.mark.spec("WLC-03", "NTP-05")
async def test_a_worker_that_ends_by_an_error_says_so(
    url: str, clock: VirtualClock, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = connect(url, clock=clock)
    handler = TaskHandler.on(backend, two_queues(clock), clock=clock, workers=probe, notifications=probe)
    commit, faults = backend.commit, list[Exception]()

    async def faulty(*args: Any) -> Any:
        if faults:
            raise faults[0]
        return await commit(*args)

    monkeypatch.setattr(backend, "commit", faulty)
    running = asyncio.create_task(handler.run(signals=False))
    await clock.sleep(1)
    faults.append(MemoryError("no room"))
    assert handler._station.worker is not None
    handler._station.worker.notify()
    with pytest.raises(MemoryError, match="no room"):
        await running
    assert [seen.value.reason for seen in probe.of("on_worker_stopped")] == ["error"]
    [trouble] = [seen.value for seen in probe.of("on_task_error") if isinstance(seen.value.error, MemoryError)]
    assert trouble.context == "running tasks"
    faults.clear()
    await backend.close()


@pytest.mark.spec("WLC-02", "POL-05")
async def test_a_worker_beats_on_while_its_server_is_away(
    url: str, clock: VirtualClock, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = connect(url, clock=clock)
    handler = TaskHandler.on(backend, two_queues(clock), clock=clock, workers=probe)
    await handler.start()
    await clock.sleep(1)

    async def away(*args: Any, **options: Any) -> Any:
        raise BackendUnavailableError("away")

    monkeypatch.setattr(backend.queue, "announce", away)
    before = len(probe.of("on_worker_heartbeat"))
    await clock.sleep(20)
    assert len(probe.of("on_worker_heartbeat")) == before + 4
    await handler.close()
    await backend.close()
