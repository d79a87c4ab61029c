"""What memory promises beyond the ports: wake-up, threads, and that nothing piles up."""

import asyncio
import threading
from random import Random
from typing import Any

import pytest

from tq.clock import Clock
from tq.errors import BackendError, InvalidInputError
from tq.memory import MemoryBackend, MemoryBarrier, MemoryProjections, MemoryQueue, MemoryStore, open_backend
from tq.model import Batch, Effects, Hold, Place, Rearm, Resolve, Verdict
from tq.testing.contracts.values import add, claim, flow, hop, mark, message, record, settle, settlement, write


def test_a_url_that_names_something_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="memory://"):
        open_backend("memory://shared")
    assert open_backend("memory://").queue is not open_backend("memory://").queue


def test_parts_know_the_backend_that_they_belong_to(clock: Clock) -> None:
    backend = MemoryBackend(clock=clock)
    parts: list[Any] = [backend.queue, backend.store, backend.barrier, backend.projections]
    assert [part.backend for part in parts] == [backend] * 4
    alone: list[Any] = [MemoryQueue(), MemoryStore(), MemoryBarrier(), MemoryProjections()]
    assert [part.backend for part in alone] == [None] * 4


async def test_queue_and_store_of_one_backend_are_one_custody(clock: Clock) -> None:
    backend = MemoryBackend(clock=clock)
    await add(backend.queue, message("a", clock.now()))
    assert await add(backend.store, message("a", clock.now())) == ["a"]
    await add(backend.store, message("b", clock.now()))
    assert sorted(await backend.queue.locate(["a", "b"])) == ["a", "b"]
    alone = MemoryStore(clock=clock)
    assert await add(alone, message("a", clock.now())) == []


async def test_what_the_store_takes_over_is_the_stores(clock: Clock) -> None:
    backend = MemoryBackend(clock=clock)
    await add(backend.queue, message("a", clock.now()))
    await backend.store.put([(message("a", clock.now(), attempt=1), "")])
    (delivery,) = (await hop(backend, lease=5)).deliveries
    assert (delivery.place, delivery.message.attempt) == (Place.STORE, 1)


async def test_order_holds_across_queues(clock: Clock) -> None:
    backend = MemoryBackend(clock=clock)
    random, now = Random(5), clock.now()
    sent = [
        message(f"{number:02}", now - random.randrange(20), queue=random.choice("abcde"), type=random.choice("st"))
        for number in range(60)
    ]
    await backend.queue.add(sent)
    got: list[str] = []
    while taken := (await backend.commit(Batch(), claim(7, lease=99, queues=tuple("edcba")))).deliveries:
        got += [it.message.id for it in taken]
    assert got == [it.id for it in sorted(sent, key=lambda it: it.run_at)]


async def test_all_parts_are_closed_with_their_backend(clock: Clock) -> None:
    backend = MemoryBackend(clock=clock)
    await backend.queue.close()
    with pytest.raises(BackendError, match="MemoryQueue is closed"):
        await backend.queue.counts()
    assert await backend.store.counts() == {}
    await backend.close()
    for verb in (backend.store.counts, backend.queue.announced, backend.store.stats):
        with pytest.raises(BackendError, match="closed"):
            await verb()


# --- waking up ----------------------------------------------------------------------------------------------------


class Bell:
    """Counts how often it was rung."""

    def __init__(self, backend: MemoryBackend) -> None:
        self.rings = 0
        self.forget = backend.on_change(self.ring)

    def ring(self) -> None:
        self.rings += 1

    def heard(self) -> bool:
        """Whether it was rung since the last question."""
        rings, self.rings = self.rings, 0
        return rings > 0


async def test_whatever_may_be_due_earlier_is_told(clock: Clock) -> None:
    backend = MemoryBackend(clock=clock)
    bell = Bell(backend)
    now = clock.now()
    await add(backend.queue, message("a", now), message("b", now), message("c", now), message("later", now + 9))
    assert bell.heard()
    first, second, third = (await hop(backend, lease=30)).deliveries
    assert not bell.heard()
    await settle(backend, first)
    assert not bell.heard()
    await settle(backend, second, Rearm(now, 1, b""))
    assert bell.heard()
    await backend.release([third.receipt])
    assert bell.heard()
    await backend.queue.cancel(["later"])
    assert bell.heard()
    await backend.queue.pause("q", paused=True)
    assert not bell.heard()
    await backend.queue.pause("q", paused=False)
    assert bell.heard()
    await write(backend, Effects(flows=(flow("f", 1, now),)))
    assert not bell.heard()
    await write(backend, Effects(marks=(mark("f", 0),)))
    assert bell.heard()
    for lane, name in (("L", "1"), ("M", "2")):
        await backend.store.put([(message(name, now, lane=lane), "f")])
        assert bell.heard()
        assert await backend.store.append_if_parked(lane, [message(f"{name}-next", now, lane=lane)])
        assert not bell.heard()
    assert await backend.store.resolve("1", "f")
    assert bell.heard()
    await backend.store.record([record("dead", now, dead=True, body=b"")])
    assert not bell.heard()
    await backend.store.revive(["dead"], now)
    assert bell.heard()
    await add(backend.queue, message("x", now, queue="r", lane="N"), message("y", now, queue="r", lane="N"))
    assert bell.heard()
    (first,) = (await backend.queue.claim(claim(9, lease=30, queues=["r"]))).deliveries
    await backend.queue.rearm([(first.receipt, Rearm(now, 1, b""))])
    assert bell.heard()
    (first,) = (await backend.queue.claim(claim(9, lease=30, queues=["r"]))).deliveries
    await backend.queue.ack([first.receipt])
    assert bell.heard()
    bell.forget()
    bell.forget()
    await add(backend.store, message("more", now))
    assert not bell.heard()


async def test_somebody_in_another_thread_is_told_in_his_own_loop(clock: Clock) -> None:
    backend = MemoryBackend(clock=clock)
    told: list[str] = []
    backend.on_change(lambda: told.append(threading.current_thread().name))
    await asyncio.to_thread(asyncio.run, add(backend.queue, message("a", clock.now())))
    await asyncio.sleep(0)
    assert told == [threading.current_thread().name]


# --- threads ------------------------------------------------------------------------------------------------------


@pytest.mark.realtime
async def test_threads_do_not_see_half_a_step(clock: Clock) -> None:
    backend = MemoryBackend(clock=clock)
    total, done = 2000, list[str]()

    async def produce() -> None:
        for start in range(0, total, 100):
            await backend.queue.add([message(f"{number}", clock.now()) for number in range(start, start + 100)])

    async def work(worker: str) -> None:
        while len(done) < total:
            answer = await hop(backend, 7, lease=30, worker=worker)
            batch = Batch(settlements=[settlement(it) for it in answer.deliveries])
            assert (await backend.commit(batch)).refused == []
            done.extend(it.message.id for it in answer.deliveries)
            await asyncio.sleep(0)

    jobs = [produce(), work("a"), work("b"), work("c")]
    await asyncio.gather(*[asyncio.to_thread(asyncio.run, job) for job in jobs])
    assert sorted(done) == sorted(f"{number}" for number in range(total))
    assert await backend.queue.counts() == {}


@pytest.mark.realtime
async def test_a_keeper_renews_from_a_thread_while_the_loop_is_blocked(clock: Clock) -> None:
    backend = MemoryBackend(clock=clock)
    await add(backend.queue, message("a", clock.now()))
    (delivery,) = (await hop(backend, lease=0.1)).deliveries

    async def renew() -> None:
        async with backend.keeper() as keeper:
            assert (await keeper.renew([delivery], 60)).lost == ()

    thread = threading.Thread(target=lambda: asyncio.run(renew()))
    thread.start()
    thread.join()
    await clock.sleep(0.15)
    assert (await hop(backend, lease=60)).deliveries == []
    assert (await settle(backend, delivery)).refused == []


# --- nothing piles up ---------------------------------------------------------------------------------------------


@pytest.mark.spec("INV-09")
async def test_what_is_over_leaves_nothing_behind(clock: Clock) -> None:
    backend = MemoryBackend(clock=clock)
    for number in range(300):
        name, now = f"{number}", clock.now()
        await add(backend.queue, message(name, now + 1, type=f"t{number}", lane=f"L{number}"))
        await backend.queue.cancel([name])
        await backend.queue.announce(f"w{number}", ["q"], 1.0)
        (delivery,) = (await hop(backend, lease=5, worker=f"w{number}")).deliveries
        if number % 3 == 0:
            await settle(backend, delivery, Hold("f"))
            await write(backend, Effects(resolves=(Resolve(name, "f", Effects()),)))
        elif number % 3 == 1:
            await settle(backend, delivery)
        else:
            await clock.sleep(6)
            (again,) = (await hop(backend, lease=5, worker=f"w{number}")).deliveries
            await settle(backend, again)
        await hop(backend, lease=5, worker=f"w{number}")
    await clock.sleep(60)
    await hop(backend, lease=5)
    await backend.queue.announced()
    await backend.queue.list(None, "", 9)
    table = backend._messages
    (queue,) = table.queues.values()
    assert (table.rows, table.lanes, table.told) == ({}, {}, {})
    assert (queue.shelves, queue.leases) == ({}, [])
    assert len(table.pages._old) + len(table.pages._young) < 100


@pytest.mark.spec("INV-09")
async def test_flows_that_are_over_leave_nothing_behind(clock: Clock) -> None:
    backend = MemoryBackend(clock=clock)
    assert backend.barrier is not None
    for number in range(200):
        now = clock.now()
        await write(backend, Effects(flows=(flow(f"{number}", 2, now, deadline=now + 5, cancel_siblings=True),)))
        verdicts = ((f"{number}", Verdict.CANCELLED, ""),) if number % 2 else ()
        await write(
            backend, Effects(marks=(mark(f"{number}", 0), mark(f"{number}", 1))[: 2 - number % 2], verdicts=verdicts)
        )
    await clock.sleep(60)
    await backend.barrier.due(clock.now(), 1000)
    assert await backend.barrier.purge(clock.now(), 1000) == 200
    flows = backend._flows
    assert (flows.rows, flows._open, flows._wanting, flows._deadlines, flows._closed) == ({}, {}, {}, [], [])


async def test_flows_that_want_nothing_are_not_looked_at(clock: Clock) -> None:
    backend = MemoryBackend(clock=clock)
    assert backend.barrier is not None
    now = clock.now()
    flows = tuple(flow(f"{number}", 1, now, deadline=now + 50) for number in range(1000))
    plan = flow("plan", 1, now, chunks=1)
    await write(backend, Effects(flows=(*flows, plan), marks=tuple(mark(it.id, 0) for it in flows[::2])))
    await backend.barrier.advance("plan", spread=1)
    assert await backend.barrier.due(now + 49, 10) == []
    assert backend._flows._wanting == {}
    late = [it.id for it in flows[1::2]]
    assert sorted(it.id for it in await backend.barrier.due(now + 50, 1000)) == sorted(late)
    await write(backend, Effects(verdicts=tuple((name, Verdict.TIMED_OUT, "") for name in late)))
    assert await backend.barrier.due(now + 50, 1000) == []
    assert backend._flows._wanting == {}


# --- the cost of what waits -----------------------------------------------------------------------------------------


async def test_a_claim_does_not_look_at_what_is_not_its_business(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted, not timed: how many entries a claim looks at must not grow with what waits."""
    from tq.memory import shelf

    backend = MemoryBackend(clock=clock)
    now = clock.now()
    await backend.queue.add([message(f"later-{number}", now + 99 + number) for number in range(5000)])
    await backend.queue.add([message(f"busy-{number}", now, type="busy") for number in range(5000)])
    await backend.queue.add([message(f"lane-{number}", now, lane="L") for number in range(5000)])
    await backend.queue.add([message(f"{number}", now) for number in range(100)])
    looked = 0
    inner = shelf.stale

    def counted(entry: shelf.Entry) -> bool:
        nonlocal looked
        looked += 1
        return inner(entry)

    monkeypatch.setattr(shelf, "stale", counted)
    answer = await backend.commit(Batch(), claim(200, lease=30, exclude=[("q", "busy")]))
    assert len(answer.deliveries) == 101
    assert looked < 20
