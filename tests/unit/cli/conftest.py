"""The command line in the test's own process, on a database in the test's own folder."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest
from typer.testing import CliRunner, Result

from tq import Actions, Entity, FlowStep, Join, NonRetryableError, Task, TaskHandler, TaskQueuesManager
from tq.cli.program import program

URL = "sqlite:///tq.db"


class Tq(Protocol):
    """Runs `tq` with some arguments."""

    def __call__(self, *arguments: str, code: int = 0) -> Result: ...


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, and nothing about tq in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in ("TQ_URL", "TQ_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def tq(home: Path) -> Tq:
    """Run a command and check its exit code."""

    def run(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(program, list(arguments), prog_name="tq")
        assert result.exit_code == code, (result.exception, result.output)
        return result

    return run


@pytest.fixture
def read(tq: Tq) -> Callable[..., dict[str, Any]]:
    """Run a command with --json and return the one document that it prints."""

    def run(*arguments: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(tq(*arguments, "--json").stdout)
        return document

    return run


def shop() -> TaskQueuesManager:
    """Executors that succeed, fail and join."""
    executors = TaskQueuesManager()

    @executors.task("shop.pack", queue="goods")
    async def pack(number: int) -> int:
        if number < 0:
            raise NonRetryableError(f"there are no {number} goods\nto be packed")
        return number

    @executors.executor("shop.send", queue="post", store_on_success=True)
    async def send(task: Task[Any], actions: Actions) -> None:
        actions.success(task, [entry["status"] async for entry in actions.flow_results(task)])

    return executors


@asynccontextmanager
async def opened() -> AsyncGenerator[TaskHandler]:
    async with TaskHandler.connect(URL, shop()) as handler:
        yield handler


class Shop:
    """Puts tasks and flows into the database."""

    def do(self, work: Callable[[TaskHandler], Coroutine[Any, Any, Any]]) -> Any:
        async def run() -> Any:
            async with opened() as handler:
                return await work(handler)

        return asyncio.run(run())

    def add(self, *numbers: int) -> list[str]:
        tasks = [Task(type="shop.pack", queue_id="goods", payload=number) for number in numbers]
        ids: list[str] = self.do(lambda handler: handler.add_tasks(tasks))
        return ids

    def work(self) -> None:
        self.do(lambda handler: handler.drain())

    def start_flow(self, *numbers: int) -> str:
        steps = [FlowStep("shop.pack", queue="goods", payload=number) for number in numbers]
        join, entity = Join("shop.send", queue="post"), Entity("Order", "o-1")
        flow: str = self.do(lambda handler: handler.start_flow(steps, join=join, entity=entity))
        return flow


@pytest.fixture
def goods(home: Path) -> Shop:
    """A shop without tasks."""
    return Shop()
