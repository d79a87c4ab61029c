"""`SyncClient`: tasks are added from code that has no event loop, by as many threads as there are."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tq import Actions, FlowStep, Join, SyncClient, Task, TaskHandler, TaskQueuesManager, TaskStatus
from tq.app import sync
from tq.errors import (
    AddTasksError,
    ConfigurationError,
    InvalidInputError,
    PayloadError,
    ResultNotKeptError,
    TaskFailedError,
)


def executors() -> TaskQueuesManager:
    """Return what the workers of this story run."""
    made = TaskQueuesManager()

    @made.task("double")
    async def double(payload: int) -> int:
        return payload * 2

    @made.task("fails")
    async def fails(payload: None) -> None:
        raise ValueError("no")

    @made.executor("join", store_on_success=True)
    async def join(task: Task[Any], actions: Actions) -> None:
        actions.success(task, [step["result"] for step in task.payload["flow_results"]["steps"]])

    return made


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/tq.db"


@pytest.fixture
def client(url: str) -> Iterator[SyncClient]:
    with SyncClient(url, executors()) as client:
        yield client


def work(url: str) -> None:
    """Run whatever is due, as a worker in another process would."""

    async def drain() -> None:
        async with TaskHandler.connect(url, executors()) as handler:
            await handler.drain()

    asyncio.run(drain())


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "tq-sync-client"]


def test_tasks_are_added_and_their_results_read(client: SyncClient, url: str) -> None:
    first, second, third = client.add_tasks(
        [Task(type="double", payload=4), Task(type="double", payload=5), Task(type="fails")]
    )
    assert client.status(first) is TaskStatus.SCHEDULED
    with pytest.raises(TimeoutError):
        client.result(first, timeout=0.05)
    work(url)
    assert [client.result(task_id) for task_id in (first, second)] == [8, 10]
    assert client.status(third) is TaskStatus.FAILED
    with pytest.raises(TaskFailedError, match="no"):
        client.result(third)
    with pytest.raises(ResultNotKeptError):
        client.result("nobody")


def test_a_flow_is_started(client: SyncClient, url: str) -> None:
    steps = [FlowStep("double", payload=number) for number in range(3)]
    flow = client.start_flow(steps, join=Join("join"), timeout=60, key="once")
    assert client.start_flow(steps, join=Join("join"), timeout=60, key="once") == flow
    work(url)
    assert client.result(f"{flow}.join") == [0, 2, 4]


def test_what_is_refused_is_refused_here(client: SyncClient) -> None:
    with pytest.raises(PayloadError, match=r"payload is refused: got 'four'"):
        client.add_tasks([Task(type="double", payload="four")])
    with pytest.raises(InvalidInputError, match="queue_id"):
        client.add_tasks([Task(type="double", payload=4, queue_id="nowhere")])
    with pytest.raises(AddTasksError):
        client.add_tasks([Task(type="double", payload=4), Task(type="double", payload="four")])
    assert client.add_tasks([]) == []


def test_many_threads_may_use_one_client(client: SyncClient, url: str) -> None:
    def add(number: int) -> str:
        [task_id] = client.add_tasks([Task(type="double", payload=number)])
        return task_id

    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(add, range(40)))
        work(url)
        results = list(pool.map(client.result, ids))
    assert results == [number * 2 for number in range(40)]


async def test_it_may_be_used_where_a_loop_runs_already(url: str) -> None:
    with SyncClient(url) as client:
        [task_id] = client.add_tasks([Task(type="double", payload=1)])
        assert client.status(task_id) is TaskStatus.SCHEDULED


def test_a_client_without_executors_takes_whatever_can_be_written(url: str) -> None:
    with SyncClient(url) as client:
        client.add_tasks([Task(type="anything", queue_id="anywhere", payload={"free": ["form"]})])
        with pytest.raises(PayloadError):
            client.add_tasks([Task(type="anything", payload=float("nan"))])


def test_closing_ends_its_thread_and_may_be_repeated(url: str) -> None:
    before = threads()
    client = SyncClient(url)
    assert len(threads()) == len(before) + 1
    client.close()
    client.close()
    assert threads() == before
    with pytest.raises(ConfigurationError, match="closed"):
        client.add_tasks([Task(type="double", payload=1)])


def test_closing_ends_the_calls_of_other_threads(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "LAST_CALLS", 0.05)
    client = SyncClient(url)
    [task_id] = client.add_tasks([Task(type="double", payload=1)])
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.result, task_id)
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.1)
        client.close()
        with pytest.raises(ConfigurationError, match="closed while it waited"):
            waiting.result(timeout=10)


@pytest.mark.parametrize(
    ("wrong", "options"), [("no url", {}), ("pigeon://x", {}), ("memory://", {"lease": 0}), ("memory://", {"odd": 1})]
)
def test_a_client_that_cannot_be_opened_leaves_no_thread(wrong: str, options: dict[str, Any]) -> None:
    before = threads()
    with pytest.raises((InvalidInputError, ConfigurationError)):
        SyncClient(wrong, **options)
    assert threads() == before


def in_a_child(work: Callable[[], object]) -> str:
    """Do something in a child of a fork; return what came of it, or "hung"."""
    ours, theirs = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that threads are about is what this is about
        pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        try:
            came = f"{work()}"
        except BaseException as error:  # noqa: BLE001 -- nothing of it may reach the parent's runner
            came = repr(error)
        os.write(theirs, came.encode())
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as reader:
        came = reader.read().decode()
    os.waitpid(pid, 0)
    return came or "hung"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_of_a_fork_uses_it_as_its_own_and_the_parent_goes_on(client: SyncClient, url: str) -> None:
    client.add_tasks([Task(type="double", payload=1, id="parent")])
    for number in range(2):
        task = Task[Any](type="double", payload=number, id=f"child {number}")

        def use(task: Task[Any] = task) -> object:
            added = client.add_tasks([task])
            client.close()
            return added

        assert in_a_child(use) == f"['child {number}']"
    assert client.add_tasks([Task(type="double", payload=1, id="after")]) == ["after"]
    work(url)
    assert [client.result(id) for id in ("parent", "child 0", "child 1", "after")] == [2, 0, 2, 2]
    assert in_a_child(lambda: client.status("parent")) == "executed"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("used", [False, True])
def test_a_handler_that_was_opened_before_the_fork_says_so_in_the_child(url: str, *, used: bool) -> None:
    handler = TaskHandler.connect(url)
    task = Task[Any](type="double", payload=1, id="once")

    async def add() -> list[str]:
        async with handler:
            return await handler.add_tasks([task])

    if used:
        asyncio.run(handler.add_tasks([task]))
    came = in_a_child(lambda: asyncio.run(add()))
    assert "was opened before the fork; open it in the child" in came
    asyncio.run(add())


def test_it_may_be_used_where_the_interpreter_ends(url: str) -> None:
    script = f"""
import atexit
from tq import SyncClient, Task
client = SyncClient({url!r})
atexit.register(lambda: print(client.add_tasks([Task(type="double", payload=1, id="last")])))
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.stdout, ended.stderr) == ("['last']\n", "")
