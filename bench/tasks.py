"""Tasks per second and CPU per task of one process, on each backend, beside the bare loop.

    python -m bench.tasks [--count 50000] [--repeat 3] [--only redis] [--redis URL] [--postgres URL]

The queue is filled first; then the clock runs from the start of the worker until every task is settled: claimed under a
lease, its payload checked into a pydantic model, run, and acknowledged. "results" keeps each result for a day. The bare
loop only creates one asyncio task per unit of work, checks the same payload in it, and awaits it.
CPU is that of this process; Redis and PostgreSQL, started here when `--only` begins with their name, have their own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from pydantic import BaseModel

from tests import servers
from tq import Task, TaskHandler, TaskQueuesManager


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


def cases(folder: Path, redis: str | None, postgres: str | None) -> Iterator[tuple[str, str, bool, dict[str, object]]]:
    """Yield (name, url, results, options of the backend)."""
    yield "memory", "memory://", False, {}
    yield "memory, results", "memory://", True, {}
    for synchronous in ("NORMAL", "FULL"):
        for results in (False, True):
            name = f"sqlite {synchronous}{', results' if results else ''}"
            file = folder / f"{synchronous}-{results}-{time.monotonic_ns()}.db"
            yield name, f"sqlite:///{file}", results, {"synchronous": synchronous}
    if redis is not None:
        for results in (False, True):
            name = f"redis{', results' if results else ''}"
            yield name, redis, results, {"namespace": f"bench_{time.monotonic_ns()}"}
    if postgres is not None:
        for results in (False, True):
            name = f"postgres{', results' if results else ''}"
            yield name, postgres, results, {"namespace": f"bench_{time.monotonic_ns()}"}


def main() -> None:
    """Print one line per case: median of the repetitions."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--count", type=int, default=50_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", default="")
    parser.add_argument("--redis", help="URL of a server to use; its keys are left there")
    parser.add_argument("--postgres", help="URL of a database to use; its tables are left there")
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        redis, postgres = given.redis, given.postgres
        if redis is None and given.only.startswith("redis"):
            redis = stack.enter_context(servers.redis())
        if postgres is None and given.only.startswith("postgres"):
            postgres = stack.enter_context(servers.postgres())
        measure(given, redis, postgres)


def measure(given: argparse.Namespace, redis: str | None, postgres: str | None) -> None:
    """Run and print every case that was asked for."""
    base = [asyncio.run(bare(given.count)) for _ in range(given.repeat)]
    bare_cpu = median(cpu for _, cpu in base) / given.count * 1e6
    print(f"{'case':<24} {'settled/s':>10} {'CPU µs/task':>12} {'× bare loop':>12} {'added/s':>10}")
    print(f"{'bare loop':<24} {given.count / median(wall for wall, _ in base):>10,.0f} {bare_cpu:>12.1f} {1:>12.1f}")
    names: dict[str, list[tuple[float, float, float]]] = {}
    for _ in range(given.repeat):
        with tempfile.TemporaryDirectory() as folder:
            for name, url, results, options in cases(Path(folder), redis, postgres):
                if given.only in name:
                    took = asyncio.run(through_tq(url, given.count, results=results, options=options))
                    names.setdefault(name, []).append(took)
    for name, runs in names.items():
        wall, cpu, added = (median(values) for values in zip(*runs, strict=True))
        micros = cpu / given.count * 1e6
        speed, adding = given.count / wall, given.count / added
        print(f"{name:<24} {speed:>10,.0f} {micros:>12.1f} {micros / bare_cpu:>12.1f} {adding:>10,.0f}")


if __name__ == "__main__":
    main()
