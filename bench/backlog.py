"""What a backlog costs: the server's CPU per due task, beside a million tasks that wait and 100,000 open flows.

    python -m bench.backlog redis|postgres [--waiting 1000000] [--flows 100000] [--tasks 20000] [--repeat 5]

Two namespaces of one server, one of them empty, the other one full, are measured in turn: so many due tasks are added,
then claimed and acknowledged in hops of a hundred. CPU is that of the processes of the server that serve somebody, as
the system counts it (Linux); what others of them do meanwhile, such as vacuum behind the filling, stands beside it. The
server is the one that TQ_TEST_REDIS_URL or TQ_TEST_POSTGRES_URL names, if it runs here, or a private one.
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
from typing import Any, NamedTuple

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


class Cpu(NamedTuple):
    """CPU seconds of a server: of those processes that serve somebody, and of all others, the ended ones included."""

    serving: float
    upkeep: float

    def since(self, before: Cpu, tasks: int) -> Cpu:
        """Return microseconds per task."""
        return Cpu(*[(now - then) / tasks * 1e6 for now, then in zip(self, before, strict=True)])


def cpu_of(server: int) -> Cpu:
    serving = upkeep = 0
    children = descendants(server)
    for pid in (server, *children):
        try:
            words = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            name = Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8")
        except OSError:
            continue  # it ended meanwhile, and is counted with its parent
        mine, ended = sum(map(int, words[11:13])), sum(map(int, words[13:15]))
        if not children or "(" in name:  # PostgreSQL writes there whom a process serves: "postgres: me db host(port)"
            serving += mine
        else:
            upkeep += mine
        upkeep += ended if pid == server else 0
    return Cpu(serving / TICK, upkeep / TICK)


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
        took: dict[str, list[Cpu]] = {name: [] for name in kinds}
        print(f"{'CPU of the server, µs/task':<28}{'claim and acknowledge':>24}{'its upkeep meanwhile':>24}")
        for _ in range(repeat):
            for name, backend in kinds.items():
                for _ in range(0, tasks, PORTION):
                    await backend.queue.add(messages(PORTION, time.time()))
                before = cpu_of(server)
                await drain(backend, tasks)
                took[name].append(cpu := cpu_of(server).since(before, tasks))
                print(f"{name:<28}{cpu.serving:>24.1f}{cpu.upkeep:>24.1f}")
        empty, full = [median(cpu.serving for cpu in took[name]) for name in ("empty", "full")]
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
