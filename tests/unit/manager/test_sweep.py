"""What runs too long is ended: told, cancelled, settled, and its slot freed when it has really ended."""

import asyncio
import logging
from datetime import timedelta
from typing import Any

import pytest

from tests.unit.manager.bodies import Bodies, a_task, settle
from tq.clock import Clock
from tq.errors import HungTaskError
from tq.manager import AsyncTaskManager
from tq.model import Task
from tq.testing import VirtualClock


@pytest.mark.spec("ATM-05", "ATM-08", "ATM-09")
async def test_what_is_older_than_its_limit_is_ended(clock: Clock) -> None:
    bodies, manager = Bodies(), AsyncTaskManager(2, default_max_duration=100, clock=clock)
    hung, healthy = bodies.start(), bodies.start()
    manager.handoff_task(a_task("hung"), hung)
    await clock.sleep(50)
    manager.handoff_task(a_task("healthy"), healthy)
    await clock.sleep(50)
    assert manager.sweep() == [], "exactly its limit is not too long"
    await clock.sleep(0.5)
    assert manager.sweep() == ["hung"]
    await settle()
    assert hung.cancelled()
    assert not healthy.done()
    assert [manager.is_handed_off(id) for id in ("hung", "healthy")] == [False, True]
    metrics = manager.get_metrics()
    assert (metrics.total_timed_out, metrics.total_completed, metrics.active_task_count) == (1, 0, 1)
    assert manager.can_accept_task()
    assert manager.sweep() == []
    await bodies.end()


async def test_nobody_grows_older_because_the_clock_is_put_right(clock: VirtualClock) -> None:
    bodies, manager = Bodies(), AsyncTaskManager(default_max_duration=100, clock=clock)
    manager.handoff_task(a_task(), bodies.start())
    await clock.sleep(2)
    clock.skew = 3600.0
    assert manager.sweep() == []
    assert manager.get_oldest_task_age() == 2.0
    clock.skew = -3600.0
    await clock.sleep(99)
    assert manager.sweep() == ["t-1"]
    await bodies.end()


@pytest.mark.spec("ATM-08")
async def test_full_capacity_returns_when_all_hung(clock: Clock) -> None:
    bodies, manager = Bodies(), AsyncTaskManager(3, default_max_duration=10, clock=clock)
    for id in "abc":
        manager.handoff_task(a_task(id), bodies.start())
    assert not manager.can_accept_task()
    assert manager.sweep(clock.monotonic() + 11) == ["a", "b", "c"]
    await settle()
    assert all(manager.handoff_task(a_task(id), bodies.start()) for id in "abc")
    await bodies.end()


@pytest.mark.spec("ATM-05")
async def test_it_is_untracked_and_counted_before_anybody_is_told(clock: Clock) -> None:
    seen: list[object] = []

    def told(task_id: str, task: Task[Any], duration: float) -> None:
        seen.append(
            (task_id, task.type, duration, manager.is_handed_off(task_id), manager.get_metrics().total_timed_out)
        )

    def evict(error: HungTaskError) -> None:
        seen.append((str(error), manager.is_handed_off("t-1"), manager.get_metrics().total_timed_out))

    bodies = Bodies()
    manager = AsyncTaskManager(on_task_timeout=told, default_max_duration=timedelta(minutes=1), clock=clock)
    manager.handoff_task(a_task(), bodies.start(), evict=evict)
    await clock.sleep(61)
    manager.sweep()
    assert seen == [
        ("task t-1 ran for 61 s outside the line, 60 s are allowed", False, 1),
        ("t-1", "video.transcode", 61.0, False, 1),
    ]
    await bodies.end()


@pytest.mark.spec("ATM-06")
async def test_a_task_may_have_its_own_limit(clock: Clock) -> None:
    bodies, manager = Bodies(), AsyncTaskManager(default_max_duration=100, clock=clock)
    for id, timeout in (("default", None), ("none", 0), ("short", 10), ("long", timedelta(seconds=300))):
        manager.handoff_task(a_task(id), bodies.start(), timeout=timeout)
    start = clock.monotonic()
    assert manager.sweep(start) == [], "0 is at the first sweep that finds it any older"
    assert manager.sweep(start + 0.001) == ["none"]
    assert manager.sweep(start + 11) == ["short"]
    assert manager.sweep(start + 101) == ["default"]
    assert manager.sweep(start + 301) == ["long"]
    await bodies.end()


@pytest.mark.spec("ATM-07")
@pytest.mark.parametrize("kind", ["plain", "async", "evict"])
async def test_a_callback_that_raises_stops_nothing(clock: Clock, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []

    def plain(task_id: str, task: Task[Any], duration: float) -> None:
        seen.append(task_id)
        raise ValueError(task_id)

    async def later(task_id: str, task: Task[Any], duration: float) -> None:
        await clock.sleep(1)
        seen.append(task_id)
        raise ValueError(task_id)

    def evict(error: HungTaskError) -> None:
        seen.append(str(error).split()[1])
        raise ValueError

    bodies = Bodies()
    callback = {"plain": plain, "async": later}.get(kind)
    manager = AsyncTaskManager(3, on_task_timeout=callback, default_max_duration=10, clock=clock)
    for id in "abc":
        manager.handoff_task(a_task(id), bodies.start(), evict=evict if kind == "evict" else None)
    with caplog.at_level(logging.ERROR, "tq.manager"):
        assert manager.sweep(clock.monotonic() + 11) == ["a", "b", "c"]
        await clock.sleep(2)
    assert seen == ["a", "b", "c"]
    assert len([record for record in caplog.records if record.exc_info]) == 3
    metrics = manager.get_metrics()
    assert (metrics.active_task_count, metrics.total_timed_out) == (0, 3)
    await manager.stop()


# --- the runner's part ------------------------------------------------------------------------------------------------


async def test_the_runner_is_told_once_before_the_body_is_cancelled(clock: Clock) -> None:
    """D-22: it settles the task as failed; only so does it know why its body is cancelled."""
    seen: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    def evict(error: HungTaskError) -> None:
        assert isinstance(error, HungTaskError)
        seen.append("evicted")

    def abandon() -> None:
        raise AssertionError

    manager = AsyncTaskManager(default_max_duration=10, clock=clock)
    body = asyncio.create_task(work())
    await settle()
    manager.handoff_task(a_task(), body, evict=evict, abandon=abandon)
    for _ in range(2):
        manager.sweep(clock.monotonic() + 11)
        await settle()
    assert seen == ["evicted", "cancelled"]
    assert (await manager.shutdown()).abandoned_task_ids == ()


async def test_a_body_that_the_runner_cancels_is_not_cancelled_twice(clock: Clock) -> None:
    """A second request would interrupt the body in its clean-up."""
    bodies, manager = Bodies(), AsyncTaskManager(default_max_duration=10, clock=clock)
    body = bodies.start()
    await settle()

    def evict(_: HungTaskError) -> None:
        body.cancel()

    manager.handoff_task(a_task(), body, evict=evict)
    manager.sweep(clock.monotonic() + 11)
    assert body.cancelling() == 1
    await bodies.end()


# --- bodies that do not end -------------------------------------------------------------------------------------------


@pytest.mark.spec("ATM-08", "ATM-11", "ATM-12")
async def test_a_body_that_ignores_being_cancelled_keeps_its_slot(clock: Clock) -> None:
    """D-22: the number of running bodies never exceeds the limit, and the figures tell."""
    bodies, manager = Bodies(), AsyncTaskManager(1, default_max_duration=10, clock=clock)
    stubborn = bodies.start(stubborn=True)
    manager.handoff_task(a_task(), stubborn)
    await clock.sleep(11)
    assert manager.sweep() == ["t-1"]
    await clock.sleep(4)
    assert not stubborn.done()
    assert not manager.is_handed_off("t-1")
    assert not manager.can_accept_task()
    assert not manager.handoff_task(a_task("t-2"), bodies.start())
    metrics = manager.get_metrics()
    assert (metrics.active_task_count, metrics.ending_task_count, metrics.utilization_percent) == (1, 1, 100)
    assert metrics.oldest_task_age == 15
    assert manager.sweep() == [], "ended once"
    await bodies.end()
    assert manager.can_accept_task()
    metrics = manager.get_metrics()
    assert (metrics.active_task_count, metrics.ending_task_count) == (0, 0)


@pytest.mark.spec("ATM-10")
@pytest.mark.parametrize("how", ["well", "badly"])
async def test_what_ends_after_its_eviction_does_not_count_as_completed(clock: Clock, how: str) -> None:
    bodies, manager = Bodies(), AsyncTaskManager(default_max_duration=10, clock=clock)
    late = bodies.start(stubborn=True) if how == "well" else bodies.fail_when_cancelled(ValueError("late"))
    await settle()
    manager.handoff_task(a_task(), late)
    manager.sweep(clock.monotonic() + 11)
    await bodies.end()
    metrics = manager.get_metrics()
    assert (metrics.total_completed, metrics.total_timed_out, metrics.active_task_count) == (0, 1, 0)


@pytest.mark.spec("ATM-10", "ATM-03")
async def test_a_late_end_does_not_remove_a_newer_entry_of_the_same_id(clock: Clock) -> None:
    """D-23: entries are compared, not ids."""
    bodies, manager = Bodies(), AsyncTaskManager(default_max_duration=10, clock=clock)
    old, new = bodies.start(stubborn=True), bodies.start()
    manager.handoff_task(a_task(), old)
    await settle()
    manager.sweep(clock.monotonic() + 11)
    assert manager.handoff_task(a_task(), new)
    await settle()
    assert not old.done()
    await bodies.end(old)
    assert manager.is_handed_off("t-1")
    metrics = manager.get_metrics()
    assert (metrics.total_completed, metrics.active_task_count) == (0, 1)
    await bodies.end(new)
    assert not manager.is_handed_off("t-1")
    assert manager.get_metrics().total_completed == 1


@pytest.mark.spec("ATM-09")
async def test_a_body_that_has_just_ended_is_not_ended_again(clock: Clock) -> None:
    seen: list[list[str]] = []
    bodies, manager = Bodies(), AsyncTaskManager(default_max_duration=10, clock=clock)
    body = bodies.start()
    body.add_done_callback(lambda _: seen.append(manager.sweep(clock.monotonic() + 11)))  # before its own
    manager.handoff_task(a_task(), body)
    await bodies.end()
    assert seen == [[]]
    metrics = manager.get_metrics()
    assert (metrics.total_completed, metrics.total_timed_out) == (1, 0)


# --- by itself --------------------------------------------------------------------------------------------------------


@pytest.mark.spec("ATM-05")
async def test_the_sweep_runs_by_itself(clock: Clock) -> None:
    bodies = Bodies()
    async with AsyncTaskManager(sweep_interval=5, default_max_duration=12, clock=clock) as manager:
        manager.handoff_task(a_task(), bodies.start())
        await clock.sleep(14.9)
        assert manager.is_handed_off("t-1")
        await clock.sleep(0.2)
        assert not manager.is_handed_off("t-1")
        assert manager.get_metrics().total_timed_out == 1


@pytest.mark.spec("ATM-19")
@pytest.mark.parametrize("interval", [0, -1, timedelta(seconds=-5)])
async def test_the_sweep_can_be_switched_off(clock: Clock, interval: float | timedelta) -> None:
    bodies = Bodies()
    async with AsyncTaskManager(sweep_interval=interval, default_max_duration=12, clock=clock) as manager:
        manager.handoff_task(a_task(), bodies.start())
        await clock.sleep(3600)
        assert manager.is_handed_off("t-1")
        assert manager.sweep() == ["t-1"], "by hand it goes on"


@pytest.mark.spec("ATM-19")
def test_a_manager_keeps_no_program_alive() -> None:
    """INV-10: a program that forgets to stop it ends all the same, and nothing complains."""

    async def main() -> None:
        await AsyncTaskManager(sweep_interval=3600).start()

    asyncio.run(main())
