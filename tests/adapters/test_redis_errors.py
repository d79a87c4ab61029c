"""What Redis refuses reaches the caller as an error of tq that names the server and the way out, and no password."""

import inspect
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from redis import exceptions

from tests.adapters.redis_servers import raw, server_in, servers_folder
from tq.clock import Clock
from tq.errors import (
    BackendError,
    BackendUnavailableError,
    ContentRefusedError,
    DatabaseFullError,
    ForeignDatabaseError,
    ReadOnlyDatabaseError,
)
from tq.model import (
    Batch,
    Chunk,
    Claim,
    Effects,
    Flow,
    Mark,
    Message,
    Outgoing,
    Projection,
    Rearm,
    Record,
    Remove,
    Reopen,
    Settlement,
    StepStatus,
    TaskStatus,
)
from tq_redis import RedisBackend, open_backend
from tq_redis.errors import ERRORS, mapped


def message(id: str, body: bytes = b"{}", run_at: float = 0.0) -> Message:
    return Message(id, "q", "t", body, run_at)


@asynccontextmanager
async def opened(url: str, clock: Clock) -> AsyncGenerator[RedisBackend, None]:
    backend = open_backend(url, clock=clock)
    try:
        yield backend
    finally:
        await backend.close()


def snapshot(client: Any, root: str) -> dict[bytes, bytes]:
    """Return everything under a name, as the server would write it down."""
    return {name: client.dump(name) for name in client.keys(f"{root}:*") if b":answer:" not in name}


def test_every_exception_of_the_driver_is_mapped() -> None:
    """A new redis-py with a new exception fails here, not at a user's."""
    told_by_words = {
        *("RedisError", "ResponseError", "ModuleError", "NoSuchFieldsetError", "ExecAbortError"),
        "NoScriptError",  # never leaves the server: the script is then sent whole
        "ClusterCrossSlotError",  # all keys of a namespace have one slot
        *("PubSubError", "WatchError", "LockError", "LockNotOwnedError"),  # of what is not used here
        *("ChildDeadlockedError", "IncorrectPolicyType"),
    }
    errors = {name: it for name, it in vars(exceptions).items() if inspect.isclass(it) and issubclass(it, Exception)}
    unmapped = {name for name, error in errors.items() if not any(issubclass(error, wrong) for wrong, _ in ERRORS)}
    assert {"ConnectionError", "ReadOnlyError", "ClusterDownError"} <= set(errors)
    assert unmapped - told_by_words == set()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (exceptions.ConnectionError("refused"), BackendUnavailableError),
        (exceptions.TimeoutError("slow"), BackendUnavailableError),
        (exceptions.BusyLoadingError("Redis is loading the dataset in memory"), BackendUnavailableError),
        (exceptions.ClusterDownError("CLUSTERDOWN The cluster is down"), BackendUnavailableError),
        (exceptions.ResponseError("BUSY Redis is busy running a script"), BackendUnavailableError),
        (exceptions.ResponseError("NOREPLICAS Not enough good replicas to write."), BackendUnavailableError),
        (ConnectionResetError("by peer"), BackendUnavailableError),
        (exceptions.ReadOnlyError("You can't write against a read only replica."), ReadOnlyDatabaseError),
        (exceptions.ResponseError("MISCONF Redis is configured to save RDB snapshots"), ReadOnlyDatabaseError),
        (exceptions.OutOfMemoryError("command not allowed"), DatabaseFullError),
        (exceptions.ResponseError("OOM command not allowed when used memory > 'maxmemory'."), DatabaseFullError),
        (exceptions.ResponseError("WRONGTYPE Operation against a key"), ForeignDatabaseError),
        (exceptions.DataError("invalid input of type"), ContentRefusedError),
        (exceptions.NoPermissionError("this user has no permissions"), BackendError),
        (exceptions.ResponseError("ERR something new"), BackendError),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, Exception) else value.__name__,
)
def test_an_error_keeps_its_cause_and_names_the_server(error: Exception, kind: type[BackendError]) -> None:
    with pytest.raises(BackendError, match="Redis at host:1") as raised, mapped("Redis at host:1"):
        raise error
    assert type(raised.value) is kind
    assert raised.value.__cause__ is error


async def everything(backend: RedisBackend, now: float) -> Batch:
    """Return a batch that writes to every key there is."""
    await backend.queue.add([message(name) for name in ("a", "b", "c", "d")])
    first, second, third = (await backend.queue.claim(Claim(("q",), 3, "w:1", 100.0))).deliveries
    await backend.queue.cancel(["b"])
    flow = Flow(id="f", total=2, allowed=1, needed=2, join=message("f.join"), started_at=now, deadline=now + 9)
    effects = Effects(
        messages=(message("child")._replace(lane="L"),),
        records=(Record("a", "q", "t", TaskStatus.FAILED, now, now + 60, dead=True, body=b"{}"),),
        flows=(flow,),
        marks=(Mark("f", 0, StepStatus.SUCCESS, result=b"x" * 100),),
        projections=(Projection("a", "i", "Item", "t", "q", TaskStatus.FAILED, 2, now, now),),
        chunks=(Chunk("plan", 0, (message("p.0"),), now),),
        outgoing=(Outgoing("topic", "note", b"{}"),),
    )
    await backend.commit(Batch(solo=[third.receipt]))
    endings = [Settlement(first.receipt, Remove(), effects), Settlement(second.receipt, Rearm(now, 1, b""))]
    return Batch(endings)


async def test_a_key_of_a_wrong_type_is_seen_before_anything_is_written(redis_url: str, clock: Clock) -> None:
    """A script that fails half-way leaves what it has written: so it looks at everything first."""
    client = raw(redis_url)
    async with opened(redis_url, clock) as backend:
        batch, claim = await everything(backend, clock.now()), Claim(("q",), 5, "w:9", 100.0)
        root = backend.settings.root
        async with opened(redis_url.replace("namespace=", "namespace=probe-"), clock) as probe:
            await probe.commit(await everything(probe, clock.now()), claim)
            probed = client.keys(f"{probe.settings.root}:*")
        kinds = {name.decode().partition("}")[2]: client.type(name) for name in probed}
        names = {name: kind for name, kind in kinds.items() if not name.startswith((":answer:", ":layout"))}
        assert len(names) > 30, names
        for name, kind in sorted(names.items()):
            kept = client.dump(root + name)
            client.delete(root + name)
            if kind == b"string":
                client.lpush(root + name, "somebody's")
            else:
                client.set(root + name, "somebody's")
            before = snapshot(client, root)
            with pytest.raises(ForeignDatabaseError, match="another program"):
                await backend.commit(batch, claim)
            assert snapshot(client, root) == before, name
            client.delete(root + name)
            if kept is not None:
                client.restore(root + name, 0, kept)
        assert (await backend.commit(batch, claim)).refused == []
    client.close()


async def test_a_full_server_says_so_and_loses_nothing(redis_url: str, clock: Clock) -> None:
    with servers_folder() as path, server_in(path) as address:
        async with opened(f"redis://{address}", clock) as backend:
            batch = await everything(backend, clock.now())
            with raw(f"redis://{address}") as client:
                client.config_set("maxmemory", "1mb")
                before = snapshot(client, "{tq}")
                with pytest.raises(DatabaseFullError, match=f"{address}.*raise its maxmemory"):
                    await backend.queue.add([message("e")])
                assert snapshot(client, "{tq}") == before
                client.config_set("maxmemory", "0")
            assert (await backend.commit(batch)).refused == []


async def test_a_server_that_became_a_replica_says_so(clock: Clock) -> None:
    with servers_folder() as path, server_in(path) as address, servers_folder() as other, server_in(other) as primary:
        async with opened(f"redis://{address}", clock) as backend:
            with raw(f"redis://{address}") as client:
                client.replicaof(*primary.split(":"))
                with pytest.raises(ReadOnlyDatabaseError, match=f"{address}.*name the primary"):
                    await backend.queue.add([message("a")])
                client.replicaof("NO", "ONE")
            assert await backend.queue.add([message("a")]) == []


@pytest.mark.parametrize(
    "wrong",
    [
        message("\ud800"),
        message("a", run_at=float("nan")),
        message("a")._replace(attempt=-1),
        message("a")._replace(generation=1 << 40),
        message("a")._replace(lane="\udfff"),
    ],
    ids=["id", "run_at", "attempt", "generation", "lane"],
)
async def test_a_value_that_cannot_be_kept_is_refused(redis_url: str, clock: Clock, wrong: Message) -> None:
    async with opened(redis_url, clock) as backend:
        with pytest.raises(ContentRefusedError, match="cannot hold this value"):
            await backend.queue.add([message("b"), wrong])
        assert await backend.queue.counts() == {}


NAN = float("nan")


def no_numbers(now: float) -> Mapping[str, Effects]:
    """Return effects in which one number is none."""
    flow = Flow(id="g", total=1, allowed=0, needed=1, join=message("g.join"), started_at=now)
    record = Record("z", "q", "t", TaskStatus.EXECUTED, now, now + 60)
    row = Projection("z", "i", "Item", "t", "q", TaskStatus.EXECUTED, 2, now, now)
    return {
        "message": Effects(messages=(message("z", run_at=NAN),)),
        "record": Effects(records=(record._replace(expires_at=NAN),)),
        "start": Effects(flows=(replace(flow, started_at=NAN),)),
        "deadline": Effects(flows=(replace(flow, deadline=NAN),)),
        "row": Effects(projections=(row._replace(updated_at=NAN),)),
        "chunk": Effects(chunks=(Chunk("z", 0, (), NAN),)),
        "reopen": Effects(reopens=(Reopen(flow_id="f", generation=1, join=message("f.join.1"), at=NAN),)),
    }


@pytest.mark.parametrize("wrong", [*no_numbers(0.0), "rearm", "lease"])
async def test_what_is_no_number_is_refused_before_anything_is_written(
    redis_url: str, clock: Clock, wrong: str
) -> None:
    async with opened(redis_url, clock) as backend:
        now = clock.now()
        await backend.queue.add([message("a"), message("b")])
        first, second = (await backend.queue.claim(Claim(("q",), 2, "w:1", 100.0))).deliveries
        effects = no_numbers(now).get(wrong, Effects())
        again = Rearm(NAN if wrong == "rearm" else now, 1, b"")
        batch = Batch([Settlement(first.receipt, Remove(), effects), Settlement(second.receipt, again)])
        client = raw(redis_url)
        before = snapshot(client, backend.settings.root)
        with pytest.raises(ContentRefusedError):
            await backend.commit(batch, Claim(("q",), 2, "w:2", NAN if wrong == "lease" else 100.0))
        assert snapshot(client, backend.settings.root) == before
        client.close()
