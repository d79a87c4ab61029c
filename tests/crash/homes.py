"""Where a run keeps what survives its processes. A backend is one more function, and one more line in `HOMES`."""

from __future__ import annotations

import os
import random
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.adapters.kinesis_double import KinesisDouble
from tests.unit.runner.servers import LimitedQueue
from tq.app.parts import assemble
from tq.clock import Clock
from tq.memory import (
    MemoryBackend,
    MemoryBarrier,
    MemoryProjections,
    MemoryQueue,
    MemoryShardLeases,
    MemoryStore,
)
from tq.model import State, Whereabouts
from tq.ports import Backend, EntityProjectionProvider, MessageQueue, ProjectionQuery
from tq.testing import Faults
from tq_kinesis import KinesisQueue
from tq_kinesis.packing import unpack
from tq_kinesis.position import up_to
from tq_mongo import MongoBackend
from tq_redis import RedisBackend
from tq_sqlite import SqliteBackend, SqliteSettings

__all__ = ["EVERY", "HOMES", "Home"]

Parts = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Home:
    """The servers of one run."""

    parts: Callable[[Faults], Parts]
    """Connects a process to them: what it gives to `TaskHandler`, each wrapped with the process's faults."""
    backend: Backend
    """Reads and writes without faults, for whoever looks on."""
    rows: ProjectionQuery | None = None
    """The user's own provider of rows, where there is one."""
    close: Callable[[], Awaitable[None]] | None = None


def memory(clock: Clock, _: Path) -> Home:
    backend = MemoryBackend(clock=clock)

    def parts(faults: Faults) -> Parts:
        return parts_of(faults.backend(backend))

    return Home(parts=parts, backend=backend)


def sqlite(clock: Clock, folder: Path) -> Home:
    """One file; every process opens it anew."""
    path = folder / f"{random.getrandbits(64):x}.db"
    every: list[SqliteBackend] = []

    def opened() -> SqliteBackend:
        every.append(SqliteBackend(SqliteSettings(path=str(path), synchronous="OFF", poll_interval=1.0), clock))
        return every[-1]

    def parts(faults: Faults) -> Parts:
        return parts_of(faults.backend(opened()))

    async def close() -> None:
        for backend in every:
            await backend.close()

    return Home(parts=parts, backend=opened(), close=close)


def redis(clock: Clock, _: Path) -> Home:
    """A namespace of the server that `TQ_TEST_REDIS_URL` names; every process connects anew."""
    url = f"{os.environ['TQ_TEST_REDIS_URL']}?namespace=tq-{uuid.uuid4().hex}"
    every: list[RedisBackend] = []

    def opened() -> RedisBackend:
        every.append(RedisBackend.open(url, clock=clock))
        return every[-1]

    def parts(faults: Faults) -> Parts:
        return parts_of(faults.backend(opened()))

    async def close() -> None:
        for backend in every:
            await backend.close()

    return Home(parts=parts, backend=opened(), close=close)


def mongo(clock: Clock, _: Path) -> Home:
    """A namespace of the server that `TQ_TEST_MONGO_URL` names, or of the emulator; every process connects anew.

    A commit is several writes there: what is struck is not the port's verb but each command that is sent for it.
    """
    url = os.environ["TQ_TEST_MONGO_URL"]
    url += f"{'&' if '?' in url else '/?'}namespace=tq-{uuid.uuid4().hex}"
    every: list[MongoBackend] = []

    def opened() -> MongoBackend:
        every.append(MongoBackend.open(url, clock=clock))
        return every[-1]

    def parts(faults: Faults) -> Parts:
        return parts_of(strike_commands(opened(), faults))

    async def close() -> None:
        for backend in every:
            await backend.close()

    return Home(parts=parts, backend=opened(), close=close)


def strike_commands(backend: MongoBackend, faults: Faults) -> MongoBackend:
    """Let every command of a backend be a call of this process."""

    def struck(name: str, verb: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def command(*args: Any, **kwargs: Any) -> Any:
            return await faults.call(name, verb, args, kwargs)

        return command

    for name, table in backend.tables.items():
        for verb in ("find", "insert", "write", "update", "delete", "reserve"):
            setattr(table, verb, struck(f"{name}.{verb}", getattr(table, verb)))
    return backend


def servers(clock: Clock, _: Path) -> Home:
    """Queue, store, flows and rows on a server each."""
    queue = MemoryQueue(clock=clock)
    return apart(clock, lambda _: queue)


def stream(clock: Clock, _: Path) -> Home:
    """The same, and the queue can neither delay nor re-arm, and delivers again what was acknowledged."""
    queue = LimitedQueue(MemoryQueue(clock=clock), clock, random.Random(7))
    return apart(clock, lambda _: queue)


def kinesis(clock: Clock, _: Path) -> Home:
    """A stream beside servers of their own: every process reads shards, until it dies or they are taken from it."""
    double, leases = KinesisDouble(clock, shards=2), MemoryShardLeases(clock=clock)
    every: list[KinesisQueue] = []

    def opened(faults: Faults) -> KinesisQueue:
        calls = Faults()  # none of these is struck, but a dead process makes none of them
        calls.death = faults.death
        made = KinesisQueue(
            "stream", leases=calls.port("leases", leases), client=calls.port("client", double), clock=clock, lease=6.0
        )
        every.append(made)
        return made

    async def close() -> None:
        for queue in every:
            await queue.kill()

    return apart(clock, opened, onlooker=StreamOnlooker(double, leases, clock), close=close)


class StreamOnlooker(MemoryQueue):
    """Tells of all that stands in the shards behind their checkpoints, whoever reads it."""

    def __init__(self, double: KinesisDouble, leases: MemoryShardLeases, clock: Clock) -> None:
        super().__init__(clock=clock)
        self._double = double
        self._leases = leases

    async def _standing(self) -> dict[str, Whereabouts]:
        places = {row.shard: row.checkpoint for row in await self._leases.list("tq:stream")}
        return {
            it.id: Whereabouts(it.id, it.queue, it.type, State.WAITING, it.run_at, it.generation, it.attempt)
            for shard in self._double.shards.values()
            for record in shard.records
            if not up_to(str(record.number), places.get(shard.id, ""))
            for it in unpack(record.data).messages
        }

    async def list(self, queue: str | None, after: str, limit: int) -> Sequence[Whereabouts]:
        found = await self._standing()
        return [found[id] for id in sorted(found) if id > after and queue in {None, found[id].queue}][:limit]

    async def counts(self) -> Mapping[str, Mapping[str, int]]:
        return {"": {"waiting": len(await self._standing())}}


def apart(
    clock: Clock,
    queue: Callable[[Faults], Any],
    *,
    onlooker: MessageQueue | None = None,
    close: Callable[[], Awaitable[None]] | None = None,
) -> Home:
    """Put every part on a server of its own; `queue` connects a process to it."""
    store, barrier, rows = MemoryStore(clock=clock), MemoryBarrier(clock=clock), MemoryProjections(clock=clock)

    def parts(faults: Faults) -> Parts:
        return {
            "queue": faults.queue(queue(faults)),
            "store": faults.store(store),
            "barrier": faults.barrier(barrier),
            "projections": faults.projections(rows),
        }

    seen = parts(Faults())
    if onlooker is not None:
        seen["queue"] = onlooker
    return Home(parts=parts, backend=plain(clock, seen), rows=rows, close=close)


def kept(clock: Clock, folder: Path) -> Home:
    """A queue in memory, all else in a SQLite file."""
    queue, inner = MemoryQueue(clock=clock), sqlite(clock, folder)

    def parts(faults: Faults) -> Parts:
        return {**inner.parts(faults), "queue": faults.queue(queue)}

    backend = plain(clock, {**parts_of(inner.backend), "queue": queue})
    return Home(parts=parts, backend=backend, close=inner.close)


def parts_of(backend: Backend) -> Parts:
    return {
        "queue": backend.queue,
        "store": backend.store,
        "barrier": backend.barrier,
        "projections": backend.projections,
    }


def plain(clock: Clock, parts: Parts) -> Backend:
    """Return the backend that a handler makes of these parts."""
    projections: EntityProjectionProvider | None = parts["projections"]
    backend, _ = assemble(
        queue=parts["queue"], store=parts["store"], barrier=parts["barrier"], projections=projections, clock=clock
    )
    return backend


HOMES: dict[str, Callable[[Clock, Path], Home]] = {
    "memory": memory,
    "sqlite": sqlite,
    "redis": redis,
    "mongo": mongo,
    "servers": servers,
    "stream": stream,
    "memory+sqlite": kept,
}

EVERY = HOMES | {"kinesis": kinesis}
"""Those, too, that do not promise all that a scenario may ask for: the report leaves them out."""
