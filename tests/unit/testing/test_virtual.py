"""Virtual time passes only while nothing is to be done, and says so when nothing ever will be."""

import asyncio
import threading
import time

import pytest

from tq.testing import DeadlockError, VirtualClock, run_virtual
from tq.testing.plugin import run_test
from tq.testing.virtual import START


async def test_a_month_passes_at_once(clock: VirtualClock) -> None:
    before = time.monotonic()
    await clock.sleep(30 * 86_400)
    assert clock.now() == START + 30 * 86_400
    assert time.monotonic() - before < 5


async def test_timers_go_off_in_order(clock: VirtualClock) -> None:
    order: list[float] = []

    async def wait(delay: float) -> None:
        await clock.sleep(delay)
        order.append(clock.monotonic())

    async with asyncio.TaskGroup() as group:
        for delay in (3.0, 1.0, 2.5):
            group.create_task(wait(delay))
    assert order == [1.0, 2.5, 3.0]


async def test_time_stands_still_while_a_thread_works(clock: VirtualClock) -> None:
    released = threading.Event()
    call = asyncio.get_running_loop().run_in_executor(None, released.wait)
    timer = asyncio.create_task(clock.sleep(5))
    await asyncio.sleep(0)
    threading.Timer(0.05, released.set).start()
    await call
    assert clock.monotonic() == 0.0
    assert not timer.done()
    await timer
    assert clock.monotonic() == 5.0


async def test_time_stands_still_for_a_thread_that_nobody_awaits_any_more(clock: VirtualClock) -> None:
    released, done = threading.Event(), threading.Event()

    def work() -> None:
        released.wait()
        time.sleep(0.05)
        done.set()

    call = asyncio.get_running_loop().run_in_executor(None, work)
    await asyncio.sleep(0)
    call.cancel()
    released.set()
    await clock.sleep(1)
    assert done.is_set()


async def test_a_thread_may_wake_the_loop() -> None:
    loop, woken = asyncio.get_running_loop(), asyncio.Event()
    await asyncio.gather(asyncio.to_thread(loop.call_soon_threadsafe, woken.set), woken.wait())


async def test_a_timeout_is_virtual(clock: VirtualClock) -> None:
    with pytest.raises(TimeoutError):
        async with clock.timeout(3600):
            await asyncio.Event().wait()
    assert clock.monotonic() == 3600


def test_a_run_that_can_never_go_on_says_who_waits() -> None:
    async def waits_for_ever() -> None:
        await asyncio.Event().wait()

    with pytest.raises(DeadlockError, match="waits_for_ever"):
        run_virtual(waits_for_ever())


def test_a_run_without_end_is_ended() -> None:
    async def polls_for_ever() -> None:
        clock = VirtualClock()
        while True:
            await clock.sleep(100 * 86_400)

    with pytest.raises(DeadlockError, match="virtual days"):
        run_virtual(polls_for_ever())


def test_a_skewed_clock_is_wrong_by_its_skew() -> None:
    assert VirtualClock(skew=-90).now() == START - 90


def test_a_task_left_behind_is_named() -> None:
    async def leaves_a_task() -> None:
        kept.append(asyncio.create_task(VirtualClock().sleep(5), name="forgotten"))

    kept: list[asyncio.Task[None]] = []
    with pytest.raises(AssertionError, match="forgotten"):
        run_test(leaves_a_task())


def test_a_timer_left_behind_is_named() -> None:
    async def leaves_a_timer() -> None:
        asyncio.get_running_loop().call_later(5, kept.clear)

    kept: list[int] = []
    with pytest.raises(AssertionError, match="timer"):
        run_test(leaves_a_timer())


@pytest.mark.realtime
async def test_a_realtime_test_runs_on_an_ordinary_loop() -> None:
    before = time.monotonic()
    await asyncio.sleep(0.02)
    assert time.monotonic() - before >= 0.015
