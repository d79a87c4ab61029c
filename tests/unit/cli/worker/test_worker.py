"""Workers as processes: they drain when asked, and their supervisor keeps them alive."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.conftest import Shop, Tq
from tq.cli.worker import supervisor
from tq.cli.worker.supervisor import Supervisor

pytestmark = pytest.mark.realtime

LONG = 30.0

MODULE = """
import asyncio
from pathlib import Path
from tq import TaskQueuesManager

executors = TaskQueuesManager()

@executors.task("shop.pack", queue="goods")
async def pack(number: int) -> int:
    Path(f"began-{number}").touch()
    await asyncio.sleep(0.5)
    return number
"""

Event = dict[str, Any]


class Running:
    """`tq worker` with --json, line by line."""

    def __init__(self, *options: str) -> None:
        command = [sys.executable, "-m", "tq.cli", "worker", "shop_of_worker_tests:executors", "--json", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.pids: list[int] = []

    def until(self, event: str) -> Event:
        """Read until something has happened."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said: Event = json.loads(line)
            if said["event"] == "child started":
                self.pids.append(said["pid"])
            if said["event"] == event:
                return said
        raise AssertionError(f"it ended before {event!r}: {self.process.communicate(timeout=LONG)}")

    def rest(self) -> tuple[int, list[Event]]:
        """Read to the end; return exit code and events."""
        printed, complaint = self.process.communicate(timeout=LONG)
        assert "Traceback" not in complaint, complaint
        return self.process.returncode, [json.loads(line) for line in printed.splitlines()]


@pytest.fixture
def start(home: Path) -> Iterator[Callable[..., Running]]:
    (home / "shop_of_worker_tests.py").write_text(MODULE)
    started: list[Running] = []

    def begin(*options: str) -> Running:
        running = Running(*options)
        started.append(running)
        return running

    yield begin
    for running in started:
        if running.process.poll() is None:
            running.process.kill()
        running.process.communicate(timeout=LONG)


def appears(file: Path) -> None:
    until = time.monotonic() + LONG
    while not file.exists():
        assert time.monotonic() < until
        time.sleep(0.01)


def gone(pid: int) -> None:
    until = time.monotonic() + LONG
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_what_runs_end(
    start: Callable[..., Running], goods: Shop, home: Path, read: Callable[..., Event], number: signal.Signals
) -> None:
    (id,) = goods.add(1)
    running = start()
    began = running.until("worker started")
    assert (began["pid"], began["queues"]) == (running.process.pid, ["goods"])
    appears(home / "began-1")
    running.process.send_signal(number)
    code, events = running.rest()
    assert code == 0
    assert [event["event"] for event in events] == ["worker stopped"]
    (task,) = read("tasks")["tasks"]
    assert (task["id"], task["status"]) == (id, "executed")


def test_a_child_that_dies_is_restarted_and_all_end_with_their_parent(start: Callable[..., Running]) -> None:
    running = start("--processes", "2")
    running.until("worker started")
    running.until("worker started")
    os.kill(running.pids[0], signal.SIGKILL)
    assert running.until("child ended") == {"event": "child ended", "pid": running.pids[0], "code": -signal.SIGKILL}
    running.until("worker started")
    assert len(running.pids) == 3
    running.process.terminate()
    code, events = running.rest()
    assert code == 0
    ended = [event for event in events if event["event"] == "child ended"]
    assert sorted(event["pid"] for event in ended) == sorted(running.pids[1:])
    assert {event["code"] for event in ended} == {0}


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc")
def test_children_drain_when_their_parent_is_killed(start: Callable[..., Running]) -> None:
    running = start("--processes", "1", "--reload")
    running.until("worker started")
    running.process.kill()
    gone(running.pids[0])


def test_a_changed_source_restarts_the_worker(start: Callable[..., Running], home: Path) -> None:
    running = start("--reload")
    running.until("worker started")
    (home / "shop_of_worker_tests.py").write_text(MODULE.replace("goods", "toys"))
    assert running.until("reloading")["changed"] == ["shop_of_worker_tests.py"]
    assert running.until("worker started")["queues"] == ["toys"]
    (home / "shop_of_worker_tests.py").write_text("broken(")
    assert running.until("child started")
    assert running.until("child ended")["code"] == 2
    (home / "shop_of_worker_tests.py").write_text(MODULE)
    assert running.until("worker started")["queues"] == ["goods"]
    running.process.terminate()
    assert running.rest()[0] == 0


def test_a_worker_that_was_started_wrongly_is_not_restarted(start: Callable[..., Running]) -> None:
    running = start("--processes", "2", "--queue", "nowhere")
    code, events = running.rest()
    assert code == 2
    assert [event["event"] for event in events].count("child started") <= 2


def test_a_second_signal_kills_what_does_not_drain(home: Path) -> None:
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    )
    said: list[str] = []

    def tell(event: str, **values: object) -> None:
        said.append(event)
        if event == "child started":
            time.sleep(0.5)  # it has to be deaf before it is spoken to
            os.kill(os.getpid(), signal.SIGTERM)
        if event == "draining":
            os.kill(os.getpid(), signal.SIGTERM)

    assert Supervisor([sys.executable, "-c", stubborn], 1, tell=tell).run() == 0
    assert said == ["child started", "draining", "killing", "child ended"]


def test_a_child_that_does_not_leave_when_it_said_it_would_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    deaf = (
        "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.write(0, b'0.2');"
        "os.kill(os.getppid(), signal.SIGTERM); time.sleep(60)"
    )
    monkeypatch.setattr(supervisor, "LEAVE_WITHIN", 0.1)
    said: list[str] = []
    began = time.monotonic()
    assert Supervisor([sys.executable, "-c", deaf], 1, tell=lambda event, **_: said.append(event)).run() == 0
    assert said == ["child started", "draining", "killing", "child ended"]
    assert time.monotonic() - began < 20


BLOCKED = """
import time
from pathlib import Path
from tq import TaskHandler, TaskQueuesManager

executors = TaskQueuesManager()

@executors.task("shop.pack", queue="goods")
def pack(number: int) -> None:
    Path(f"began-{number}").touch()
    time.sleep(3600)

def handler() -> TaskHandler:
    return TaskHandler.connect("sqlite:///tq.db", executors, grace_period=0.2)
"""

IN_ANOTHER_POOL = BLOCKED.replace("def pack", "async def pack").replace(
    "time.sleep(3600)", "await asyncio.to_thread(time.sleep, 3600)"
)


@pytest.mark.parametrize("source", [BLOCKED, f"import asyncio{IN_ANOTHER_POOL}"], ids=["def", "to_thread"])
@pytest.mark.parametrize("options", [(), ("--processes", "2")], ids=["alone", "supervised"])
def test_a_body_that_blocks_keeps_no_worker_from_leaving_after_its_grace(
    home: Path, goods: Shop, source: str, options: tuple[str, ...]
) -> None:
    (home / "shop_of_worker_tests.py").write_text(source)
    goods.add(1)
    command = [sys.executable, "-m", "tq.cli", "worker", "shop_of_worker_tests:handler", *options]
    process = subprocess.Popen(command)
    try:
        appears(home / "began-1")
        process.terminate()
        assert process.wait(timeout=LONG) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("target", ["nowhere_to_be_found:x", "json:dumps.nope", "json", "os:sep"])
def test_what_cannot_be_run_is_a_usage_error(tq: Tq, target: str) -> None:
    assert "Traceback" not in tq("worker", target, code=2).stderr


def test_a_log_level_that_is_none_is_refused(tq: Tq) -> None:
    assert "give debug, info" in tq("worker", "os:sep", "--log-level", "loud", code=2).stderr
