"""A worker that waits is woken by what other processes add; between busy ones no word is sent."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from tests.adapters.redis_servers import raw
from tq.clock import Clock
from tq.model import Batch, Claim, Effects, Message, Remove, Settlement
from tq_redis import RedisBackend, open_backend

pytestmark = pytest.mark.realtime

SOON = 5.0
"""Seconds; far less than the poll interval, in which a worker looks by itself."""


def claim(number: int, limit: int = 9) -> Claim:
    return Claim(("q",), limit, f"w:{number}", 30.0)


@asynccontextmanager
async def opened(url: str, clock: Clock, poll_interval: float = 3600.0) -> AsyncGenerator[RedisBackend, None]:
    backend = open_backend(url, clock=clock, poll_interval=poll_interval)
    try:
        yield backend
    finally:
        await backend.close()


@asynccontextmanager
async def woken_by(backend: RedisBackend) -> AsyncGenerator[asyncio.Event, None]:
    """Give what is set when this backend's worker is woken; it has begun to listen."""
    woken = asyncio.Event()
    forget = backend.on_change(woken.set)
    async with asyncio.timeout(SOON):
        await woken.wait()  # the first word: others are heard from now on
    woken.clear()
    yield woken
    forget()


async def test_what_another_process_adds_wakes_who_waits(redis_url: str, clock: Clock) -> None:
    async with opened(redis_url, clock) as mine, opened(redis_url, clock) as other, woken_by(mine) as woken:
        assert (await mine.commit(Batch(), claim(1))).deliveries == []
        await other.queue.add([Message("a", "q", "t", b"{}", clock.now())])
        async with asyncio.timeout(SOON):
            await woken.wait()
        assert len((await mine.commit(Batch(), claim(2))).deliveries) == 1


@pytest.mark.parametrize("what", ["resume", "child", "retry", "release"])
async def test_whatever_makes_something_due_wakes_who_waits(redis_url: str, clock: Clock, what: str) -> None:
    async with opened(redis_url, clock) as mine, opened(redis_url, clock) as other, woken_by(mine) as woken:
        await other.queue.add([Message("a", "q", "t", b"{}", clock.now())])
        (delivery,) = (await other.queue.claim(claim(1, 1))).deliveries
        await other.queue.pause("paused", paused=True)
        assert (await mine.commit(Batch(), claim(2))).deliveries == []
        woken.clear()
        match what:
            case "resume":
                await other.queue.pause("paused", paused=False)
            case "child":
                child = Effects(messages=(Message("b", "q", "t", b"{}", clock.now() + 60),))
                await other.commit(Batch([Settlement(delivery.receipt, Remove(), child)]))
            case "retry":
                await other.store.put([(delivery.message._replace(attempt=1), "")])
            case _:
                await other.release([delivery.receipt])
        async with asyncio.timeout(SOON):
            await woken.wait()


async def test_nobody_listens_once_the_last_wish_is_taken_back(redis_url: str, clock: Clock) -> None:
    async with opened(redis_url, clock) as backend:
        channel = f"{backend.settings.root}:bell"
        with raw(redis_url) as client:
            for _ in range(2):
                async with woken_by(backend):
                    assert client.pubsub_numsub(channel)[0][1] == 1
                async with asyncio.timeout(SOON):
                    while client.pubsub_numsub(channel)[0][1]:  # noqa: ASYNC110 -- the server sends no word of it
                        await asyncio.sleep(0)


async def test_a_backends_own_words_wake_its_own_worker_at_once(redis_url: str, clock: Clock) -> None:
    async with opened(redis_url, clock) as backend, woken_by(backend) as woken:
        await backend.queue.add([Message("a", "q", "t", b"{}", clock.now())])
        assert woken.is_set()


async def test_no_word_is_sent_where_nobody_waits(redis_url: str, clock: Clock) -> None:
    async with opened(redis_url, clock) as mine, opened(redis_url, clock) as other, woken_by(mine):
        await other.queue.add([Message(f"{number}", "q", "t", b"{}", clock.now()) for number in range(9)])
        assert len((await mine.commit(Batch(), claim(1, 4))).deliveries) == 4
        published = words(redis_url)
        for number in range(10, 20):
            await other.queue.add([Message(f"{number}", "q", "t", b"{}", clock.now())])
        assert words(redis_url) == published, "the last claim was full: its worker asks again by itself"
        await mine.commit(Batch(), claim(2, 99))
        for number in range(20, 30):
            await other.queue.add([Message(f"{number}", "q", "t", b"{}", clock.now())])
        assert words(redis_url) == published + 1, "once told, it need not be told again"


async def test_a_line_that_broke_is_taken_up_again(redis_url: str, clock: Clock) -> None:
    async with opened(redis_url, clock) as mine, opened(redis_url, clock) as other, woken_by(mine) as woken:
        await mine.commit(Batch(), claim(1))
        with raw(redis_url) as client:
            client.client_kill_filter(_type="pubsub")
        async with asyncio.timeout(SOON):
            await woken.wait()  # something may have been missed, so it looks
        woken.clear()
        await mine.commit(Batch(), claim(2))
        await other.queue.add([Message("a", "q", "t", b"{}", clock.now())])
        async with asyncio.timeout(SOON):
            await woken.wait()


def words(url: str) -> int:
    """Return how many words this server has sent so far."""
    with raw(url) as client:
        sent: int = client.info("commandstats").get("cmdstat_publish", {"calls": 0})["calls"]
    return sent
