"""Tasks per second and CPU per task of one process, on each backend, beside the bare loop.

    python -m bench [--count 50000] [--repeat 3] [--backend memory] [--backend sqlite|redis|postgres]

The queue is filled first; then the clock runs from the start of the worker until every task is settled: claimed under a
lease, its payload checked into a pydantic model, run, and acknowledged. "results" keeps each result for a day. The bare
loop only creates one asyncio task per unit of work, checks the same payload in it, and awaits it.
CPU is that of this process; Redis and PostgreSQL have their own. They are the ones that TQ_TEST_REDIS_URL and
TQ_TEST_POSTGRES_URL name, and keep what was written there, or private ones: without a flush per commit on PostgreSQL,
without a log on Redis.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import itertools
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

from pydantic import BaseModel

from tests import servers
from tq import Task, TaskHandler, TaskQueuesManager

SERVERS = {"redis": servers.redis, "postgres": servers.postgres}


class Payload(BaseModel):
    """What every task carries: about 80 bytes of JSON."""

    a: int
    b: str


class Count:
    """Counts bodies, and tells when all have run."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.reached = 0


def executors(count: Count, *, results: bool) -> TaskQueuesManager:
    """Return a registry with one executor that does nothing but count."""
    registry = TaskQueuesManager()

    if results:

        @registry.task("work")
        async def with_result(payload: Payload) -> int:
            count.reached += 1
            return payload.a
    else:

        @registry.task("work")
        async def without_result(_: Payload) -> None:
            count.reached += 1

    return registry


async def bare(count: int) -> tuple[float, float]:
    """Return seconds and CPU seconds of as many asyncio tasks that do nothing, 100 at a time."""

    async def body(number: int) -> None:
        Payload.model_validate_json(b'{"a":%d,"b":"hello hello hello hello hello hello hello hello"}' % number)

    wall, cpu = time.perf_counter(), time.process_time()
    for start in range(0, count, 100):
        await asyncio.gather(*[asyncio.create_task(body(number)) for number in range(start, start + 100)])
    return time.perf_counter() - wall, time.process_time() - cpu


async def through_tq(url: str, count: int, *, results: bool, options: dict[str, object]) -> tuple[float, float, float]:
    """Return seconds and CPU seconds of settling `count` tasks, and seconds of adding them."""
    counter = Count(count)
    async with TaskHandler.connect(url, executors(counter, results=results), backend_options=options) as handler:
        added = time.perf_counter()
        for start in range(0, count, 1000):
            batch = [Task(type="work", payload={"a": n, "b": "hello " * 8}) for n in range(start, start + 1000)]
            await handler.add_tasks(batch)
        added = time.perf_counter() - added
        gc.collect()
        wall, cpu = time.perf_counter(), time.process_time()
        await handler.start()
        while counter.reached < count:  # noqa: ASYNC110 -- an event to wait for would be one more thing to measure
            await asyncio.sleep(0.005)
        while sum((await handler.queue("default").counts()).values()):
            pass
        took = time.perf_counter() - wall, time.process_time() - cpu
        await handler.stop()
        return *took, added


def cases(backend: str, folder: Path, url: str) -> Iterator[tuple[str, str, dict[str, object]]]:
    """Yield (name, url, options) for each way in which a backend can be measured."""
    match backend:
        case "memory":
            yield "memory", "memory://", {}
        case "sqlite":
            for synchronous in ("NORMAL", "FULL"):
                file = folder / f"{synchronous}-{time.monotonic_ns()}.db"
                yield f"sqlite {synchronous}", f"sqlite:///{file}", {"synchronous": synchronous}
        case _:
            yield backend, url, {"namespace": f"bench_{time.monotonic_ns()}"}


def main() -> None:
    """Print one line per case: median of the repetitions."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--count", type=int, default=50_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--backend", action="append", choices=["memory", "sqlite", *SERVERS], help="may be repeated")
    given = parser.parse_args()
    backends: list[str] = given.backend or ["memory", "sqlite"]
    with contextlib.ExitStack() as stack:
        urls = {name: stack.enter_context(SERVERS[name]()) for name in backends if name in SERVERS}
        measure(backends, urls, given.count, given.repeat)


def measure(backends: Sequence[str], urls: Mapping[str, str], count: int, repeat: int) -> None:
    """Run and print every case that was asked for."""
    base = [asyncio.run(bare(count)) for _ in range(repeat)]
    bare_cpu = median(cpu for _, cpu in base) / count * 1e6
    print(f"{'case':<24} {'settled/s':>10} {'CPU µs/task':>12} {'× bare loop':>12} {'added/s':>10}")
    print(f"{'bare loop':<24} {count / median(wall for wall, _ in base):>10,.0f} {bare_cpu:>12.1f} {1:>12.1f}")
    names: dict[str, list[tuple[float, float, float]]] = {}
    for _ in range(repeat):
        with tempfile.TemporaryDirectory() as folder:
            for backend, results in itertools.product(backends, (False, True)):
                for case, url, options in cases(backend, Path(folder), urls.get(backend, "")):
                    name = f"{case}, results" if results else case
                    took = asyncio.run(through_tq(url, count, results=results, options=options))
                    names.setdefault(name, []).append(took)
    for name, runs in names.items():
        wall, cpu, added = (median(values) for values in zip(*runs, strict=True))
        micros = cpu / count * 1e6
        speed, adding = count / wall, count / added
        print(f"{name:<24} {speed:>10,.0f} {micros:>12.1f} {micros / bare_cpu:>12.1f} {adding:>10,.0f}")


if __name__ == "__main__":
    main()
