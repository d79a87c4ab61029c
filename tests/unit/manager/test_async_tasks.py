"""The async task manager: what it takes, what it tells, how it ends."""

from typing import Any

import pytest

from tests.unit.manager.bodies import Bodies, a_task, settle
from tq.clock import Clock
from tq.errors import InvalidInputError
from tq.manager import AsyncTaskManager

# --- what it takes ----------------------------------------------------------------------------------------------------


@pytest.mark.spec("ATM-01")
async def test_what_is_refused_counts_as_rejected(clock: Clock) -> None:
    bodies, manager = Bodies(), AsyncTaskManager(2, clock=clock)
    assert not manager.handoff_task(a_task(""), bodies.start()), "no id"
    assert manager.get_metrics().total_rejected == 1
    assert manager.handoff_task(a_task("a"), bodies.start())
    assert not manager.handoff_task(a_task("a"), bodies.start()), "tracked already"
    assert manager.get_metrics().total_rejected == 2
    assert manager.handoff_task(a_task("b"), bodies.start())
    assert not manager.handoff_task(a_task("c"), bodies.start()), "full"
    assert manager.get_metrics().total_rejected == 3
    await bodies.end()
    await manager.shutdown()
    assert not manager.handoff_task(a_task("d"), bodies.start()), "shutting down"
    assert manager.get_metrics().total_rejected == 4
    await bodies.end()


@pytest.mark.spec("ATM-02")
async def test_refusing_a_duplicate_changes_nothing_else(clock: Clock) -> None:
    bodies, manager = Bodies(), AsyncTaskManager(clock=clock)
    first, second = bodies.start(), bodies.start()
    assert manager.handoff_task(a_task(), first)
    assert not manager.handoff_task(a_task(), second)
    metrics = manager.get_metrics()
    assert (metrics.total_handed_off, metrics.active_task_count, metrics.total_rejected) == (1, 1, 1)
    await bodies.end(second)
    assert manager.is_handed_off("t-1"), "the end of the body that was refused is nobody's business"
    assert manager.get_metrics().total_completed == 0
    await bodies.end()


@pytest.mark.spec("ATM-03")
async def test_an_id_is_welcome_again_after_it_ended(clock: Clock) -> None:
    bodies, manager = Bodies(), AsyncTaskManager(1, clock=clock)
    for _ in range(2):
        body = bodies.start()
        assert manager.handoff_task(a_task(), body)
        await bodies.end(body)
    body = bodies.start()
    assert manager.handoff_task(a_task(), body, timeout=0)
    assert manager.sweep(clock.monotonic() + 1) == ["t-1"]
    await settle()
    assert manager.handoff_task(a_task(), bodies.start())
    await bodies.end()


@pytest.mark.spec("ATM-04")
async def test_an_end_of_any_kind_frees_the_slot_and_counts(clock: Clock) -> None:
    bodies, manager = Bodies(), AsyncTaskManager(1, clock=clock)
    good, bad, cancelled = bodies.start(), bodies.fail(ValueError("no")), bodies.start()
    assert manager.handoff_task(a_task("a"), good)
    await bodies.end(good)
    assert manager.handoff_task(a_task("b"), bad)
    await bodies.end(bad)
    assert manager.handoff_task(a_task("c"), cancelled)
    cancelled.cancel()
    await bodies.end(cancelled)
    assert manager.can_accept_task()
    metrics = manager.get_metrics()
    assert (metrics.total_completed, metrics.active_task_count, metrics.total_timed_out) == (3, 0, 0)


async def test_a_body_that_has_ended_already_is_taken_and_counts(clock: Clock) -> None:
    bodies, manager = Bodies(), AsyncTaskManager(1, clock=clock)
    body = bodies.start()
    await bodies.end(body)
    assert manager.handoff_task(a_task(), body)
    await settle()
    assert manager.get_metrics().total_completed == 1
    assert manager.can_accept_task()


@pytest.mark.spec("ATM-18")
async def test_many_independent_tasks_at_once(clock: Clock) -> None:
    bodies, manager = Bodies(), AsyncTaskManager(clock=clock)
    started = [bodies.start() for _ in range(50)]
    assert all(manager.handoff_task(a_task(f"t-{number}"), body) for number, body in enumerate(started))
    assert manager.get_metrics().total_handed_off == manager.get_metrics().active_task_count == 50
    await bodies.end(started[7])
    assert not manager.is_handed_off("t-7")
    assert manager.is_handed_off("t-8")
    assert manager.get_metrics().active_task_count == 49
    await bodies.end()
    assert manager.get_metrics().total_completed == 50


async def test_each_type_has_its_own_limit(clock: Clock) -> None:
    """D-27: `max_concurrent_async`."""
    bodies, manager = Bodies(), AsyncTaskManager(clock=clock)
    first = bodies.start()
    assert manager.handoff_task(a_task("a", "x"), first, limit=1)
    assert not manager.can_accept_task("x", 1)
    assert manager.can_accept_task("x", 2)
    assert manager.can_accept_task("y", 1)
    assert manager.can_accept_task("x")
    assert not manager.handoff_task(a_task("b", "x"), bodies.start(), limit=1)
    assert manager.handoff_task(a_task("c", "y"), bodies.start(), limit=1)
    assert manager.get_metrics().total_rejected == 1
    await bodies.end(first)
    assert manager.handoff_task(a_task("b", "x"), bodies.start(), limit=1)
    await bodies.end()


# --- reserving --------------------------------------------------------------------------------------------------------


async def test_a_reserved_slot_is_nobody_elses(clock: Clock) -> None:
    """D-20, D-28: custody moves only when there is room, and there is room when it has moved."""
    bodies, manager = Bodies(), AsyncTaskManager(2, clock=clock)
    slot = manager.reserve(a_task("a"), limit=1)
    assert slot is not None
    assert manager.reserve(a_task("b"), limit=1) is None, "the type's limit counts what is reserved"
    assert manager.handoff_task(a_task("b"), bodies.start())
    assert not manager.can_accept_task()
    assert not manager.handoff_task(a_task("c"), bodies.start())
    assert manager.reserve(a_task("c")) is None
    metrics = manager.get_metrics()
    assert (metrics.active_task_count, metrics.total_rejected) == (1, 3)
    assert manager.handoff_task(a_task("a"), bodies.start(), slot=slot)
    slot.release()
    assert not manager.can_accept_task(), "what a body holds only its end gives back"
    await bodies.end()
    assert manager.can_accept_task("video.transcode", 1)


async def test_two_slots_of_one_id_take_one_body(clock: Clock) -> None:
    """A task that is delivered twice may be on its way twice."""
    bodies, manager = Bodies(), AsyncTaskManager(2, clock=clock)
    first, second = manager.reserve(a_task()), manager.reserve(a_task())
    assert second is not None
    assert manager.handoff_task(a_task(), bodies.start(), slot=first)
    assert not manager.handoff_task(a_task(), bodies.start(), slot=second)
    second.release()
    assert manager.can_accept_task()
    await bodies.end()


async def test_a_slot_that_is_not_used_is_given_back_once(clock: Clock) -> None:
    manager = AsyncTaskManager(2, clock=clock)
    first, second = manager.reserve(a_task("a")), manager.reserve(a_task("b"))
    assert first is not None
    assert second is not None
    first.release()
    first.release()
    assert manager.can_accept_task()
    third = manager.reserve(a_task("c"))
    assert third is not None
    assert manager.reserve(a_task("d")) is None


async def test_what_is_tracked_or_nameless_cannot_be_reserved(clock: Clock) -> None:
    bodies, manager = Bodies(), AsyncTaskManager(clock=clock)
    assert manager.reserve(a_task("")) is None
    assert manager.handoff_task(a_task(), bodies.start())
    assert manager.reserve(a_task()) is None
    await bodies.end()
    await manager.shutdown()
    assert manager.reserve(a_task()) is None


# --- what it tells ----------------------------------------------------------------------------------------------------


@pytest.mark.spec("ATM-11")
async def test_the_figures(clock: Clock) -> None:
    bodies, manager = Bodies(), AsyncTaskManager(4, clock=clock)
    assert manager.get_metrics().utilization_percent == 0
    assert manager.handoff_task(a_task("a"), bodies.start())
    assert manager.get_metrics().utilization_percent == 25
    await clock.sleep(3)
    for id in "bcd":
        assert manager.handoff_task(a_task(id), bodies.start())
    assert not manager.handoff_task(a_task("e"), bodies.start())
    metrics = manager.get_metrics()
    assert {name: getattr(metrics, name) for name in metrics.__slots__} == {
        "active_task_count": 4,
        "ending_task_count": 0,
        "total_handed_off": 4,
        "total_completed": 0,
        "total_rejected": 1,
        "total_timed_out": 0,
        "oldest_task_age": 3.0,
        "max_tasks": 4,
        "utilization_percent": 100,
    }
    await bodies.end()
    assert AsyncTaskManager(0, clock=clock).get_metrics().utilization_percent == 0


@pytest.mark.spec("ATM-12")
async def test_the_age_of_the_oldest(clock: Clock) -> None:
    bodies, manager = Bodies(), AsyncTaskManager(clock=clock)
    assert manager.get_oldest_task_age() == 0
    first = bodies.start()
    manager.handoff_task(a_task("a"), first)
    await clock.sleep(10)
    manager.handoff_task(a_task("b"), bodies.start())
    await clock.sleep(5)
    assert manager.get_oldest_task_age() == manager.get_metrics().oldest_task_age == 15
    await bodies.end(first)
    assert manager.get_oldest_task_age() == 5
    await bodies.end()
    assert manager.get_oldest_task_age() == 0


@pytest.mark.spec("ATM-13")
async def test_counters_are_reset_and_nothing_else(clock: Clock) -> None:
    bodies, manager = Bodies(), AsyncTaskManager(1, clock=clock)
    done, hung = bodies.start(), bodies.start()
    manager.handoff_task(a_task("a"), done)
    await bodies.end(done)
    manager.handoff_task(a_task("b"), hung, timeout=0)
    manager.sweep(clock.monotonic() + 1)
    await settle()
    manager.handoff_task(a_task("c"), bodies.start())
    manager.handoff_task(a_task("d"), bodies.start())
    await clock.sleep(2)
    before = manager.get_metrics()
    assert (before.total_handed_off, before.total_completed, before.total_rejected, before.total_timed_out) == (
        3,
        1,
        1,
        1,
    )
    manager.reset_counters()
    after = manager.get_metrics()
    assert (after.total_handed_off, after.total_completed, after.total_rejected, after.total_timed_out) == (0, 0, 0, 0)
    assert (after.active_task_count, after.oldest_task_age, after.utilization_percent) == (1, 2.0, 100)
    assert manager.is_handed_off("c")
    await bodies.end()


@pytest.mark.spec("ATM-14")
async def test_what_is_tracked_can_be_asked_for(clock: Clock) -> None:
    class Id:
        def __str__(self) -> str:
            return "t-1"

    bodies, manager = Bodies(), AsyncTaskManager(1, clock=clock)
    assert manager.can_accept_task()
    assert not manager.is_handed_off("t-1")
    body = bodies.start()
    manager.handoff_task(a_task(), body)
    assert manager.is_handed_off("t-1")
    assert manager.is_handed_off(Id())
    assert not manager.is_handed_off("t-2")
    assert not manager.can_accept_task()
    await bodies.end(body)
    assert not manager.is_handed_off("t-1")
    assert manager.can_accept_task()
    await manager.shutdown()
    assert not manager.can_accept_task()


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"max_tasks": -1}, "max_tasks"),
        ({"max_tasks": 1.5}, "max_tasks"),
        ({"max_tasks": True}, "max_tasks"),
        ({"default_max_duration": -1}, "default_max_duration"),
        ({"shutdown_grace_period": -1}, "shutdown_grace_period"),
        ({"sweep_interval": float("nan")}, "sweep_interval"),
    ],
)
def test_settings_are_refused_with_their_name(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        AsyncTaskManager(**settings)
    assert refused.value.field == field


async def test_a_limit_below_zero_is_refused(clock: Clock) -> None:
    bodies, manager = Bodies(), AsyncTaskManager(clock=clock)
    with pytest.raises(InvalidInputError):
        manager.handoff_task(a_task(), bodies.start(), timeout=-1)
    assert manager.get_metrics().active_task_count == 0
    await bodies.end()


async def test_the_handlers_clock_is_used_unless_one_was_given(clock: Clock) -> None:
    class Stopped:
        virtual = True

        def now(self) -> float:
            return 5.0

        def monotonic(self) -> float:
            return 5.0

        async def sleep(self, delay: float) -> None: ...

        def timeout(self, delay: float | None) -> Any: ...

    bodies = Bodies()
    own, given = AsyncTaskManager(clock=clock), AsyncTaskManager()
    for manager in (own, given):
        manager.use_clock(Stopped())
        manager.handoff_task(a_task(), bodies.start())
    await clock.sleep(2)
    assert (own.get_oldest_task_age(), given.get_oldest_task_age()) == (2.0, 0.0)
    await bodies.end()
