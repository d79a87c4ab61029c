"""Sums for the notification provider: told when worth it, kept while nobody hears them."""

import logging
from collections.abc import Iterator, Sequence
from typing import Any, cast

import pytest

from tq.clock import Clock, to_datetime
from tq.lifecycle import Spawner
from tq.model import events as told
from tq.model.events import QueueStats
from tq.ports import NotificationProvider
from tq.runner.events import Events
from tq.testing.probe import Probe

WORKER = told.WorkerInfo(worker_id="w-1", hostname="host", pid=7, started_at=to_datetime(0.0))


@pytest.fixture
def spawner() -> Spawner:
    return Spawner()


@pytest.fixture
def events(clock: Clock, spawner: Spawner, probe: Probe) -> Events:
    return events_for(clock, spawner, probe)


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What providers raise here is meant, and logged."""
    with caplog.at_level(logging.ERROR, "tq.events"):
        yield caplog


def events_for(clock: Clock, spawner: Spawner, provider: object, **options: Any) -> Events:
    return Events(
        clock=clock,
        worker=WORKER,
        spawner=spawner,
        notifications=cast("NotificationProvider", provider),
        **options,
    )


def stats(queue: str, **counts: int) -> QueueStats:
    return QueueStats(queue_name=queue, instance_id="w-1", **counts)


# --- counts per queue -------------------------------------------------------------------------------------------------


@pytest.mark.spec("NTP-02")
async def test_a_thousand_outcomes_are_told_and_counting_starts_again(events: Events, probe: Probe) -> None:
    events.count("media", "c", success=990, async_=5, ignored=4)
    await events.flush()
    assert not probe.events
    events.count("mail", "c", success=999)
    events.count("media", "c", success=1)
    await events.flush()
    assert [seen.value for seen in probe.events] == [stats("media", success=991, async_=5, ignored=4)]
    events.count("media", "c", success=999)
    await events.flush()
    assert len(probe.events) == 1
    events.count("media", "c", success=1)
    await events.flush()
    assert probe.events[-1].value == stats("media", success=1000)


@pytest.mark.spec("NTP-02")
async def test_a_hundred_failures_are_told(events: Events, probe: Probe) -> None:
    events.count("media", "c", success=50, failed=99)
    await events.flush()
    assert not probe.events
    events.count("media", "c", failed=1)
    await events.flush()
    assert [seen.value for seen in probe.events] == [stats("media", success=50, failed=100)]


@pytest.mark.spec("NTP-02")
async def test_the_thresholds_can_be_set(clock: Clock, spawner: Spawner, probe: Probe) -> None:
    events = events_for(clock, spawner, probe, queue_stats_threshold=3, failure_threshold=2)
    events.count("a", "c", success=2)
    events.count("b", "c", success=3)
    events.count("c", "c", failed=1)
    events.count("d", "c", failed=2)
    await events.flush()
    assert [seen.value.queue_name for seen in probe.events] == ["b", "d"]


@pytest.mark.spec("NTP-02")
def test_stats_have_their_names_on_the_wire() -> None:
    assert stats("media", success=1, failed=2, async_=3, ignored=4).as_dict() == {
        "queue_name": "media",
        "success": 1,
        "failed": 2,
        "async": 3,
        "ignored": 4,
        "instance_id": "w-1",
    }


class Deaf:
    """Raises until it is told to listen."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.listens = False
        self.seen: list[QueueStats] = []
        self.final: list[Sequence[QueueStats]] = []

    async def on_queue_stats(self, stats: QueueStats) -> None:
        await self._clock.sleep(1)
        if not self.listens:
            raise ConnectionError("nobody hears")
        self.seen.append(stats)

    def on_final_stats(self, stats: Sequence[QueueStats]) -> None:
        self.final.append(stats)


@pytest.mark.spec("NTP-01", "NTP-02")
async def test_counts_that_nobody_heard_are_kept(clock: Clock, spawner: Spawner) -> None:
    """D-58."""
    provider = Deaf(clock)
    events = events_for(clock, spawner, provider)
    events.count("media", "c", success=1000)
    await events.flush()
    provider.listens = True
    events.count("media", "c", success=1)
    await events.flush()
    assert provider.seen == [stats("media", success=1001)]


@pytest.mark.spec("NTP-02")
async def test_what_is_counted_during_a_report_is_told_once(clock: Clock, spawner: Spawner) -> None:
    provider = Deaf(clock)
    provider.listens = True
    events = events_for(clock, spawner, provider)
    events.count("media", "c", success=1000)
    await clock.sleep(0.5)
    events.count("media", "c", success=1500)
    await events.flush()
    events.count("media", "c", success=1)
    await events.flush()
    assert provider.seen == [stats("media", success=1000), stats("media", success=1501)]


@pytest.mark.spec("NTP-01")
async def test_counting_waits_for_nobody(clock: Clock, spawner: Spawner) -> None:
    """Not even where lifecycle callbacks are waited for."""
    provider = Deaf(clock)
    events = events_for(clock, spawner, provider, mode="sync")
    events.count("media", "c", success=1000)
    await events.tasks_discarded(1)
    assert clock.now() == 1_900_000_000.0
    await events.flush()


@pytest.mark.spec("NTP-01")
async def test_a_provider_may_have_any_of_the_callbacks(clock: Clock, spawner: Spawner) -> None:
    class OnlyFinal(NotificationProvider):
        def __init__(self) -> None:
            self.final: list[QueueStats] = []

        async def on_final_stats(self, stats: Sequence[QueueStats]) -> None:
            self.final.extend(stats)

    provider = OnlyFinal()
    events = events_for(clock, spawner, provider)
    events.count("media", "c", success=5000)
    await events.tasks_discarded(1)
    await events.trouble(ValueError("x"), "y")
    assert not len(spawner)
    await events.final_stats()
    assert provider.final == [stats("media", success=5000)]


# --- at the end -------------------------------------------------------------------------------------------------------


@pytest.mark.spec("NTP-03")
async def test_the_last_counts_are_told_at_the_end(events: Events, probe: Probe) -> None:
    """D-58: the list holds them all, and is empty only where nothing is left."""
    events.count("media", "c", success=1000)
    events.count("media", "c", failed=2)
    events.count("mail", "c", success=3)
    await events.flush()
    probe.events.clear()
    await events.final_stats()
    left = [stats("media", failed=2), stats("mail", success=3)]
    assert probe.names() == ["on_queue_stats", "on_queue_stats", "on_final_stats"]
    assert [seen.value for seen in probe.events] == [*left, left]


@pytest.mark.spec("NTP-03")
async def test_with_nothing_left_the_last_list_is_empty(events: Events, probe: Probe) -> None:
    events.count("media", "c", success=1000)
    await events.flush()
    probe.events.clear()
    await events.final_stats()
    assert [(seen.name, seen.value) for seen in probe.events] == [("on_final_stats", [])]


@pytest.mark.spec("NTP-03")
async def test_a_report_under_way_at_the_end_is_not_told_twice(clock: Clock, spawner: Spawner) -> None:
    provider = Deaf(clock)
    provider.listens = True
    events = events_for(clock, spawner, provider)
    events.count("media", "c", success=1000)
    events.count("media", "c", success=7)
    await events.final_stats()
    assert provider.seen == [stats("media", success=1000), stats("media", success=7)]
    assert provider.final == [[stats("media", success=7)]]


# --- discarded tasks --------------------------------------------------------------------------------------------------


@pytest.mark.spec("NTP-04")
async def test_discarded_tasks_are_told_with_the_total_of_a_day(events: Events, probe: Probe, clock: Clock) -> None:
    """By the hour: what was counted in the hour that began 24 hours before this one is forgotten."""
    await clock.sleep(3600 - clock.now() % 3600)
    for hours, count in ((0, 5), (1, 2), (22, 1), (1, 4), (1, 1)):
        await clock.sleep(hours * 3600)
        await events.tasks_discarded(count)
    await events.flush()
    told_of = [(seen.value.count, seen.value.last_24_hour_total) for seen in probe.of("on_tasks_discarded")]
    assert told_of == [(5, 5), (2, 7), (1, 8), (4, 7), (1, 6)]


@pytest.mark.spec("NTP-05")
async def test_trouble_with_telling_discards_is_told(clock: Clock, spawner: Spawner, probe: Probe) -> None:
    class Troubled:
        def on_tasks_discarded(self, info: told.TasksDiscarded) -> None:
            raise ConnectionError("nobody hears")

        def on_task_error(self, info: told.TroubleReport) -> None:
            probe(info)

    events = events_for(clock, spawner, Troubled())
    await events.tasks_discarded(1)
    await events.flush()
    (report,) = probe.of(told.TroubleReport)
    assert isinstance(report.error, ConnectionError)
    assert report.context == "trackDiscardedTasks"


@pytest.mark.spec("NTP-05")
async def test_trouble_with_counting_discards_is_told(events: Events, probe: Probe) -> None:
    await events.tasks_discarded(cast("int", "three"))
    await events.flush()
    assert probe.names() == ["on_task_error"]
    assert isinstance(probe.events[0].value.error, TypeError)
    assert probe.events[0].value.context == "trackDiscardedTasks"
