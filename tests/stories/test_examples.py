"""The examples run, and print what they say they print."""

import runpy
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.realtime

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str, home: Path) -> str:
    ended = subprocess.run(
        [sys.executable, EXAMPLES / name], cwd=home, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    return ended.stdout


def test_the_quickstart_prints_what_it_promises(tmp_path: Path) -> None:
    printed = run("quickstart.py", tmp_path)
    assert printed == "Ode to a queue has 9 words on 3 pages\n"
    assert f"prints: {printed}" in (EXAMPLES / "quickstart.py").read_text()


def test_classes_run_one_at_a_time_side_by_side_or_in_groups(tmp_path: Path) -> None:
    lines = run("class_executors.py", tmp_path).splitlines()
    assert "the balance is 10" in lines
    assert "importing 3 rows in one go" in lines
    assert "dead: row 0 has no name" in lines
    assert {line.split(", ")[1] for line in lines if line.startswith("fetching")} == {"1 at a time", "2 at a time"}


def test_the_dashboard_s_questions_have_answers(tmp_path: Path) -> None:
    run("quickstart.py", tmp_path)
    run("class_executors.py", tmp_path)
    text = "\n".join(
        line for line in (EXAMPLES / "dashboard.sql").read_text().splitlines() if not line.startswith("--")
    )
    answers: dict[str, list[list[Any]]] = {}
    for name in ("quickstart.db", "class_executors.db"):
        db = sqlite3.connect(f"file:{tmp_path / name}?mode=ro", uri=True)
        answers[name] = [db.execute(question).fetchall() for question in text.split(";") if question.strip()]
        db.close()
    entities, endings, *_ = answers["quickstart.db"]
    assert [row[:4] for row in entities] == [("Book", "Ode to a queue", "book.counted", "executed")]
    assert [row[2:] for row in endings] == [("page.count", "executed", 3)]
    assert [row[:3] for row in answers["class_executors.db"][2]] == [("rows.import", "row 0 has no name", 1)]


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_importing_an_example_runs_nothing(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / name), run_name="imported")
    assert list(tmp_path.iterdir()) == []
