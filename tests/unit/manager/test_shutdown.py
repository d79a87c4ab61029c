"""An orderly end: refuse what is new, wait for what runs, give back the rest."""

import asyncio
import logging

import pytest

from tests.unit.manager.bodies import Bodies, a_task, settle
from tq.clock import Clock
from tq.manager import AsyncTaskManager, ShutdownResult


@pytest.mark.spec("ATM-15")
async def test_an_idle_manager_ends_at_once(clock: Clock) -> None:
    manager = AsyncTaskManager(clock=clock)
    before = clock.now()
    assert await manager.shutdown() == ShutdownResult(completed_during_grace=0, abandoned_task_ids=())
    assert clock.now() == before


@pytest.mark.spec("ATM-15")
async def test_new_tasks_are_refused_from_the_first_instant(clock: Clock) -> None:
    bodies, manager = Bodies(), AsyncTaskManager(clock=clock)
    manager.handoff_task(a_task("a"), bodies.start())
    shutdown = asyncio.create_task(manager.shutdown())
    await asyncio.sleep(0)
    assert not manager.can_accept_task()
    assert not manager.handoff_task(a_task("b"), bodies.start())
    await bodies.end()
    await shutdown


@pytest.mark.spec("ATM-15", "ATM-16")
async def test_it_ends_when_the_last_task_has(clock: Clock) -> None:
    bodies, manager = Bodies(), AsyncTaskManager(shutdown_grace_period=30, clock=clock)
    early, late = bodies.start(), bodies.start()
    manager.handoff_task(a_task("early"), early)
    manager.handoff_task(a_task("late"), late)
    manager.handoff_task(a_task("failing"), bodies.fail(ValueError("no")))
    shutdown = asyncio.create_task(manager.shutdown())
    await clock.sleep(2)
    await bodies.end(early)
    await clock.sleep(3)
    assert not shutdown.done()
    await bodies.end(late)
    before = clock.now()
    assert await shutdown == ShutdownResult(completed_during_grace=3, abandoned_task_ids=())
    assert clock.now() == before


@pytest.mark.spec("ATM-15", "ATM-16")
async def test_completed_and_abandoned_tasks_are_told_apart(clock: Clock) -> None:
    """D-63: what is abandoned is given back, then cancelled."""
    given_back: list[str] = []
    bodies, manager = Bodies(), AsyncTaskManager(shutdown_grace_period=10, clock=clock)
    finished_before, finishing = bodies.start(), bodies.start()
    hanging = {id: bodies.start() for id in ("x", "y")}
    manager.handoff_task(a_task("before"), finished_before)
    await bodies.end(finished_before)
    manager.handoff_task(a_task("a"), finishing)
    for id, body in hanging.items():

        def abandon(id: str = id, body: asyncio.Task[None] = body) -> None:
            assert not body.cancelling()
            given_back.append(id)

        manager.handoff_task(a_task(id), body, abandon=abandon)
    before = clock.now()
    shutdown = asyncio.create_task(manager.shutdown())
    await clock.sleep(1)
    await bodies.end(finishing)
    assert await shutdown == ShutdownResult(completed_during_grace=1, abandoned_task_ids=("x", "y"))
    assert clock.now() == before + 10
    assert given_back == ["x", "y"]
    await settle()
    assert all(body.cancelled() for body in hanging.values())
    metrics = manager.get_metrics()
    assert (metrics.active_task_count, metrics.total_completed, metrics.total_timed_out) == (0, 2, 0)


@pytest.mark.spec("ATM-16")
async def test_what_ends_in_the_last_instant_counts_as_completed(clock: Clock) -> None:
    manager = AsyncTaskManager(shutdown_grace_period=10, clock=clock)
    manager.handoff_task(a_task(), asyncio.create_task(asyncio.sleep(10)))
    await settle()
    assert await manager.shutdown() == ShutdownResult(completed_during_grace=1, abandoned_task_ids=())
    await settle()
    assert manager.get_metrics().total_completed == 1


async def test_resetting_counters_meanwhile_changes_no_result(clock: Clock) -> None:
    bodies, manager = Bodies(), AsyncTaskManager(clock=clock)
    body = bodies.start()
    manager.handoff_task(a_task("before"), body)
    await bodies.end(body)
    manager.handoff_task(a_task(), bodies.start())
    shutdown = asyncio.create_task(manager.shutdown())
    await settle()
    manager.reset_counters()
    await bodies.end()
    assert (await shutdown).completed_during_grace == 1


@pytest.mark.spec("ATM-17")
@pytest.mark.parametrize("wait", [0, 3])
async def test_the_wait_can_be_cut_short(clock: Clock, wait: int) -> None:
    bodies, manager, signal = Bodies(), AsyncTaskManager(shutdown_grace_period=60, clock=clock), asyncio.Event()
    manager.handoff_task(a_task(), bodies.start())
    if not wait:
        signal.set()
    before = clock.now()
    shutdown = asyncio.create_task(manager.shutdown(signal))
    await clock.sleep(wait)
    signal.set()
    assert (await shutdown).abandoned_task_ids == ("t-1",)
    assert clock.now() == before + wait
    await bodies.end()


@pytest.mark.spec("ATM-17")
async def test_a_second_call_may_be_in_more_of_a_hurry(clock: Clock) -> None:
    bodies, manager = Bodies(), AsyncTaskManager(shutdown_grace_period=60, clock=clock)
    manager.handoff_task(a_task(), bodies.start())
    first = asyncio.create_task(manager.shutdown())
    await clock.sleep(3)
    signal = asyncio.Event()
    signal.set()
    before = clock.now()
    assert await manager.shutdown(signal) == await first
    assert (await first).abandoned_task_ids == ("t-1",)
    assert clock.now() == before
    await bodies.end()


async def test_it_may_be_called_twice_and_stopped_after(clock: Clock) -> None:
    bodies, manager = Bodies(), AsyncTaskManager(clock=clock)
    await manager.start()
    body = bodies.start()
    manager.handoff_task(a_task(), body)
    shutdown = asyncio.create_task(manager.shutdown())
    await settle()
    await bodies.end()
    first = await shutdown
    assert first == await manager.shutdown()
    assert first.completed_during_grace == 1
    await manager.stop()
    assert not manager.running


@pytest.mark.spec("ATM-15")
async def test_the_sweep_ends_nothing_while_shutting_down(clock: Clock) -> None:
    bodies = Bodies()
    manager = AsyncTaskManager(sweep_interval=1, default_max_duration=2, shutdown_grace_period=60, clock=clock)
    await manager.start()
    manager.handoff_task(a_task(), bodies.start())
    shutdown = asyncio.create_task(manager.shutdown())
    await clock.sleep(10)
    assert not manager.running
    await bodies.end()
    assert (await shutdown).completed_during_grace == 1
    assert manager.get_metrics().total_timed_out == 0
    await manager.stop()


async def test_stopping_a_service_shuts_it_down(clock: Clock) -> None:
    bodies = Bodies()
    async with AsyncTaskManager(shutdown_grace_period=7, clock=clock) as manager:
        body = bodies.start()
        manager.handoff_task(a_task(), body)
        before = clock.now()
    assert clock.now() == before + 7
    await settle()
    assert body.cancelled()


async def test_an_abandon_that_raises_stops_nothing(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    def abandon() -> None:
        raise ValueError

    bodies, manager = Bodies(), AsyncTaskManager(shutdown_grace_period=1, clock=clock)
    for id in "ab":
        manager.handoff_task(a_task(id), bodies.start(), abandon=abandon)
    with caplog.at_level(logging.ERROR, "tq.manager"):
        assert (await manager.shutdown()).abandoned_task_ids == ("a", "b")
    assert len(caplog.records) == 2
    await bodies.end()


async def test_a_body_that_was_evicted_is_waited_for_and_not_abandoned(clock: Clock) -> None:
    """It is settled already: nobody is to run it again."""
    given_back: list[str] = []
    bodies, manager = Bodies(), AsyncTaskManager(default_max_duration=10, shutdown_grace_period=20, clock=clock)
    manager.handoff_task(a_task(), bodies.start(stubborn=True), abandon=lambda: given_back.append("t-1"))
    await settle()
    manager.sweep(clock.monotonic() + 11)
    manager.handoff_task(a_task("t-2"), asyncio.create_task(asyncio.sleep(5)))
    before = clock.now()
    assert await manager.shutdown() == ShutdownResult(completed_during_grace=1, abandoned_task_ids=())
    assert clock.now() == before + 20
    assert not given_back
    await bodies.end()


async def test_a_reserved_slot_is_honoured_while_shutting_down(clock: Clock) -> None:
    """Its task's custody has moved: refused, it would be cared for by nobody."""
    bodies, manager = Bodies(), AsyncTaskManager(clock=clock)
    first, late = manager.reserve(a_task("a")), manager.reserve(a_task("b"))
    manager.handoff_task(a_task("other"), bodies.start())
    shutdown = asyncio.create_task(manager.shutdown())
    await settle()
    assert manager.handoff_task(a_task("a"), bodies.start(), slot=first)
    await bodies.end()
    assert (await shutdown).completed_during_grace == 2
    assert not manager.handoff_task(a_task("b"), bodies.start(), slot=late)
    await bodies.end()
