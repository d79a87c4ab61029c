"""Many deadlines, one timer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from tq.lifecycle import Spawner
from tq.runner.alarms import Alarm, Alarms
from tq.testing import VirtualClock


@asynccontextmanager
async def alarms_on(clock: VirtualClock) -> AsyncGenerator[Alarms, None]:
    spawner = Spawner()
    alarms = Alarms(clock, spawner)
    try:
        yield alarms
    finally:
        alarms.clear()
        await spawner.close()


async def test_alarms_ring_in_order_each_at_its_time(clock: VirtualClock) -> None:
    rung: list[tuple[str, float]] = []
    began = clock.monotonic()

    def ring(name: str) -> None:
        rung.append((name, clock.monotonic() - began))

    async with alarms_on(clock) as alarms:
        for name, delay in [("c", 3.0), ("a", 1.0), ("b", 2.0), ("a2", 1.0), ("now", 0.0)]:
            alarms.after(delay, partial(ring, name))
        await clock.sleep(10)
    assert [name for name, _ in rung] == ["now", "a", "a2", "b", "c"]
    assert [at for _, at in rung] == pytest.approx([0, 1, 1, 2, 3])


async def test_an_earlier_alarm_moves_the_timer_forward(clock: VirtualClock) -> None:
    rung: list[float] = []
    async with alarms_on(clock) as alarms:
        began = clock.monotonic()
        alarms.after(100, lambda: rung.append(clock.monotonic() - began))
        await clock.sleep(1)
        alarms.after(1, lambda: rung.append(clock.monotonic() - began))
        await clock.sleep(100)
    assert rung == pytest.approx([2, 100])


async def test_a_cancelled_alarm_is_silent_and_may_be_cancelled_twice(clock: VirtualClock) -> None:
    rung: list[str] = []
    async with alarms_on(clock) as alarms:
        first = alarms.after(1, lambda: rung.append("first"))
        alarms.after(2, lambda: rung.append("second"))
        first.cancel()
        first.cancel()
        await clock.sleep(3)
    assert rung == ["second"]


async def test_an_alarm_may_set_another_one(clock: VirtualClock) -> None:
    rung: list[float] = []
    async with alarms_on(clock) as alarms:
        began = clock.monotonic()

        def again() -> None:
            rung.append(clock.monotonic() - began)
            if len(rung) < 4:
                alarms.after(1, again)

        alarms.after(1, again)
        await clock.sleep(10)
    assert rung == pytest.approx([1, 2, 3, 4])


async def test_there_is_one_timer_however_many_alarms_there_are(clock: VirtualClock) -> None:
    async with alarms_on(clock) as alarms:
        for number in range(500):
            alarms.after(100 + number, lambda: None)
        await clock.sleep(1)
        assert len(asyncio.all_tasks()) == 2


@pytest.mark.spec("INV-09")
async def test_what_was_cancelled_does_not_pile_up(clock: VirtualClock) -> None:
    async with alarms_on(clock) as alarms:
        alarms.after(3600, lambda: None)
        for _ in range(20_000):
            alarms.after(600, lambda: None).cancel()
        assert len(alarms._heap) < 2_500


async def test_after_clearing_nothing_rings_until_something_is_set_anew(clock: VirtualClock) -> None:
    rung: list[str] = []
    async with alarms_on(clock) as alarms:
        alarms.after(1, lambda: rung.append("old"))
        alarms.clear()
        await clock.sleep(2)
        kept: Alarm = alarms.after(1, lambda: rung.append("new"))
        await clock.sleep(2)
        assert kept.ring is None, "what has rung holds on to nothing"
    assert rung == ["new"]
