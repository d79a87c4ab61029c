"""Editors know what an executor is given and what it gives: both checkers reveal the types in a file of a user's."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.test_readme import blocks
from tests.house.tree import ROOT

USERS = """
from collections.abc import Sequence

from pydantic import BaseModel

from tq import Actions, Task, TaskHandler, TaskQueuesManager

executors = TaskQueuesManager()


class Image(BaseModel):
    url: str


class Thumbnail(BaseModel):
    width: int


class Pool: ...


@executors.task("images.resize", queue="media", retries=3, timeout=60)
async def resize(image: Image) -> Thumbnail:
    reveal_type(image.url)  # str
    return Thumbnail(width=64)


@executors.task("images.store")
async def store(image: Image, pool: Pool) -> None: ...


@executors.task("nightly")
def nightly() -> int:
    return 1


@executors.task("count")
async def count(upto: int = 3) -> int:
    return upto


@executors.executor("item.process")
async def process(task: Task[Image], actions: Actions) -> None:
    reveal_type(task.payload)  # Image
    reveal_type(actions.add_tasks([resize.task(task.payload)]))  # list[str]
    actions.success(task, {"width": 64})


class Import:
    async def on_tasks(self, tasks: Sequence[Task[Image]], actions: Actions) -> None:
        for task in tasks:
            reveal_type(task.payload)  # Image
            actions.success(task)


executors.register("rows.import", Import(), queue="batch", chunk_size=50)

reveal_type(resize.task(Image(url="/")))  # Task[Image]
reveal_type(resize.task(Image(url="/")).payload)  # Image
reveal_type(store.task(Image(url="/"), retries=2))  # Task[Image]
reveal_type(nightly.task())  # Task[None]
reveal_type(count.task(5))  # Task[int]
reveal_type(count.task())  # Task[int]
reveal_type(process.task(Image(url="/")))  # Task[Image]
reveal_type(nightly())  # int


async def use(handler: TaskHandler, pool: Pool) -> None:
    reveal_type(await resize(Image(url="/")))  # Thumbnail
    reveal_type(await handler.add_tasks([resize.task(Image(url="/"))]))  # list[str]
    reveal_type(await count())  # int
    reveal_type(await count(5))  # int
    await count("five")  # refused
    await store(Image(url="/"), pool)
    store.task()  # refused
    count.task("five")  # refused
    resize.task("/")  # refused
    resize.task(Image(url="/"), retrys=2)  # refused
    process.task(5)  # refused
    executors.task("x", retrys=2)  # refused


async def by_hand(task: Task[Image], actions: Actions) -> None:
    reveal_type(await process(task, actions))  # None
    await process(actions, task)  # refused


async def connect() -> None:
    TaskHandler.connect("memory://", executors, concurrency=5, lease=30.0)
    TaskHandler.connect("memory://", executors, concurency=5)  # refused
    TaskHandler.connect("memory://", executors, lease="long")  # refused
"""

EXPECTED = {
    number: match[1]
    for number, line in enumerate(USERS.splitlines(), 1)
    if (match := re.search(r"  # (.+)$", line)) is not None
}


@pytest.fixture
def users(tmp_path: Path) -> Path:
    """A file that a user of tq might write."""
    path = tmp_path / "users.py"
    path.write_text(USERS, encoding="utf-8")
    return path


def run(*command: str) -> str:
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def check(found: dict[int, str]) -> None:
    """Compare what a checker said of each line with what the line expects."""
    named = {line: re.sub(r"\b(builtins|tq\.model\.task|users)\.", "", words) for line, words in found.items()}
    wanted = {line: words for line, words in EXPECTED.items() if words != "refused"}
    assert {line: words for line, words in named.items() if line in wanted} == wanted
    refused = sorted(line for line, words in EXPECTED.items() if words == "refused")
    assert sorted(line for line in named if line not in wanted) == refused


@pytest.mark.spec("MOD-07")
def test_mypy_knows_the_types(users: Path) -> None:
    said = run("mypy", "--strict", "--cache-dir", str(users.parent / "cache"), str(users))
    found: dict[int, str] = {}
    for line, kind, words in re.findall(r"^.*users\.py:(\d+): (note|error): (.*)$", said, re.MULTILINE):
        revealed = re.search(r'Revealed type is "(.*)"', words)
        if revealed is not None or kind == "error":
            found[int(line)] = revealed[1] if revealed is not None else "refused"
    check(found)


@pytest.mark.spec("MOD-07")
def test_pyright_knows_the_types(users: Path) -> None:
    settings = users.parent / "pyrightconfig.json"
    settings.write_text('{"typeCheckingMode": "strict", "include": ["users.py"]}', encoding="utf-8")
    said = run("pyright", "--pythonpath", sys.executable, "--project", str(settings))
    found: dict[int, str] = {}
    for line, kind, words in re.findall(r"users\.py:(\d+):\d+ - (information|error): (.*)$", said, re.MULTILINE):
        revealed = re.search(r'Type of ".*" is "(.*)"', words)
        if revealed is not None or (kind == "error" and int(line) not in found):
            found[int(line)] = revealed[1] if revealed is not None else "refused"
    check(found)


def readme(folder: Path) -> list[str]:
    """Write what the README shows into two files, as it would stand in a program, and return their names."""
    first, *others = blocks("python")
    (folder / "first.py").write_text(first, encoding="utf-8")
    joined = [
        block if not block.startswith("async with") else f"async def outside() -> None:\n{indented(block)}"
        for block in others
    ]
    (folder / "others.py").write_text("\n\n".join(joined), encoding="utf-8")
    return [str(folder / "first.py"), str(folder / "others.py")]


def indented(block: str) -> str:
    return "".join(f"    {line}" for line in block.splitlines(keepends=True))


def test_mypy_has_nothing_to_say_of_the_readme(tmp_path: Path) -> None:
    said = run("mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), *readme(tmp_path))
    assert "Success" in said, said


def test_pyright_has_nothing_to_say_of_the_readme(tmp_path: Path) -> None:
    readme(tmp_path)
    settings = tmp_path / "pyrightconfig.json"
    settings.write_text('{"typeCheckingMode": "strict"}', encoding="utf-8")
    said = run("pyright", "--pythonpath", sys.executable, "--project", str(settings))
    assert "0 errors" in said, said
