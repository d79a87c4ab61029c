"""What all commands have in common: where they look, and how they fail."""

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.conftest import Shop, Tq

Read = Callable[..., dict[str, Any]]


def test_url_may_stand_before_the_command_or_after_it_or_in_the_environment(
    goods: Shop, read: Read, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goods.add(1)
    (home / "tq.db").rename(home / "other.db")
    other = "sqlite:///other.db"
    assert len(read("--url", other, "tasks")["tasks"]) == 1
    assert len(read("--url", "sqlite:///nothing.db", "tasks", "--url", other)["tasks"]) == 1
    monkeypatch.setenv("TQ_URL", other)
    assert len(read("tasks")["tasks"]) == 1


def test_json_may_stand_before_the_command(goods: Shop, tq: Tq) -> None:
    goods.work()
    assert tq("--json", "tasks").stdout.startswith("{")


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("nonsense", "url is refused"),
        ("carrier-pigeon://loft", "no adapter takes carrier-pigeon:// URLs"),
        ("sqlite:///missing.db", "there is no file missing.db"),
        ("sqlite://", "a database in memory holds nothing"),
        ("http://[", "url is refused"),
        ("sqlite:///foreign.db", "belongs to another program"),
        ("sqlite:///text.db", "is not a database"),
    ],
)
def test_a_wrong_url_is_one_line_and_exit_code_1(home: Path, tq: Tq, url: str, told: str) -> None:
    with sqlite3.connect(home / "foreign.db") as foreign:
        foreign.execute("CREATE TABLE theirs (id INTEGER)")
    foreign.close()
    (home / "text.db").write_text("a diary")
    stderr = tq("tasks", "--url", url, code=1).stderr
    assert stderr.startswith("tq: ")
    assert told in stderr
    assert stderr.count("\n") == 1


def test_looking_makes_no_database(home: Path, tq: Tq) -> None:
    tq("tasks", code=1)
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("ask", [["--debug", "flow", "nobody"], ["flow", "nobody", "--debug"]])
def test_debug_shows_where_an_error_comes_from(goods: Shop, tq: Tq, ask: list[str]) -> None:
    goods.work()
    assert "Traceback" in tq(*ask, code=1).stderr
    assert "Traceback" not in tq("flow", "nobody", code=1).stderr


def test_debug_may_be_asked_for_by_the_environment(goods: Shop, tq: Tq, monkeypatch: pytest.MonkeyPatch) -> None:
    goods.work()
    monkeypatch.setenv("TQ_DEBUG", "1")
    assert "Traceback" in tq("flow", "nobody", code=1).stderr


@pytest.mark.parametrize(
    "mistyped", [["taskz"], ["tasks", "--limit", "0"], ["tasks", "--limit", "x"], ["flow"], ["--nope"]]
)
def test_what_was_mistyped_is_exit_code_2(tq: Tq, mistyped: list[str]) -> None:
    assert "Traceback" not in tq(*mistyped, code=2).stderr


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_a_missing_extra_says_what_to_install(missing: str, home: Path) -> None:
    program = f"import sys; sys.modules[{missing!r}] = None; sys.argv = ['tq', 'demo']; import tq.cli; tq.cli.main()"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr == "tq: the command line needs typer and rich: pip install 'tq-tasks[cli]'\n"


def test_a_reader_that_has_seen_enough_is_no_error(goods: Shop) -> None:
    goods.add(*range(2000))
    pipe = f"{sys.executable} -m tq.cli tasks --limit 2000 | head -n 1; echo ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", pipe], capture_output=True, text=True, check=False)
    assert ended.stdout.splitlines()[1] == "0"
    assert ended.stderr == ""
