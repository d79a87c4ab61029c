"""The hop on SQLite alone: what 200 settlements and 200 claims cost, without executors, codec or event loop.

python bench/sqlite_hop.py [tasks] [--sync FULL|NORMAL] [--batch 200] [--backlog 0]

Prints microseconds per task, wall and CPU, for endings that leave nothing and for endings that leave a record; and what
adding costs.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

from tq.clock import SystemClock
from tq.ids import new_id
from tq.model import NO_EFFECTS, Batch, Claim, Delivery, Effects, Message, Record, Remove, Settlement, TaskStatus
from tq_sqlite import SqliteBackend, SqliteSettings

BODY = b'{"v":1,"id":"%s","type":"item.process","queue":"default","payload":{"a":12345,"b":"%s"}}' % (
    b"x" * 26,
    b"y" * 100,
)
RESULT = b'{"n": 12345}'


def messages(count: int, run_at: float) -> list[Message]:
    return [Message(new_id(run_at), "default", "item.process", BODY, run_at) for _ in range(count)]


def settled(delivery: Delivery, now: float, *, record: bool) -> Settlement:
    effects = NO_EFFECTS
    if record:
        kept = Record(
            delivery.message.id, "default", "item.process", TaskStatus.EXECUTED, now, now + 86_400.0, result=RESULT
        )
        effects = Effects(records=(kept,))
    return Settlement(delivery.receipt, Remove(), effects)


async def measure(path: Path, tasks: int, sync: str, batch: int, backlog: int, *, record: bool) -> str:
    backend = SqliteBackend(SqliteSettings(path=str(path), synchronous=sync), SystemClock())  # type: ignore[arg-type]
    now = time.time()
    if backlog:
        await backend.queue.add(messages(backlog, now + 3600))
    adding = 0.0
    for start in range(0, tasks, 1000):
        new = messages(min(1000, tasks - start), now)
        begun = time.perf_counter()
        await backend.queue.add(new)
        adding += (time.perf_counter() - begun) / tasks
    hops = done = 0
    ready: list[Settlement] = []
    making = making_cpu = 0.0
    begun, cpu = time.perf_counter(), time.process_time()
    while True:
        hop = await backend.commit(Batch(ready), Claim(("default",), batch, f"worker-0123456789:{hops}", 30.0))
        hops, done = hops + 1, done + len(ready)
        assert not hop.refused
        if not hop.deliveries:
            break
        made, made_cpu = time.perf_counter(), time.process_time()
        ready = [settled(delivery, now, record=record) for delivery in hop.deliveries]
        making, making_cpu = making + time.perf_counter() - made, making_cpu + time.process_time() - made_cpu
    wall, cpu = time.perf_counter() - begun - making, time.process_time() - cpu - making_cpu
    assert done == tasks
    await backend.close()
    what = "with a record" if record else "leaving nothing"
    return (
        f"{sync:6} {what:15} {wall / done * 1e6:6.2f} µs/task, CPU {cpu / done * 1e6:6.2f}, {done / wall:7.0f}/s;"
        f" adding {adding * 1e6:5.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="?", type=int, default=100_000)
    parser.add_argument("--sync", choices=["FULL", "NORMAL"], action="append")
    parser.add_argument("--batch", type=int, default=200)
    parser.add_argument("--backlog", type=int, default=0, help="messages that wait for later times")
    given = parser.parse_args()
    for sync in given.sync or ["NORMAL", "FULL"]:
        for record in (False, True):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "hop.db"
                print(asyncio.run(measure(path, given.tasks, sync, given.batch, given.backlog, record=record)))


if __name__ == "__main__":
    main()
