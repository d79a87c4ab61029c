"""How shards are read: at the pace that the stream allows, on through whatever it answers, and to the very end."""

from itertools import pairwise
from typing import Any

import pytest

from tests.adapters.kinesis_double import KinesisDouble, refusal
from tq.clock import Clock
from tq.errors import BackendError, BackendUnavailableError
from tq.memory import MemoryShardLeases
from tq.testing.contracts.values import ids, message, take
from tq_kinesis import KinesisQueue
from tq_kinesis.position import ENDED

FIRST = "shardId-000000000000"


def queue_on(double: KinesisDouble, leases: MemoryShardLeases, **options: Any) -> KinesisQueue:
    return KinesisQueue("stream", leases=leases, client=double, clock=double.clock, **options)


async def read(queue: KinesisQueue, clock: Clock, seconds: float, limit: int = 1000) -> list[str]:
    """Claim and acknowledge, ten times a second."""
    got: list[str] = []
    for _ in range(int(seconds * 10)):
        deliveries = await take(queue, limit, lease=100.0)
        got += ids(deliveries)
        await queue.ack([it.receipt for it in deliveries])
        await clock.sleep(0.1)
    return got


async def test_five_reads_a_second_are_never_exceeded(clock: Clock) -> None:
    double = KinesisDouble(clock, shards=2)
    queue = queue_on(double, MemoryShardLeases(clock=clock))
    for start in range(0, 600, 60):
        await queue.add([message(f"{number}", clock.now()) for number in range(start, start + 60)])
        await read(queue, clock, 1.0, limit=5)
    assert double.calls["get_records"] > 40
    assert queue.strategy.get_snapshot().consecutive_failures == 0, "the stream would have said so"
    await queue.close()


@pytest.mark.spec("SHC-03", "SHC-09", "D-67")
async def test_throttling_and_outages_are_waited_out_ever_longer(clock: Clock) -> None:
    double, asked = KinesisDouble(clock), list[float]()
    errors = [refusal("InternalFailure", status=500)] * 5 + [refusal("ProvisionedThroughputExceededException")] * 9

    def fault(call: str, _: object) -> Exception | None:
        if call != "get_records":
            return None
        asked.append(clock.monotonic())
        return errors.pop() if errors else None

    double.fault = fault
    queue = queue_on(double, MemoryShardLeases(clock=clock))
    await queue.add([message(f"{number}", clock.now()) for number in range(20)])
    assert sorted(await read(queue, clock, 300.0), key=int) == [f"{number}" for number in range(20)]
    gaps = [later - earlier for earlier, later in pairwise(asked[:15])]
    assert min(gaps) >= 0.2
    assert max(gaps) > 3.0
    assert max(gaps) <= 31.0
    await queue.close()


@pytest.mark.spec("SHC-04")
async def test_an_iterator_that_expired_is_replaced_where_reading_was(clock: Clock) -> None:
    double = KinesisDouble(clock)
    queue = queue_on(double, MemoryShardLeases(clock=clock))
    await queue.add([message("a", clock.now())])
    assert await read(queue, clock, 1.0) == ["a"]
    await clock.sleep(400.0)
    await queue.add([message("b", clock.now())])
    assert ids(await take(queue, lease=9.0)) == ["b"]
    await queue.close()


@pytest.mark.spec("D-65", "SHC-01")
async def test_reading_goes_on_where_everything_had_ended_and_not_where_it_had_come(clock: Clock) -> None:
    double, leases = KinesisDouble(clock), MemoryShardLeases(clock=clock)
    first = queue_on(double, leases)
    await first.add([message(f"{number}", clock.now()) for number in range(10)])
    deliveries = await take(first, lease=9.0)
    await first.ack([it.receipt for it in (*deliveries[:4], *deliveries[6:])])
    await first.close()
    second = queue_on(double, leases)
    again = await take(second, lease=9.0)
    assert ids(again) == ["4", "5", "6", "7", "8", "9"]
    assert {it.crashes for it in again} == {0}
    await second.close()


@pytest.mark.spec("D-66")
async def test_who_reads_on_after_a_death_counts_it(clock: Clock) -> None:
    double, leases = KinesisDouble(clock), MemoryShardLeases(clock=clock)
    first = queue_on(double, leases)
    await first.add([message("a", clock.now()), message("b", clock.now())])
    a, b = await take(first, lease=9.0)
    assert await first.solo([b.receipt]) == []
    assert await first.ack([a.receipt]) == []
    await first.kill()
    second = queue_on(double, leases)
    assert await take(second, lease=9.0) == []
    await clock.sleep(14.0)
    found = {it.message.id: it for it in await take(second, lease=9.0)}
    assert (found["b"].crashes, found["b"].solo_crashes, found["b"].fence) == (1, 1, 2)
    await second.close()


async def test_a_shard_that_is_gone_holds_up_nobody(clock: Clock) -> None:
    double, leases = KinesisDouble(clock), MemoryShardLeases(clock=clock)
    queue = queue_on(double, leases)
    await read(queue, clock, 1.0)
    children = double.split(FIRST)
    double.forget(FIRST)
    await queue.add([message(f"{number}", clock.now()) for number in range(9)])
    assert len(await read(queue, clock, 30.0)) == 9
    assert {row.shard for row in await leases.list("tq:stream")} == set(children)
    await queue.close()


@pytest.mark.spec("D-71")
async def test_an_ended_shard_is_marked_and_its_children_are_read_from_their_beginning(clock: Clock) -> None:
    double, leases = KinesisDouble(clock), MemoryShardLeases(clock=clock)
    queue = queue_on(double, leases, start="LATEST", list_interval=5.0)
    await read(queue, clock, 1.0)
    await queue.add([message("0", clock.now(), lane="L")])
    children = double.split(FIRST)
    await queue.add([message("1", clock.now(), lane="L")])
    (first,) = await take(queue, lease=99.0)
    await clock.sleep(20.0)
    assert await take(queue, lease=99.0) == [], "a child waits for its parent"
    await queue.ack([first.receipt])
    assert await read(queue, clock, 20.0) == ["1"]
    rows = {row.shard: row for row in await leases.list("tq:stream")}
    assert (rows[FIRST].checkpoint, rows[FIRST].owner) == (ENDED, "")
    assert rows[children[0]].parents == (FIRST,)
    await queue.close()


async def test_a_group_that_begins_now_does_not_see_what_was_there(clock: Clock) -> None:
    double = KinesisDouble(clock)
    old = queue_on(double, MemoryShardLeases(clock=clock), group="old")
    await old.add([message("before", clock.now())])
    await clock.sleep(5.0)
    leases = MemoryShardLeases(clock=clock)
    new = queue_on(double, leases, group="new", start="LATEST")
    await read(new, clock, 1.0)
    await new.add([message("after", clock.now())])
    await new.close()
    again = queue_on(double, leases, group="new", start="LATEST")
    assert await read(again, clock, 1.0) == ["after"], "it began when it was first read, not when it is read again"
    assert await read(old, clock, 1.0) == ["before", "after"]
    for queue in (old, again):
        await queue.close()


@pytest.mark.spec("D-75", "KIN-07")
async def test_every_shard_has_its_turn_however_small_the_claims(clock: Clock) -> None:
    double = KinesisDouble(clock, shards=5)
    queue = queue_on(double, MemoryShardLeases(clock=clock))
    await queue.add([message(f"{number}", clock.now()) for number in range(300)])
    await read(queue, clock, 3.0, limit=3)
    assert min(int(view.checkpoint.isdigit()) for view in queue.shards()) == 1
    assert len(queue.shards()) == 5
    await queue.close()


@pytest.mark.spec("KIN-08", "D-73")
async def test_the_end_gives_everything_back_and_may_come_twice(clock: Clock) -> None:
    double, leases = KinesisDouble(clock, shards=3), MemoryShardLeases(clock=clock)
    queue = queue_on(double, leases)
    await read(queue, clock, 1.0)
    for _ in range(2):
        await queue.close()
    assert {row.owner for row in await leases.list("tq:stream")} == {""}
    assert await leases.list("tq:stream/workers") == []
    with pytest.raises(BackendError, match="closed"):
        await take(queue, lease=9.0)


@pytest.mark.spec("D-72")
async def test_leases_that_cannot_be_renewed_for_a_while_are_kept(clock: Clock) -> None:
    double, leases = KinesisDouble(clock), MemoryShardLeases(clock=clock)
    queue, other = queue_on(double, leases), queue_on(double, leases)
    await queue.add([message("a", clock.now())])
    (delivery,) = await take(queue, lease=99.0)
    await take(other, lease=9.0)
    swap, misses = leases.swap, [1, 1]

    async def failing(changes: Any) -> Any:
        if any(seen.owner == queue.worker for seen, _ in changes) and misses:
            misses.pop()
            raise BackendUnavailableError("away")
        return await swap(changes)

    leases.swap = failing  # type: ignore[method-assign]
    await clock.sleep(60.0)
    assert misses == []
    assert await queue.ack([delivery.receipt]) == []
    assert other.shards() == []
    for one in (queue, other):
        await one.close()


async def test_an_answer_about_a_lease_that_was_lost_does_not_lose_the_lease(clock: Clock) -> None:
    double, leases = KinesisDouble(clock), MemoryShardLeases(clock=clock)
    queue = queue_on(double, leases)
    await queue.add([message("a", clock.now())])
    await read(queue, clock, 1.0)
    swap, lost = leases.swap, [1]

    async def forgetful(changes: Any) -> Any:
        answer = await swap(changes)
        if changes[0][0].shard == FIRST and lost:
            lost.pop()
            raise BackendUnavailableError("no answer")
        return answer

    leases.swap = forgetful  # type: ignore[method-assign]
    await clock.sleep(30.0)
    await queue.add([message("b", clock.now())])
    assert await read(queue, clock, 1.0) == ["b"]
    assert lost == []
    await queue.close()
    (row,) = await leases.list("tq:stream")
    assert row.checkpoint.isdigit()


@pytest.mark.spec("SHC-02", "D-70")
async def test_who_cannot_renew_for_a_lease_stops_by_itself(clock: Clock) -> None:
    double, leases = KinesisDouble(clock), MemoryShardLeases(clock=clock)
    queue = queue_on(double, leases)
    await queue.add([message(f"{number}", clock.now()) for number in range(3)])
    (first,) = await take(queue, 1, lease=99.0)
    swap, away = leases.swap, True

    async def failing(changes: Any) -> Any:
        if away:
            raise BackendUnavailableError("away")
        return await swap(changes)

    leases.swap = failing  # type: ignore[method-assign]
    await clock.sleep(9.0)
    assert (await queue.renew([first.receipt], 99.0)).lost == ()
    await clock.sleep(1.5)
    assert (await queue.renew([first.receipt], 99.0)).lost == (first.receipt,)
    assert await queue.ack([first.receipt]) == [first.receipt]
    assert await take(queue, lease=99.0) == []
    away = False
    await clock.sleep(10.0)
    found = {it.message.id: it.crashes for it in await take(queue, lease=99.0)}
    assert found == {"0": 1, "1": 1, "2": 1}
    await queue.close()
