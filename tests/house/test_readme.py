"""What the README says is true: its blocks run, its tables say what the code says, its rooms and links are there."""

import ast
import asyncio
import inspect
import re
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest

from tests.crash.homes import HOMES
from tests.house.tree import ROOT, adapters
from tq.app.parts import REMEMBER
from tq.flow.results import INLINE, INLINE_STEPS
from tq.logcontext import MAX_BYTES, MAX_KEYS
from tq.model import Task
from tq.model.ended import DEAD_LETTER_TTL, RESULT_TTL
from tq.model.plan import MAX_STEPS
from tq.model.retry import RETRY_DELAY_CAP
from tq.runner.actions import MAX_CHILDREN
from tq.runner.door import MAX_PAYLOAD, MAX_RESULT
from tq.runner.options import ExecutorOptions
from tq.runner.settings import WorkerSettings
from tq.testing import run_virtual

README = (ROOT / "README.md").read_text(encoding="utf-8")
QUICKSTART = ROOT / "examples" / "quickstart.py"


def blocks(language: str) -> list[str]:
    """Return the blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def section(title: str) -> str:
    """Return what stands under a heading."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", README, flags=re.MULTILINE | re.DOTALL)
    assert found is not None, f"the README has no section {title!r}"
    return found[1]


def cells(text: str) -> list[list[str]]:
    """Return the cells of every row of the tables in a text."""
    rows = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in rows]


# --- blocks -----------------------------------------------------------------------------------------------------------


def test_the_first_example_is_the_quickstart() -> None:
    if not QUICKSTART.is_file():
        pytest.skip("examples/quickstart.py is not there")
    program = QUICKSTART.read_text(encoding="utf-8")
    assert program.endswith(blocks("python")[0]), "the first block of the README is not examples/quickstart.py"


@pytest.mark.realtime
def test_the_first_example_runs_and_prints_what_the_readme_says(tmp_path: Path) -> None:
    (tmp_path / "first.py").write_text(blocks("python")[0], encoding="utf-8")
    done = subprocess.run([sys.executable, "first.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"It prints `{done.stdout.strip()}`." in README


async def run_blocks() -> dict[str, Any]:
    """Run every other block, in order and in one namespace, and return that."""
    names: dict[str, Any] = {"__name__": "readme"}
    for block in blocks("python")[1:]:
        waiting = eval(compile(block, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)  # noqa: S307
        if inspect.isawaitable(waiting):
            await waiting
    return names


@pytest.mark.realtime
async def test_the_other_examples_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """D-85: what the page shows is what happens, down to the rows that a dashboard reads."""
    monkeypatch.chdir(tmp_path)
    names = await run_blocks()
    async with names["TaskHandler"].connect("sqlite:///app.db", names["executors"]) as handler:
        await handler.add_tasks([names["publish"].task(None, id="album-1")])
        await handler.drain()
    assert capsys.readouterr().out.splitlines() == ["{'pages': 1}", "scheduled"]
    with closing(sqlite3.connect(tmp_path / "app.db")) as db:
        counts, rows = [db.execute(text).fetchall() for text in blocks("sql")[0].split(";") if text.strip()]
        [(result,)] = db.execute("SELECT result FROM tq_records WHERE type = 'album.published'")
    assert counts == [("executed", 1)]
    assert rows[0][1:4] == ("report.render", "executed", '{"pages":1}')
    assert result == b'{"verdict":"completed","missing":[]}'


@pytest.mark.realtime
def test_the_tests_that_the_readme_shows_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = [test for name, test in asyncio.run(run_blocks()).items() if name.startswith("test_")]
    assert shown
    for test in shown:
        run_virtual(test())


# --- tables -----------------------------------------------------------------------------------------------------------


def defaults(settings: type[Any]) -> dict[str, str]:
    """Return the defaults of a dataclass as they are written down."""
    found: dict[str, str] = {}
    for field in fields(settings):
        value = field.default if field.default is not MISSING else None
        found[field.name] = repr(value)
    return found


def written(text: str) -> dict[str, str]:
    """Return, of a table of options, the names and the defaults: one option, or several, in a row."""
    rows = [row for row in cells(text) if row[0].startswith("`") and len(row) % 3 == 0]
    return {row[at].strip("`"): row[at + 1].strip("`") for row in rows for at in range(0, len(row), 3)}


def test_every_option_of_executors_is_there_with_its_default() -> None:
    before, _, _ = section("Executors").partition("The handler's own settings")
    expected = defaults(ExecutorOptions) | {"backoff": "Backoff()"}
    assert written(before) == expected


def test_every_setting_of_the_handler_is_there_with_its_default() -> None:
    _, _, after = section("Executors").partition("The handler's own settings")
    assert written(after) == defaults(WorkerSettings)


def test_the_limits_are_those_of_the_code() -> None:
    limits: Mapping[str, int | float] = {
        "1 MiB": MAX_PAYLOAD / (1 << 20),
        "256 KiB": MAX_RESULT / (1 << 10),
        "256 KiB, 10,000": INLINE / (1 << 10) if INLINE_STEPS == 10_000 else 0,
        "100,000": MAX_STEPS / 1_000,
        "| children of an attempt | 1,000 |": MAX_CHILDREN / 1_000,
        "10 keys, 1,024": MAX_KEYS if MAX_BYTES == 1_024 else 0,
        "300 s": RETRY_DELAY_CAP,
        "1 day": RESULT_TTL / 86_400,
        "7 days": REMEMBER / 86_400,
        "30 days": DEAD_LETTER_TTL / 86_400,
    }
    text = section("Limits")
    wrong = {words: value for words, value in limits.items() if int(re.sub(r"\D*(\d+).*", r"\1", words)) != value}
    assert not wrong
    assert not [words for words in limits if words not in text]
    with pytest.raises(ValueError, match="200"):
        Task(type="t", id="x" * 201)


def test_what_was_struck_is_what_the_report_says_of_every_backend() -> None:
    report = (ROOT / "tests" / "crash" / "REPORT.md").read_text(encoding="utf-8")
    shown = [line for line in section("What was struck, and what held").splitlines() if line.startswith("|")]
    assert "\n".join(shown) in report, "run make crash-report"
    rows = cells("\n".join(shown))[1:]
    assert [row[0] for row in rows] == [*HOMES]
    assert {row[-1].strip("| ") for row in rows} == {"0"}, "a violation is no news for a README, but a fault to mend"
    assert "What is not promised" in report


def test_every_room_is_on_the_map() -> None:
    named = {word.strip("/") for word in re.findall(r"`([\w/]+)`", section("The rooms"))}
    rooms = {f"tq/{path.parent.name}" for path in (ROOT / "tq").glob("*/__init__.py")}
    assert rooms - named == set(), "a room is missing on the map"
    assert {f"adapters/{name}" for name in adapters()} <= named
    assert not [name for name in named if "/" in name and not (ROOT / name).exists()], "no such room"


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    assert targets
    assert not [target for target in targets if not (ROOT / target).exists()]


def test_commands_are_targets_of_the_makefile() -> None:
    known = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z]+)", README, flags=re.MULTILINE)) <= known


def test_lines_are_of_the_houses_width() -> None:
    assert not [number for number, line in enumerate(README.splitlines(), start=1) if len(line) > 120]
