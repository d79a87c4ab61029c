"""What a provider hears in sums: counts of queues, tasks discarded, trouble, and the last word."""

from __future__ import annotations

from typing import Any

import pytest

from tq import Actions, AsyncTaskManager, Backoff, Task, TaskHandler, TaskQueuesManager, connect
from tq.errors import BackendUnavailableError
from tq.model import Receipt, events
from tq.testing import Probe, VirtualClock
from tq.testing.harness import harness

EVEN = Backoff(jitter=0)


def counted(clock: VirtualClock) -> TaskQueuesManager:
    """Executors on "a" and "b": "good", "bad", and "long", which is handed over."""
    executors = TaskQueuesManager()

    async def good(payload: Any) -> None: ...

    async def bad(payload: Any) -> None:
        raise ValueError("bad")

    async def long(task: Task[Any], actions: Actions) -> None:
        await clock.sleep(20)
        actions.success(task)

    for queue in ("a", "b"):
        executors.task("good", queue=queue)(good)
        executors.task("bad", queue=queue, store_on_failure=False)(bad)
        executors.executor("long", queue=queue, handoff_timeout=2)(long)
    return executors


def some(count: int, type: str, queue: str = "a") -> list[Task[Any]]:
    return [Task(type=type, queue_id=queue) for _ in range(count)]


@pytest.mark.spec("NTP-02", "NTP-03", "D-58")
async def test_counts_are_told_per_queue_at_a_thousand_and_the_rest_at_the_end(
    url: str, clock: VirtualClock, probe: Probe
) -> None:
    async with harness(counted(clock), url=url, clock=clock, notifications=probe, unknown_grace=1) as h:
        instance = h.handler.worker_id
        await h.run(*some(999, "good"))
        await h.run(*some(1, "nobody", "b"), *some(3, "good", "b"))
        assert probe.events == []
        await h.handler.start()
        await h.add(*some(5, "good"))
        await clock.sleep(5)
        first = events.QueueStats(queue_name="a", success=1004, instance_id=instance)
        assert [seen.value for seen in probe.of("on_queue_stats")] == [first]
        await h.add(*some(2, "bad"), *some(4, "long"))
        await clock.sleep(30)
        await h.handler.stop()
        last_a = events.QueueStats(queue_name="a", success=4, failed=2, async_=4, instance_id=instance)
        last_b = events.QueueStats(queue_name="b", success=3, ignored=1, instance_id=instance)
        assert [seen.value for seen in probe.of("on_queue_stats")][1:] == [last_a, last_b]
        assert [seen.value for seen in probe.of("on_final_stats")] == [[last_a, last_b]]
        assert last_a.as_dict()["async"] == 4
        await h.handler.stop()
        assert len(probe.of("on_final_stats")) == 1


@pytest.mark.spec("NTP-02")
async def test_a_hundred_failures_are_worth_telling(url: str, clock: VirtualClock, probe: Probe) -> None:
    async with harness(counted(clock), url=url, clock=clock, notifications=probe) as h:
        await h.run(*some(99, "bad"))
        assert not probe.of("on_queue_stats")
        await h.run(*some(1, "bad"))
        await clock.sleep(1)
        [stats] = [seen.value for seen in probe.of("on_queue_stats")]
        assert (stats.failed, stats.success) == (100, 0)


@pytest.mark.spec("NTP-01", "D-58", "INV-08")
async def test_counts_that_nobody_heard_are_kept(url: str, clock: VirtualClock) -> None:
    class Deaf:
        def __init__(self) -> None:
            self.heard: list[int] = []
            self.deaf = True

        async def on_queue_stats(self, stats: events.QueueStats) -> None:
            if self.deaf:
                raise ConnectionError("nobody there")
            self.heard.append(stats.success)

    provider: Any = Deaf()
    async with harness(counted(clock), url=url, clock=clock, notifications=provider) as h:
        await h.run(*some(1000, "good"))
        await clock.sleep(1)
        provider.deaf = False
        await h.run(*some(5, "good"))
        await clock.sleep(1)
        assert provider.heard == [1005]


@pytest.mark.spec("NTP-04", "D-58")
async def test_tasks_that_are_gone_for_good_are_told_with_the_total_of_a_day(
    url: str, clock: VirtualClock, probe: Probe
) -> None:
    executors = counted(clock)

    @executors.task("again", queue="a", retries=1, backoff=EVEN, store_on_failure=False)
    async def again(payload: None) -> None:
        raise ValueError("twice")

    @executors.task("kept", queue="a")
    async def kept(payload: None) -> None:
        raise ValueError("a dead letter is not gone")

    async with harness(executors, url=url, clock=clock, notifications=probe) as h:
        await h.run(*some(3, "bad"), *some(2, "good"), again.task(None), kept.task(None))
        await clock.sleep(1)
        assert [seen.value for seen in probe.of("on_tasks_discarded")] == [
            events.TasksDiscarded(count=3, last_24_hour_total=3)
        ]
        await h.later(2)
        await clock.sleep(3600 * 5)
        await h.run(*some(2, "bad", "b"))
        await clock.sleep(3600 * 22)
        await h.run(*some(1, "bad"))
        await clock.sleep(1)
        told = [(seen.value.count, seen.value.last_24_hour_total) for seen in probe.of("on_tasks_discarded")]
        assert told == [(3, 3), (1, 4), (2, 6), (1, 3)]


@pytest.mark.spec("NTP-04", "D-57")
async def test_what_another_worker_has_now_is_neither_counted_nor_told(
    url: str, clock: VirtualClock, probe: Probe
) -> None:
    executors = TaskQueuesManager()

    @executors.task("bad", store_on_failure=False)
    async def bad(payload: None) -> None:
        await clock.sleep(3)
        raise ValueError("bad")

    backend = connect(url, clock=clock)
    handler = TaskHandler.on(backend, executors, clock=clock, notifications=probe, lifecycle=probe, workers=probe)
    [task_id] = await handler.add_tasks([bad.task(None)])
    await handler.start()
    await clock.sleep(1)
    place = (await backend.queue.locate([task_id]))[task_id]
    await backend.queue.pause("default", paused=True)
    await backend.release([Receipt(task_id, place.token)])
    await clock.sleep(5)
    assert not probe.of("on_tasks_discarded") + probe.of("on_task_failed")
    [batch] = [seen.value for seen in probe.of("on_batch_completed")]
    assert (batch.batch_size, batch.succeeded, batch.failed) == (1, 0, 0), "its batch is over all the same"
    await handler.stop()
    assert probe.of("on_final_stats")[0].value == []
    await backend.close()


@pytest.mark.spec("NTP-05", "NTP-01")
async def test_trouble_with_the_count_of_the_discarded_is_told(url: str, clock: VirtualClock, probe: Probe) -> None:
    class Broken:
        def on_tasks_discarded(self, info: events.TasksDiscarded) -> None:
            raise ConnectionError("no answer")

        def on_task_error(self, info: events.TroubleReport) -> None:
            probe(info)

    provider: Any = Broken()
    async with harness(counted(clock), url=url, clock=clock, notifications=provider) as h:
        await h.run(*some(1, "bad"))
        report = await probe.next(events.TroubleReport)
        assert isinstance(report.error, ConnectionError)
        assert report.context == "trackDiscardedTasks"


@pytest.mark.spec("QNT-01")
async def test_a_provider_hears_of_trouble_and_of_the_end(
    url: str, clock: VirtualClock, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = connect(url, clock=clock)
    handler = TaskHandler.on(backend, counted(clock), clock=clock, notifications=probe, async_tasks=AsyncTaskManager())
    await handler.start()
    await clock.sleep(1)

    async def away(*args: Any) -> Any:
        raise BackendUnavailableError("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(backend.store, "purge", away)
        await clock.sleep(60)
    [trouble] = [seen.value for seen in probe.of("on_task_error")]
    assert (trouble.context, str(trouble.error)) == ("retention", "no answer")
    await handler.add_tasks(some(2, "good"))
    await clock.sleep(1)
    await handler.stop()
    [final] = [seen.value for seen in probe.of("on_final_stats")]
    assert [(stats.queue_name, stats.success, stats.instance_id) for stats in final] == [("a", 2, handler.worker_id)]
    await backend.close()
