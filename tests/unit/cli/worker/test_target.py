"""`MODULE:OBJECT` names executors, a handler, or a function that returns one of them."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from tq import Actions, Task, TaskHandler, TaskQueuesManager
from tq.cli.worker.target import as_handler, load

pytestmark = pytest.mark.realtime  # SQLite works in a thread of its own

Write = Callable[[str], str]
_numbers = itertools.count()


@pytest.fixture
def write(home: Path) -> Write:
    """Write a module of a name never used before, and return that name."""

    def write_module(source: str) -> str:
        name = f"module_{next(_numbers)}_of_target_tests"
        (home / f"{name}.py").write_text(source)
        return name

    return write_module


def executors() -> TaskQueuesManager:
    found = TaskQueuesManager()
    found.register("shop.pack", Pack(), queue="goods")
    return found


class Pack:
    async def on_task(self, task: Any, actions: Any) -> None:
        actions.success(task)


async def handler_of(found: object, **options: Any) -> TaskHandler:
    given: dict[str, Any] = {"url": None, "default_url": "sqlite://", "queues": None, "concurrency": None, **options}
    return await as_handler(found, "shop:object", **given)


def test_a_module_of_the_current_folder_is_found(write: Write) -> None:
    name = write("class Shop:\n    executors = 17\n")
    assert load(f"{name}:Shop.executors") == 17


@pytest.mark.parametrize("target", ["shop", "shop:", ":executors", ""])
def test_what_is_no_target_is_refused(target: str) -> None:
    with pytest.raises(typer.BadParameter, match="is not MODULE:OBJECT"):
        load(target)


@pytest.mark.parametrize("target", ["nowhere_to_be_found:x", "nowhere_to_be_found.deeper:x"])
def test_a_module_that_is_not_there_is_named(target: str) -> None:
    with pytest.raises(typer.BadParameter, match="there is no module 'nowhere_to_be_found"):
        load(target)


def test_a_module_that_needs_what_is_not_there_is_told_apart(write: Write) -> None:
    name = write("import nowhere_to_be_found\n")
    with pytest.raises(typer.BadParameter, match="cannot be imported: ModuleNotFoundError: No module named 'nowhere"):
        load(f"{name}:x")


def test_a_module_that_raises_is_named_with_its_error(write: Write) -> None:
    name = write("1 / 0\n")
    with pytest.raises(typer.BadParameter, match="cannot be imported: ZeroDivisionError"):
        load(f"{name}:x")


def test_an_object_that_is_not_there_is_named(write: Write) -> None:
    name = write("")
    with pytest.raises(typer.BadParameter, match=r"has no 'shop\.executors'"):
        load(f"{name}:shop.executors")


async def test_executors_work_on_the_url() -> None:
    async with await handler_of(executors(), concurrency=3) as handler:
        assert handler.settings.concurrency == 3
        assert handler.executors.served_queues() == ["goods"]


async def test_functions_and_coroutine_functions_are_called() -> None:
    own = TaskHandler.connect("sqlite://", executors())

    async def later() -> TaskHandler:
        return own

    async with await handler_of(executors):
        pass
    assert await handler_of(later) is own
    await own.close()


@pytest.mark.parametrize("given", [{"url": "sqlite://"}, {"queues": ["goods"]}, {"concurrency": 2}])
async def test_a_handler_is_not_given_what_it_has(given: dict[str, Any]) -> None:
    async with TaskHandler.connect("sqlite://", executors()) as own:
        with pytest.raises(typer.BadParameter, match="which has its own"):
            await handler_of(own, **given)


async def test_anything_else_is_refused() -> None:
    with pytest.raises(typer.BadParameter, match="is of type int"):
        await handler_of(17)


async def test_a_queue_without_executors_is_refused() -> None:
    with pytest.raises(typer.BadParameter, match="no executor on post; it has some on goods"):
        await handler_of(executors(), queues=["goods", "post"])


async def test_an_executor_is_refused_and_its_body_not_run() -> None:
    found, ran = TaskQueuesManager(), list[str]()

    @found.task("shop.wipe", queue="goods")
    def wipe() -> None:
        ran.append("wipe")

    @found.executor("shop.close")
    async def close(task: Task[Any], actions: Actions) -> None:
        ran.append("close")

    with pytest.raises(typer.BadParameter, match=r"is the executor 'shop\.wipe' on queue 'goods'; name the TaskQ"):
        await handler_of(wipe)
    with pytest.raises(typer.BadParameter, match=r"'shop\.close' on queue 'default'"):
        await handler_of(close)
    assert ran == []
