"""What a backlog costs: the server's CPU per due task, beside a million tasks that wait and 100,000 open flows.

    python -m bench.backlog redis|postgres [--waiting 1000000] [--flows 100000] [--tasks 20000] [--repeat 5]

Two namespaces of one server, one of them empty, the other one full, are measured in turn: so many due tasks are added,
then claimed and acknowledged in hops of a hundred. CPU is that of all processes of the server, as the system counts it
(Linux). The server is the one that TQ_TEST_REDIS_URL or TQ_TEST_POSTGRES_URL names, if it runs here, or a private one.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import asyncpg
import redis as redis_py

from tests import servers
from tests.crash.struck import descendants
from tq import connect
from tq.clock import SystemClock
from tq.ids import new_id
from tq.model import Batch, Claim, Effects, Flow, Message, Remove, Settlement
from tq.ports import Backend

BODY = b'{"v":1,"id":"%s","type":"work","payload":{"a":12345,"b":"%s"}}' % (b"x" * 26, b"y" * 100)
PORTION = 1000
HOP = 100
TICK = os.sysconf("SC_CLK_TCK")
TOKENS = count()


def messages(many: int, run_at: float) -> list[Message]:
    return [Message(new_id(run_at), "default", "work", BODY, run_at) for _ in range(many)]


def flows(many: int, now: float) -> tuple[Flow, ...]:
    join = Message("", "default", "join", BODY, now)
    made: list[Flow] = []
    for _ in range(many):
        id = new_id(now)
        made.append(
            Flow(
                id=id,
                total=20,
                allowed=20,
                needed=20,
                join=join._replace(id=f"{id}.join"),
                started_at=now,
                deadline=now + 86_400.0,
            )
        )
    return tuple(made)


async def fill(backend: Backend, waiting: int, open_flows: int) -> None:
    now = time.time()
    for _ in range(0, waiting, PORTION):
        await backend.queue.add(messages(PORTION, now + 3600.0))
    for _ in range(0, open_flows, PORTION):
        await backend.commit(Batch(effects=[Effects(flows=flows(PORTION, now))]))


async def drain(backend: Backend, tasks: int) -> None:
    """Claim and acknowledge what is due, and check that it was all there is."""
    done, ready = 0, list[Settlement]()
    while True:
        hop = await backend.commit(Batch(ready), Claim(("default",), HOP, f"bench:{next(TOKENS)}", 60.0))
        assert not hop.refused
        done += len(ready)
        if not hop.deliveries:
            break
        ready = [Settlement(delivery.receipt, Remove()) for delivery in hop.deliveries]
    assert done == tasks


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])


def cpu_of(server: int) -> float:
    """Return the CPU seconds of a server's processes, those that have ended included."""
    total = 0
    for pid in (server, *descendants(server)):
        try:
            words = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile, and is counted with its parent
        total += sum(map(int, words[11:15] if pid == server else words[11:13]))
    return total / TICK


@asynccontextmanager
async def redis() -> AsyncGenerator[tuple[str, int, Callable[[], Any]], None]:
    with servers.redis() as url:
        client: Any = redis_py.Redis.from_url(url)
        yield url, int(client.info("server")["process_id"]), lambda: None
        client.close()


@asynccontextmanager
async def postgres() -> AsyncGenerator[tuple[str, int, Callable[[], Any]], None]:
    with servers.postgres() as url:
        connection: Any = await asyncpg.connect(url)
        mine = await connection.fetchval("SELECT pg_backend_pid()")
        parent = parent_of(mine)

        async def rest() -> None:
            """What autovacuum does sooner or later, before the clock runs."""
            await connection.execute("VACUUM ANALYZE")

        yield url, parent, rest
        await connection.close()


async def measure(kind: str, waiting: int, open_flows: int, tasks: int, repeat: int) -> None:
    async with {"redis": redis, "postgres": postgres}[kind]() as (url, server, rest):
        stamp = time.monotonic_ns()
        kinds = {
            name: connect(url, clock=SystemClock(), namespace=f"bench_{name}_{stamp}") for name in ("empty", "full")
        }
        begun = time.perf_counter()
        await fill(kinds["full"], waiting, open_flows)
        print(f"{kind}: {waiting:,} waiting and {open_flows:,} open flows in {time.perf_counter() - begun:.0f} s")
        if (resting := rest()) is not None:
            await resting
        for backend in kinds.values():  # connections, scripts and plans are made
            await backend.queue.add(messages(PORTION, time.time()))
            await drain(backend, PORTION)
        took: dict[str, list[float]] = {name: [] for name in kinds}
        print(f"{'CPU of the server, µs/task':<28}{'add':>8}{'claim and acknowledge':>24}")
        for _ in range(repeat):
            for name, backend in kinds.items():
                before = cpu_of(server)
                for _ in range(0, tasks, PORTION):
                    await backend.queue.add(messages(PORTION, time.time()))
                added = cpu_of(server)
                await drain(backend, tasks)
                took[name].append((cpu_of(server) - added) / tasks * 1e6)
                print(f"{name:<28}{(added - before) / tasks * 1e6:>8.1f}{took[name][-1]:>24.1f}")
        empty, full = median(took["empty"]), median(took["full"])
        print(f"{kind}: {empty:.1f} µs empty, {full:.1f} µs full: {(full / empty - 1) * 100:+.0f} %")
        for backend in kinds.values():
            await backend.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("backend", choices=["redis", "postgres"])
    parser.add_argument("--waiting", type=int, default=1_000_000)
    parser.add_argument("--flows", type=int, default=100_000)
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--repeat", type=int, default=5)
    given = parser.parse_args()
    asyncio.run(measure(given.backend, given.waiting, given.flows, given.tasks, given.repeat))


if __name__ == "__main__":
    main()
