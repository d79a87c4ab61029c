"""An ending on MongoDB is several writes: wherever its process dies between them, it counts whole or not at all."""

import random

import pytest

from tests.adapters.histories import Side
from tests.crash.homes import strike_commands
from tq.clock import Clock
from tq.model import (
    Batch,
    Chunk,
    Claim,
    Delivery,
    Effects,
    Flow,
    Hold,
    Mark,
    Message,
    Outgoing,
    Projection,
    Record,
    Remove,
    Reopen,
    Resolve,
    Settlement,
    StepStatus,
    TaskStatus,
    Verdict,
)
from tq.testing import Fault, Faults, ProcessDiedError, plans
from tq_mongo import MongoBackend, open_backend

LEASE = 10.0
BROUGHT = {
    "a",
    "h",
    "child",
    "follower",
    "next",
    "known.join",
    "empty.join",
    "again.0",
    "row",
    "note",
    "plan",
    "spread",
}


def message(id: str, lane: str = "") -> Message:
    return Message(id, "q", "t", b"{}", 0.0, lane=lane)


def flow(id: str, total: int, chunks: int = 0) -> Flow:
    return Flow(
        id=id, total=total, allowed=total, needed=total, join=message(f"{id}.join"), started_at=0.0, chunks=chunks
    )


def record(id: str, *, body: bytes | None = None) -> Record:
    return Record(id, "q", "t", TaskStatus.FAILED, 1.0, 1e12, dead=True, body=body)


def claim() -> Claim:
    return Claim(("q",), 50, f"w:{random.getrandbits(40)}", LEASE)


def everything(now: float) -> Effects:
    """Return what an ending can bring, of every kind."""
    join = message("again.join.1")
    return Effects(
        messages=(message("child"), message("follower", "L"), message("next", "L")),
        records=(record("a", body=b"{}"),),
        flows=(flow("empty", 0),),
        marks=(Mark("known", 1, StepStatus.SUCCESS, result=b"1"),),
        projections=(Projection("row", "1", "E", "t", "q", TaskStatus.EXECUTED, 2, now, now, None, None, None),),
        chunks=(Chunk("plan", 0, (message("member"),), now),),
        spreads=(("wide", 1),),
        outgoing=(Outgoing("topic", "note", b"{}"),),
        resolves=(Resolve("h", "known", Effects(records=(record("h"),))),),
        reopens=(Reopen(flow_id="again", generation=1, join=join, at=now),),
        verdicts=(("known", Verdict.TIMED_OUT, "too late: its last member comes first"),),
    )


async def prepared(backend: MongoBackend) -> Delivery:
    """Return a delivery that is to end; around it is everything that its ending moves."""
    barrier = Side.of(backend).barrier
    await backend.queue.add([message("h")])
    [held] = (await backend.queue.claim(claim())).deliveries
    await backend.commit(Batch([Settlement(held.receipt, Hold("known"))]))
    await barrier.init_barrier([flow("known", 2), flow("wide", 9, chunks=2), flow("again", 1)])
    failed, done = StepStatus.FAIL, StepStatus.SUCCESS
    await barrier.batch_decrement_and_check([Mark("known", 0, done), Mark("again", 0, failed)])
    await barrier.confirm_join([("again", 0)])
    await backend.store.record([record("again.0", body=b"{}")])
    await backend.queue.add([message("a")])
    [delivery] = (await backend.queue.claim(claim())).deliveries
    return delivery


async def seen(backend: MongoBackend, ran: list[str]) -> set[str]:
    """Return what came of the ending, as far as others can see it."""
    side = Side.of(backend)
    states = await side.barrier.get(["known", "wide", "again"])
    found = {id for id in ran if id not in {"a", "h"}}
    found |= {*await backend.store.records(["a", "h"])} | {*await side.projections.get_projections(["row"])}
    found |= {note.id for note in await backend.store.outgoing("topic", 9)}
    if await backend.store.chunk("plan", 0) is not None:
        found.add("plan")
    if states["wide"].spread:
        found.add("spread")
    assert (states["known"].verdict is Verdict.COMPLETED) is ("known.join" in ran)
    assert states["again"].flow.generation == ("again.0" in ran)
    return found


async def run_all(backend: MongoBackend, clock: Clock) -> list[str]:
    """Run what is there, and what comes of it, until nothing is left; return the ids, as often as they ran."""
    ran: list[str] = []
    for _ in range(3):
        await clock.sleep(1.5 * LEASE)
        while deliveries := (await backend.commit(Batch(), claim())).deliveries:
            ran += [it.message.id for it in deliveries]
            await backend.commit(Batch([Settlement(it.receipt, Remove()) for it in deliveries]))
    return ran


@pytest.mark.spec("INV-01", "INV-02", "D-12")
async def test_an_ending_counts_whole_or_not_at_all_wherever_its_process_dies(mongo_url: str, clock: Clock) -> None:
    outcomes: list[bool] = []
    for number in range(1, 100):
        url = f"{mongo_url}-{number}"
        others, faults = open_backend(url, clock=clock), Faults(plans.at(number, Fault.DIE_BEFORE))
        dying = strike_commands(open_backend(url, clock=clock), faults)
        try:
            delivery = await prepared(others)
            ending = Settlement(delivery.receipt, Remove(), everything(clock.now()))
            try:
                await dying.commit(Batch([ending]))
            except ProcessDiedError:
                pass
            else:
                break
            ran = await run_all(others, clock)
            found = await seen(others, ran)
            assert len(ran) == len(set(ran)), f"{faults}: something ran twice"
            assert found == BROUGHT or (found == set() and ran == ["a"]), f"{faults}: {found ^ BROUGHT}, {ran}"
            outcomes.append(bool(found))
        finally:
            await dying.close()
            await others.close()
    assert len(outcomes) > 15, "an ending of every kind is many writes"
    assert outcomes == sorted(outcomes), "first it does not count, then it does"
    assert set(outcomes) == {False, True}
