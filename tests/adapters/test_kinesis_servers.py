"""Against servers that speak the protocol: clients of every kind, shards that split and merge, faults on the way."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any, cast

import pytest

from tq import Backoff, Entity, Task, TaskHandler, TaskQueuesManager, connect
from tq.clock import Clock
from tq.errors import BackendError, BackendUnavailableError
from tq.memory import MemoryBackend, MemoryShardLeases
from tq.ports import ShardLeases
from tq.testing.contracts.values import ids, message, take
from tq_kinesis import KinesisQueue
from tq_kinesis.position import ENDED

pytestmark = pytest.mark.realtime

get_session: Any = import_module("aiobotocore.session").get_session  # neither carries types
aioboto3: Any = import_module("aioboto3")

ACCESS = {"aws_access_key_id": "100000000001", "aws_secret_access_key": "unspoken", "region_name": "us-east-1"}


@pytest.fixture(params=["kinesis_server", "kinesalite_server"])
def server(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(request.param)
    return url


@asynccontextmanager
async def client_of(url: str, **access: str) -> AsyncGenerator[Any, None]:
    session: Any = get_session()
    names = {"region_name": "us-east-1"} | ACCESS | access
    async with session.create_client("kinesis", endpoint_url=url, **names) as client:
        yield client


async def active(client: Any, stream: str) -> None:
    """Wait until a stream is as it was asked to be."""
    while True:
        summary = (await client.describe_stream_summary(StreamName=stream))["StreamDescriptionSummary"]
        if summary["StreamStatus"] == "ACTIVE":
            return
        await asyncio.sleep(0.02)


@asynccontextmanager
async def stream_on(client: Any, shards: int = 1) -> AsyncGenerator[str, None]:
    name = f"tq-{uuid.uuid4().hex}"
    await client.create_stream(StreamName=name, ShardCount=shards)
    await active(client, name)
    yield name
    await client.delete_stream(StreamName=name)


def queue_on(stream: str, leases: MemoryShardLeases, **options: Any) -> KinesisQueue:
    return KinesisQueue(stream, leases=leases, read_interval=0.02, lease=3.0, **options)


async def taken(queue: KinesisQueue, count: int) -> list[str]:
    """Claim and acknowledge until so many have come."""
    got: list[str] = []
    while len(got) < count:
        deliveries = await take(queue, lease=30.0)
        got += ids(deliveries)
        assert await queue.ack([it.receipt for it in deliveries]) == []
        await asyncio.sleep(0.01)
    return got


@pytest.mark.parametrize("kind", ["client", "aiobotocore", "aioboto3"])
async def test_every_kind_of_client_does(server: str, clock: Clock, kind: str) -> None:
    async with client_of(server) as client, stream_on(client, shards=2) as stream:
        leases = MemoryShardLeases(clock=clock)
        aio: Any = get_session()
        aio.set_credentials(ACCESS["aws_access_key_id"], ACCESS["aws_secret_access_key"])
        options: dict[str, Any] = {
            "client": {"client": client},
            "aiobotocore": {"session": aio, "endpoint": server, "region": "us-east-1"},
            "aioboto3": {"session": aioboto3.Session(**ACCESS), "endpoint": server, "region": "us-east-1"},
        }[kind]
        queue = queue_on(stream, leases, **options)
        sent = [
            message(f"{number}", clock.now(), lane="ab"[number % 2], body=bytes(range(256))) for number in range(20)
        ]
        await queue.add(sent)
        got = await taken(queue, 20)
        assert [it for it in got if int(it) % 2 == 0] == [f"{number}" for number in range(0, 20, 2)]
        assert [it for it in got if int(it) % 2] == [f"{number}" for number in range(1, 20, 2)]
        await queue.close()
        assert {row.owner for row in await leases.list(f"tq:{stream}")} == {""}
        await client.describe_stream_summary(StreamName=stream)


async def test_order_holds_through_a_split_and_a_merge(kinesis_server: str, clock: Clock) -> None:
    async with client_of(kinesis_server) as client, stream_on(client, shards=2) as stream:
        leases = MemoryShardLeases(clock=clock)
        store = MemoryBackend(clock=clock)
        executors, done, everything = TaskQueuesManager(), dict[str, list[int]](), asyncio.Event()

        @executors.task("step")
        async def step(at: tuple[str, int]) -> None:
            done.setdefault(at[0], []).append(at[1])
            if sum(map(len, done.values())) == 120:
                everything.set()

        queues = [queue_on(stream, leases, client=client) for _ in range(2)]
        handlers = [
            TaskHandler(queue=queue, store=store.store, barrier=store.barrier, executors=executors, clock=clock)
            for queue in queues
        ]
        for handler in handlers:
            await handler.start()
        changes: list[Callable[[], Any]] = [
            lambda: client.split_shard(
                StreamName=stream, ShardToSplit="shardId-000000000000", NewStartingHashKey=str(1 << 126)
            ),
            lambda: client.merge_shards(
                StreamName=stream, ShardToMerge="shardId-000000000003", AdjacentShardToMerge="shardId-000000000001"
            ),
        ]
        for number in range(12):
            tasks = [Task(type="step", payload=(f"e{it}", number), entity=Entity("E", f"e{it}")) for it in range(10)]
            await handlers[number % 2].add_tasks(tasks)
            if number in {4, 8}:
                await changes.pop(0)()
                await active(client, stream)
        await everything.wait()
        assert done == {f"e{it}": list(range(12)) for it in range(10)}
        rows = await leases.list(f"tq:{stream}")
        while sum(row.checkpoint == ENDED for row in rows) < 3:
            await asyncio.sleep(0.05)
            rows = await leases.list(f"tq:{stream}")
        assert {row.shard[-1] for row in rows if row.checkpoint == ENDED} == set("013")
        for handler, queue in zip(handlers, queues, strict=True):
            await handler.stop()
            await queue.close()


async def test_faults_at_the_hook_of_the_client_are_waited_out(kinesalite_server: str, clock: Clock) -> None:
    async with client_of(kinesalite_server) as client, stream_on(client) as stream:
        queue = queue_on(stream, MemoryShardLeases(clock=clock), client=client)
        codes = ["ProvisionedThroughputExceededException", "ExpiredIteratorException", "InternalFailure"]
        seen: list[str] = []

        def fault(**_: Any) -> Any:
            if not codes:
                return None
            seen.append(codes.pop())
            answer = type("Answer", (), {"status_code": 400, "headers": dict[str, str]()})()
            return answer, {"Error": {"Code": seen[-1], "Message": ""}, "ResponseMetadata": {}}

        client.meta.events.register_first("before-call.kinesis.GetRecords", fault)
        await queue.add([message(f"{number}", clock.now()) for number in range(5)])
        assert sorted(await taken(queue, 5)) == list("01234")
        assert len(seen) == 3
        await queue.close()


async def test_what_is_wrong_is_said_with_the_stream_and_without_secrets(server: str, clock: Clock) -> None:
    async with client_of(server) as client:
        queue = queue_on("nowhere", MemoryShardLeases(clock=clock), client=client)
        with pytest.raises(BackendError, match=r"Kinesis stream nowhere .* is not there") as told:
            await queue.add([message("a", clock.now())])
        assert "unspoken" not in str(told.value)
        with pytest.raises(BackendError, match="is not there"):
            await take(queue, lease=10.0)
        await queue.close()


async def test_a_server_that_is_away_is_named(clock: Clock) -> None:
    leases = MemoryShardLeases(clock=clock)
    session = aioboto3.Session(**ACCESS)
    options: dict[str, Any] = {"endpoint": "http://127.0.0.1:9", "region": "us-east-1", "attempts": 1}
    queue = queue_on("orders", leases, session=session, **options)
    with pytest.raises(BackendUnavailableError, match=r"orders at http://127\.0\.0\.1:9"):
        await queue.add([message("a", clock.now())])
    await queue.close()


async def test_a_url_and_a_store_are_all_it_takes(
    kinesalite_server: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS["aws_access_key_id"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", ACCESS["aws_secret_access_key"])
    executors, done = TaskQueuesManager(), asyncio.Event()

    @executors.task("step")
    async def step() -> None:
        done.set()

    async with client_of(kinesalite_server) as client, stream_on(client) as stream:
        url = f"kinesis://{stream}?region=us-east-1&endpoint={kinesalite_server}&read_interval=0.02"
        async with TaskHandler.connect(url, executors, store="memory://") as handler:
            await handler.add_tasks([Task(type="step")])
            await handler.start()
            await done.wait()


async def test_beside_redis_what_a_killed_worker_had_is_run_by_another(
    kinesis_server: str, redis_url: str, clock: Clock
) -> None:
    redis = connect(redis_url, clock=clock)
    executors, done, everything = TaskQueuesManager(), set[int](), asyncio.Event()

    @executors.task("step", retries=3, backoff=Backoff(base=0.1))
    async def step(number: int) -> None:
        await asyncio.sleep(0.02)
        if number % 7 == 0 and number not in failed:
            failed.add(number)
            raise RuntimeError("once")
        done.add(number)
        if len(done) == 120:
            everything.set()

    failed = set[int]()
    async with client_of(kinesis_server) as client, stream_on(client, shards=3) as stream:
        leases = cast("ShardLeases", vars(redis)["shards"])
        queues = [KinesisQueue(stream, leases=leases, client=client, lease=2.0, read_interval=0.05) for _ in range(2)]
        handlers = [
            TaskHandler(queue=queue, store=redis.store, barrier=redis.barrier, executors=executors, clock=clock)
            for queue in queues
        ]
        for handler in handlers:
            await handler.start()
        for start in range(0, 120, 40):
            numbers = range(start, start + 40)
            tasks = [Task(type="step", payload=number, partition_key=f"k{number % 20}") for number in numbers]
            await handlers[1].add_tasks(tasks)
        await asyncio.sleep(0.3)
        await handlers[0].kill()
        await queues[0].kill()
        await everything.wait()
        await handlers[1].stop()
        await queues[1].close()
        rows = await leases.list(f"tq:{stream}")
        assert {row.owner for row in rows} == {""}
        assert await redis.store.counts() == {}
    await redis.close()
