"""Three workers on one file are killed, frozen past their leases and stopped, at random: nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, cast

import pytest

from tq import FlowStep, Join, Task, TaskHandler
from tq.errors import TqError

pytestmark = [pytest.mark.crash, pytest.mark.realtime]

LEASE = 1.5
UNDER_FIRE = 15.0
LAST = 40.0


class Workers:
    """Worker processes, each replaced when it is brought down."""

    def __init__(self, url: str, log: Path, count: int) -> None:
        program = Path(__file__).with_name("fired_upon.py")
        self.command = [sys.executable, str(program), url, str(log), str(LEASE)]
        self.running = [self.start() for _ in range(count)]

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self.command)

    async def kill(self, number: int) -> None:
        self.running[number].kill()
        self.running[number].wait()
        self.running[number] = self.start()

    async def freeze(self, number: int, seconds: float) -> None:
        self.running[number].send_signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        self.running[number].send_signal(signal.SIGCONT)

    async def stop(self, number: int) -> None:
        self.running[number].terminate()
        await asyncio.to_thread(self.running[number].wait, 30)
        self.running[number] = self.start()

    def end(self) -> None:
        for process in self.running:
            process.terminate()
        for process in self.running:
            process.wait(30)


async def fire(handler: TaskHandler, workers: Workers, flows: list[str], dice: random.Random) -> None:
    """Bring down whoever comes before the muzzle, and cancel and redrive flows amid that."""
    loop = asyncio.get_running_loop()
    until = loop.time() + UNDER_FIRE
    while loop.time() < until:
        await asyncio.sleep(dice.uniform(0.1, 0.8))
        number = dice.randrange(len(workers.running))
        match dice.randrange(8):
            case 0:
                await workers.freeze(number, dice.uniform(0.5, 2 * LEASE))
            case 1:
                await workers.stop(number)
            case 2:
                with suppress(TqError):  # it is over, or its join has not ended
                    await handler.flow(dice.choice(flows)).cancel("no longer wanted")
            case 3:
                with suppress(TqError):
                    await handler.flow(dice.choice(flows)).redrive()
            case _:
                await workers.kill(number)


async def quiet(handler: TaskHandler) -> None:
    """Return when no message is left."""
    left: Mapping[str, Mapping[str, int]] = {}
    for _ in range(int(LAST / 0.5)):
        left = await handler.backend.queue.counts()
        if not any(sum(kinds.values()) for kinds in left.values()):
            return
        await asyncio.sleep(0.5)
    pytest.fail(f"tasks are left: {left}")


def rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(sql).fetchall()


async def test_workers_that_die_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    seed = int(os.environ.get("TQ_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
    print(f"TQ_SEED={seed}")
    dice, path, log = random.Random(seed), tmp_path / "tq.db", tmp_path / "joins"
    url = f"sqlite:///{path}?synchronous=NORMAL"
    async with TaskHandler.connect(url) as handler:
        tasks = [Task[Any](type=dice.choice(["plain", "long", "thread"]), payload=number) for number in range(200)]
        tasks += [Task[Any](type="parent", payload=dice.randrange(3)) for _ in range(40)]
        ids = await handler.add_tasks(tasks)
        flows = [
            await handler.start_flow(
                [FlowStep("step", payload=number) for number in range(width)], join=Join("join"), timeout=timeout
            )
            for width in (0, 1, 5, 20, 700)
            for timeout in (None, 3.0, 60.0)
        ]
        workers = Workers(url, log, 3)
        try:
            await fire(handler, workers, flows, dice)
            await quiet(handler)
        finally:
            workers.end()
    await asyncio.to_thread(sound, path, log, ids)


def sound(path: Path, log: Path, ids: list[str]) -> None:
    """Check that every task has ended, every flow has joined with an entry per member, and nothing is left behind."""
    ended = {
        task_id: (status, result)
        for task_id, status, result in rows(path, "SELECT task_id, status, result FROM tq_records")
    }
    assert [task_id for task_id in ids if task_id not in ended] == []
    children = [child for _, result in ended.values() if result for child in _ids(result)]
    assert len(children) == len(set(children)) > 0
    assert [child for child in children if child not in ended] == []
    joined: defaultdict[str, list[list[list[Any]]]] = defaultdict(list)
    for line in log.read_text().splitlines():
        told = json.loads(line)
        joined[told["join"]].append(told["entries"])
    for flow, total, generation, verdict, remaining, succeeded, failed in rows(
        path, "SELECT id, total, generation, verdict, remaining, succeeded, failed FROM tq_flows"
    ):
        [(members,)] = rows(path, f"SELECT count(*) FROM tq_members WHERE flow = '{flow}'")  # noqa: S608 -- an id of ours
        assert members == succeeded + failed == total - remaining
        assert verdict is not None
        assert verdict != "completed" or not remaining, "a join came early"
        for number in range(generation + 1):
            answers = joined.pop(f"{flow}.join" + (f".{number}" if number else ""))
            assert all(answer == answers[0] for answer in answers), "a join that runs again is told the same"
            assert [index for index, _ in answers[0]] == list(range(total))
    assert not joined
    assert rows(path, "SELECT * FROM tq_leases") == rows(path, "SELECT * FROM tq_waiting") == []


def _ids(result: bytes) -> list[str]:
    found: object = json.loads(result)
    return [one for one in cast("list[object]", found) if isinstance(one, str)] if isinstance(found, list) else []
