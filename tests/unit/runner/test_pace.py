"""When the next hop is made, and how much it claims."""

from __future__ import annotations

import asyncio
import math

import pytest

from tq.model import Claim, Delivery, Hop
from tq.runner.pace import HOPS_AHEAD, LONGEST_AHEAD, MOST_AHEAD, SHORTEST_SLEEP, Pace
from tq.testing import VirtualClock

from .making import delivery


def claim(limit: int = 10) -> Claim:
    return Claim(("q",), limit, "w:1", 30)


def hop(deliveries: int = 0, next_due: float | None = None) -> Hop:
    return Hop([delivery() for _ in range(deliveries)] or list[Delivery](), [], [], [], next_due)


@pytest.fixture
def pace(clock: VirtualClock) -> Pace:
    return Pace(clock, 100, 1.0)


async def test_at_first_something_may_be_due_and_the_free_slots_are_wanted(pace: Pace) -> None:
    assert pace.due
    assert (pace.wanted(0), pace.wanted(30), pace.wanted(100), pace.wanted(120)) == (100, 70, 0, -20)


async def test_a_claim_that_came_back_full_is_made_again_at_once(pace: Pace) -> None:
    pace.made(hop(10), claim(10), 0, took=0.1)
    assert pace.due


async def test_one_that_came_back_short_waits_for_what_falls_due(pace: Pace, clock: VirtualClock) -> None:
    pace.made(hop(3, next_due=clock.now() + 0.4), claim(), 0, took=0.1)
    assert not pace.due
    assert pace.due_in == pytest.approx(0.4)
    began = clock.now()
    await pace.sleep(until_due=True)
    assert clock.now() - began == pytest.approx(0.4)
    assert pace.due


@pytest.mark.parametrize("next_due", [None, 500.0])
async def test_it_looks_again_after_the_poll_interval_at_the_latest(
    pace: Pace, clock: VirtualClock, next_due: float | None
) -> None:
    pace.made(hop(0, None if next_due is None else clock.now() + next_due), claim(), 0, took=0.1)
    began = clock.now()
    await pace.sleep(until_due=True)
    assert clock.now() - began == pytest.approx(1.0)
    assert pace.due_in == (math.inf if next_due is None else pytest.approx(next_due - 1))


async def test_where_no_other_process_adds_it_sleeps_until_woken(clock: VirtualClock) -> None:
    pace = Pace(clock, 100, math.inf)
    pace.made(hop(), claim(), 0, took=0.1)
    sleeping = asyncio.ensure_future(pace.sleep(until_due=True))
    await clock.sleep(10_000)
    assert not sleeping.done()
    pace.notify()
    await sleeping
    assert pace.due


async def test_what_is_due_already_but_was_not_handed_out_is_not_asked_for_in_a_busy_loop(
    pace: Pace, clock: VirtualClock
) -> None:
    pace.made(hop(0, next_due=clock.now() - 5), claim(), 0, took=0.1)
    assert not pace.due
    began = clock.now()
    await pace.sleep(until_due=True)
    assert clock.now() - began == pytest.approx(SHORTEST_SLEEP)


async def test_it_looks_again_by_the_time_it_was_told(pace: Pace, clock: VirtualClock) -> None:
    pace.made(hop(), claim(), 0, took=0.1)
    pace.look_by(clock.now() + 0.3)
    assert pace.due_in == pytest.approx(0.3)
    began = clock.now()
    await pace.sleep(until_due=True)
    assert clock.now() - began == pytest.approx(0.3)


async def test_a_notice_given_while_a_claim_is_on_its_way_is_not_forgotten(pace: Pace) -> None:
    """What it was about may have come after the claim had looked."""
    pace.asks()
    pace.notify()
    pace.made(hop(), claim(), 0, took=0.1)
    assert pace.due
    pace.asks()
    pace.made(hop(), claim(), 0, took=0.1)
    assert not pace.due


async def test_a_hop_without_claim_says_nothing_of_what_is_due(pace: Pace, clock: VirtualClock) -> None:
    pace.made(hop(0, next_due=clock.now() + 60), claim(), 0, took=0.1)
    pace.made(hop(), None, 5, took=0.1)
    assert not pace.due


async def test_to_be_woken_is_not_to_look(pace: Pace, clock: VirtualClock) -> None:
    pace.made(hop(), claim(), 0, took=0.1)
    pace.wake()
    began = clock.now()
    await pace.sleep(until_due=False)
    assert (clock.now(), pace.due) == (began, False)


async def test_no_more_is_claimed_ahead_than_the_way_to_the_backend_takes(pace: Pace, clock: VirtualClock) -> None:
    for _ in range(100):
        await clock.sleep(0.01)
        pace.made(hop(10), claim(10), 100, took=0.002)  # 10,000 a second
    assert pace.wanted(100) == pytest.approx(10_000 * 0.002 * HOPS_AHEAD, rel=0.05)


async def test_who_claims_a_lot_is_given_fifty_milliseconds_ahead_at_most(pace: Pace, clock: VirtualClock) -> None:
    for _ in range(100):
        await clock.sleep(0.01)
        pace.made(hop(10), claim(10), 100, took=0.1)  # 10,000 a second
    assert pace.wanted(100) == pytest.approx(10_000 * LONGEST_AHEAD, rel=0.01)
    for _ in range(100):
        await clock.sleep(0.0001)
        pace.made(hop(10), claim(10), 1_000, took=0.1)  # 10,000,000 a second
    assert pace.wanted(100) == MOST_AHEAD


async def test_after_a_pause_nothing_is_claimed_ahead(pace: Pace, clock: VirtualClock) -> None:
    for _ in range(100):
        await clock.sleep(0.01)
        pace.made(hop(10), claim(10), 100, took=0.1)
    await clock.sleep(2)
    pace.made(hop(), claim(), 0, took=0.1)
    assert pace.wanted(100) == 0


async def test_a_clock_that_is_put_back_does_not_keep_it_from_looking(pace: Pace, clock: VirtualClock) -> None:
    pace.made(hop(), claim(), 0, took=0.1)
    clock.skew = -3600.0
    assert not pace.due
    began = clock.monotonic()
    await pace.sleep(until_due=True)
    assert clock.monotonic() - began == pytest.approx(1.0)
    assert pace.due
