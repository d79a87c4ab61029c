"""What is added arrives, in order per key, whatever the stream does with it at first."""

from random import Random
from typing import Any

import pytest

from tests.adapters.kinesis_double import KinesisDouble, refusal
from tq.clock import Clock
from tq.errors import BackendUnavailableError, ContentRefusedError
from tq.memory import MemoryShardLeases
from tq.model import Message
from tq.testing.contracts.values import message, take
from tq_kinesis import Aimd, KinesisQueue


def queue_on(double: KinesisDouble, clock: Clock, **options: Any) -> KinesisQueue:
    leases = MemoryShardLeases(clock=clock)
    strategy = Aimd(clock, min_batch=500)
    return KinesisQueue("stream", leases=leases, client=double, clock=clock, strategy=strategy, **options)


async def read(queue: KinesisQueue, clock: Clock) -> list[Message]:
    """Take everything there is."""
    got: list[Message] = []
    while deliveries := await take(queue, 1000, lease=100.0):
        got += [it.message for it in deliveries]
        await queue.ack([it.receipt for it in deliveries])
        await clock.sleep(0.3)
    return got


@pytest.mark.spec("KIN-02", "D-74")
@pytest.mark.parametrize("seed", range(5))
async def test_order_per_key_survives_records_that_are_not_taken_at_first(clock: Clock, seed: int) -> None:
    double, chance = KinesisDouble(clock, shards=3), Random(seed)
    double.dropped = lambda _: chance.random() < 0.4
    queue = queue_on(double, clock, attempts=60, record_size=2000)
    sent = [
        message(f"{number:03}", clock.now(), lane=chance.choice(["a", "b", ""]), body=b"x" * 300)
        for number in range(60)
    ]
    for start in range(0, 60, 20):
        await queue.add(sent[start : start + 20])
    got = await read(queue, clock)
    assert sorted(it.id for it in got) == [it.id for it in sent]
    for lane in "ab":
        assert [it.id for it in got if it.lane == lane] == [it.id for it in sent if it.lane == lane]
    await queue.close()


@pytest.mark.spec("KIN-02")
async def test_only_what_failed_is_sent_again_and_success_stops_at_once(clock: Clock) -> None:
    double, refused = KinesisDouble(clock), [b"x"]
    double.dropped = lambda it: it["PartitionKey"] == "b" and bool(refused) and bool(refused.pop())
    queue = queue_on(double, clock)
    await queue.add([message(name, clock.now()) for name in "abc"])
    assert [[it["PartitionKey"] for it in request] for request in double.requests] == [["a", "b", "c"], ["b"]]
    await queue.close()


@pytest.mark.spec("KIN-03")
async def test_what_never_arrives_is_said_with_how_many_where_and_why(clock: Clock) -> None:
    double = KinesisDouble(clock)
    double.dropped = lambda it: it["PartitionKey"] in {"a", "c"}
    queue = queue_on(double, clock, attempts=3)
    with pytest.raises(BackendUnavailableError, match=r"^2 messages .*stream stream .*3 attempts: Provisioned") as told:
        await queue.add([message(name, clock.now()) for name in "abc"])
    assert told.type is not BackendUnavailableError
    assert len(double.requests) == 3
    await queue.close()


@pytest.mark.spec("D-74")
async def test_a_request_whose_answer_is_lost_is_sent_again(clock: Clock) -> None:
    double, faults = KinesisDouble(clock), [refusal("InternalFailure", status=500), ConnectionResetError("gone")]
    double.fault = lambda call, _: faults.pop() if call == "put_records" and faults else None
    queue = queue_on(double, clock)
    await queue.add([message("a", clock.now())])
    assert [it.id for it in await read(queue, clock)] == ["a"]
    await queue.close()


@pytest.mark.spec("D-74")
async def test_requests_stay_within_the_limits_of_the_service(clock: Clock) -> None:
    double = KinesisDouble(clock)
    queue = queue_on(double, clock)
    await queue.add([message(f"{number}", clock.now()) for number in range(1201)])
    assert [len(request) for request in double.requests] == [500, 500, 201]
    await queue.add([message(f"large-{number}", clock.now(), body=b"x" * 900_000) for number in range(7)])
    assert [len(request) for request in double.requests[3:]] == [5, 2]
    await queue.close()


async def test_of_a_call_with_something_that_is_refused_nothing_is_sent(clock: Clock) -> None:
    double = KinesisDouble(clock)
    queue = queue_on(double, clock)
    with pytest.raises(ContentRefusedError, match="task big"):
        await queue.add([message("a", clock.now()), message("big", clock.now(), body=b"x" * 2_000_000)])
    assert double.requests == []
    await queue.close()


@pytest.mark.spec("KIN-01", "D-81")
async def test_a_key_of_the_users_own_gives_order(clock: Clock) -> None:
    double = KinesisDouble(clock, shards=4)

    def by_type(it: Message) -> str:
        return it.type

    queue = queue_on(double, clock, default_key=by_type)
    await queue.add([message(f"{number:02}", clock.now(), type="uv"[number % 2]) for number in range(30)])
    assert {it["PartitionKey"] for request in double.requests for it in request} == {"u", "v"}
    got = await read(queue, clock)
    assert [it.id for it in got if it.type == "u"] == [f"{number:02}" for number in range(0, 30, 2)]
    assert {it.lane for it in got} == {"stream:u", "stream:v"}
    await queue.close()


@pytest.mark.spec("D-81")
async def test_tasks_without_a_key_are_spread(clock: Clock) -> None:
    double = KinesisDouble(clock, shards=4)
    queue = queue_on(double, clock)
    await queue.add([message(f"{number}", clock.now()) for number in range(400)])
    assert min(len(shard.records) for shard in double.shards.values()) > 50
    await queue.close()
