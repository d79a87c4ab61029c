"""A call whose answer is lost is sent again: it is done once, and answers as if nothing had happened."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from tests.adapters.lines import Line, line
from tests.adapters.redis_servers import raw
from tq.clock import Clock
from tq.errors import BackendError, BackendUnavailableError
from tq.model import (
    Batch,
    Claim,
    Effects,
    Flow,
    Mark,
    Message,
    Rearm,
    Record,
    Remove,
    Settlement,
    StepStatus,
    TaskStatus,
)
from tq_redis import RedisBackend, open_backend
from tq_redis.claims import claim_arguments
from tq_redis.server import Call

pytestmark = pytest.mark.realtime


def message(id: str, now: float, type: str = "t") -> Message:
    return Message(id, "q", type, b"{}", now)


def claim(number: int, limit: int = 9) -> Claim:
    return Claim(("q",), limit, f"w:{number}", 30.0)


@asynccontextmanager
async def behind(url: str, clock: Clock) -> AsyncGenerator[tuple[RedisBackend, Line], None]:
    """Open a backend at the other end of a line that can be cut."""
    async with line(url) as through:
        # Opening blocks, and the line is carried by this very loop.
        backend = await asyncio.to_thread(open_backend, through.url, clock=clock, timeout=2.0)
        try:
            yield backend, through
        finally:
            await backend.close()


async def test_a_commit_whose_answer_was_lost_answers_its_owner_all_the_same(redis_url: str, clock: Clock) -> None:
    async with behind(redis_url, clock) as (backend, line):
        now = clock.now()
        await backend.queue.add([message("a", now), message("b", now), message("c", now)])
        first, second = (await backend.commit(Batch(), claim(1, 2))).deliveries
        flow = Flow(id="f", total=1, allowed=0, needed=1, join=message("f.join", now, "join"), started_at=now)
        effects = Effects(flows=(flow,), marks=(Mark("f", 0, StepStatus.SUCCESS),), messages=(message("child", now),))
        batch = Batch([Settlement(first.receipt, Remove(), effects), Settlement(second.receipt, Rearm(now, 1, b""))])
        line.answers_to_lose = 1
        hop = await backend.commit(batch, claim(2))
        assert line.lost == 1
        assert hop.refused == []
        assert [(it.id, it.confirmed) for it in hop.closed] == [("f", True)]
        assert sorted(it.message.id for it in hop.deliveries) == ["b", "c", "child", "f.join"]
        assert {it.message.id: it.message.attempt for it in hop.deliveries}["b"] == 1
        assert {it.token for it in hop.deliveries} == {"w:2"}
        assert (await backend.queue.counts())["q"]["running"] == 4


async def test_a_commit_that_was_given_up_answers_when_it_is_made_again(redis_url: str, clock: Clock) -> None:
    async with behind(redis_url, clock) as (backend, line):
        now = clock.now()
        await backend.queue.add([message("a", now), message("b", now)])
        (delivery,) = (await backend.commit(Batch(), claim(1, 1))).deliveries
        kept = Record("a", "q", "t", TaskStatus.EXECUTED, now, now + 60, result=b"1")
        batch, asked = Batch([Settlement(delivery.receipt, Remove(), Effects(records=(kept,)))]), claim(2)
        line.answers_to_lose = 100
        with pytest.raises(BackendUnavailableError):
            await backend.commit(batch, asked)
        line.answers_to_lose = 0
        await backend.queue.add([message("c", now)])  # others go on meanwhile
        hop = await backend.commit(batch, asked)
        assert (hop.refused, [it.message.id for it in hop.deliveries]) == ([], ["b"])
        assert (await backend.store.records(["a"]))["a"] == kept
        again = await backend.commit(batch)
        assert again.refused == [delivery.receipt], "made anew, it has lost its lease, as on every backend"


async def test_a_claim_whose_answer_was_lost_hands_the_same_out(redis_url: str, clock: Clock) -> None:
    async with behind(redis_url, clock) as (backend, line):
        await backend.queue.add([message(f"{number}", clock.now()) for number in range(5)])
        line.answers_to_lose = 2
        got = (await backend.queue.claim(claim(1, 3))).deliveries
        assert [it.message.id for it in got] == ["0", "1", "2"]
        assert {it.fence for it in got} == {1}
        assert (await backend.queue.counts())["q"] == {"waiting": 2, "delayed": 0, "running": 3, "held": 0}


async def test_what_was_acknowledged_is_not_told_to_be_lost(redis_url: str, clock: Clock) -> None:
    async with behind(redis_url, clock) as (backend, line):
        await backend.queue.add([message("a", clock.now())])
        (delivery,) = (await backend.queue.claim(claim(1))).deliveries
        line.answers_to_lose = 1
        assert await backend.queue.ack([delivery.receipt]) == []
        assert await backend.queue.ack([delivery.receipt]) == [delivery.receipt]


async def test_what_was_added_is_not_told_to_have_been_there(redis_url: str, clock: Clock) -> None:
    async with behind(redis_url, clock) as (backend, line):
        await backend.queue.counts()  # it is connected, and the answer that is lost is that of the call
        line.answers_to_lose = 1
        assert await backend.queue.add([message("a", clock.now())]) == []
        assert await backend.queue.add([message("a", clock.now())]) == ["a"]


async def test_a_call_that_comes_after_its_caller_went_on_is_not_done(redis_url: str, clock: Clock) -> None:
    """It lay in the server's ear while its client gave up: done now, it would hand out to nobody."""
    backend = open_backend(redis_url, clock=clock)
    await backend.queue.add([message("a", clock.now())])
    early, late = Call(99, 1), Call(99, 2)
    await backend.server.write_once("claim", claim_arguments(claim(1, 0)), late)
    with pytest.raises(BackendError, match="call 1 comes after call 2"):
        await backend.server.write_once("claim", claim_arguments(claim(2)), early)
    assert (await backend.queue.counts())["q"]["running"] == 0
    await backend.close()


async def test_answers_are_kept_for_a_while_and_no_more_than_calls_were_made_at_once(
    redis_url: str, clock: Clock
) -> None:
    backend = open_backend(redis_url, clock=clock)
    for number in range(20):
        await backend.queue.add([message(f"{number}", clock.now())])
    await asyncio.gather(*[backend.queue.add([message(f"more {number}", clock.now())]) for number in range(5)])
    with raw(redis_url) as client:
        answers = client.keys(f"{backend.settings.root}:answer:{backend.server.caller}:*")
        assert 1 <= len(answers) <= 6
        assert all(0 < client.ttl(name) <= 3600 for name in answers)
    await backend.close()
