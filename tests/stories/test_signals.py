"""One signal drains, said twice at once it is still one, and one that comes later ends the process."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tq import TaskHandler, TaskQueuesManager


async def rest() -> None: ...


WORKER = """
import asyncio, sys
from tq import TaskHandler, TaskQueuesManager
executors = TaskQueuesManager()

@executors.task("slow")
async def slow(payload: float) -> None:
    print("began", flush=True)
    await asyncio.sleep(payload)
    print("ended", flush=True)

async def main() -> None:
    async with TaskHandler.connect(sys.argv[1], executors) as handler:
        await handler.add_tasks([slow.task(float(sys.argv[2]))])
        await handler.run()
    print("drained", flush=True)

asyncio.run(main())
"""


def start(folder: Path, seconds: float) -> subprocess.Popen[str]:
    """Start a worker with one task that takes so long, and wait until it runs."""
    script = folder / "worker.py"
    script.write_text(WORKER)
    command = [sys.executable, str(script), f"sqlite:///{folder}/tq.db", str(seconds)]
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    assert worker.stdout.readline() == "began\n"
    return worker


@pytest.mark.realtime  # signals are for a loop that waits for them
async def test_whoever_listened_to_signals_before_listens_again_afterwards() -> None:
    heard = list[int]()
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda number, _: heard.append(number)) for number in numbers]
    ours = [signal.getsignal(number) for number in numbers]
    try:
        executors = TaskQueuesManager()
        executors.task("rest")(rest)
        async with TaskHandler.connect("memory://", executors) as handler:
            signal.raise_signal(signal.SIGTERM)
            async with asyncio.timeout(30), asyncio.TaskGroup() as group:
                group.create_task(handler.run())
                await asyncio.sleep(0.05)
                signal.raise_signal(signal.SIGTERM)
        assert heard == [signal.SIGTERM], "while it runs, it is the one who hears"
        assert [signal.getsignal(number) for number in numbers] == ours
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert heard == [signal.SIGTERM, signal.SIGTERM, signal.SIGINT]
    finally:
        for number, handler_before in zip(numbers, before, strict=True):
            signal.signal(number, handler_before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_also_when_it_is_said_twice(tmp_path: Path, number: signal.Signals) -> None:
    worker = start(tmp_path, 1.0)
    worker.send_signal(number)
    time.sleep(0.05)
    worker.send_signal(number)
    out, err = worker.communicate(timeout=30)
    assert out == "ended\ndrained\n"
    assert worker.returncode == 0, err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_later_signal_ends_the_process(tmp_path: Path, number: signal.Signals) -> None:
    worker = start(tmp_path, 60.0)
    worker.send_signal(number)
    time.sleep(1.0)
    worker.send_signal(number)
    assert worker.wait(timeout=20) == -number, "at once, not after the grace"
    assert worker.communicate()[0] == ""
