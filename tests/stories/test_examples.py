"""The examples run, and print what they say they print."""

import re
import runpy
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = [
    pytest.mark.realtime,
    pytest.mark.skipif(not EXAMPLES.exists(), reason="an unpacked distribution has no examples"),
]


def run(name: str, home: Path) -> str:
    ended = subprocess.run(
        [sys.executable, EXAMPLES / name], cwd=home, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    return ended.stdout


def test_the_quickstart_prints_what_it_promises(tmp_path: Path) -> None:
    printed = run("quickstart.py", tmp_path).strip()
    assert printed == "half a sky"
    assert f"it says `{printed}`" in (EXAMPLES / "quickstart.py").read_text()


def test_classes_run_one_at_a_time_side_by_side_or_in_groups(tmp_path: Path) -> None:
    lines = run("class_executors.py", tmp_path).splitlines()
    assert "the balance is 10" in lines
    assert "importing 3 rows in one go" in lines
    assert "dead: row 0 has no name" in lines
    assert {line.split(", ")[1] for line in lines if line.startswith("fetching")} == {"1 at a time", "2 at a time"}


def test_the_dashboard_s_questions_have_answers(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("a.txt", "b.txt", "c.txt"):
        (folder / name).write_text(name)
    (folder / "d.bin").write_bytes(b"\0")
    demo = [sys.executable, "-m", "tq.cli", "demo", str(folder)]
    subprocess.run(demo, cwd=tmp_path, capture_output=True, timeout=60, check=True)
    text = "\n".join(
        line for line in (EXAMPLES / "dashboard.sql").read_text().splitlines() if not line.startswith("--")
    )
    db = sqlite3.connect(f"file:{tmp_path / 'tq-demo.db'}?mode=ro", uri=True)
    answers = [db.execute(question).fetchall() for question in text.split(";") if question.strip()]
    db.close()
    entities, endings, errors, open_flows, waiting = answers
    assert [row[:4] for row in entities] == [("demo.folder", str(folder), "demo.report", "executed")]
    assert [row[2:] for row in endings] == [
        ("demo.measure", "executed", 3),
        ("demo.measure", "failed", 1),
        ("demo.report", "executed", 1),
    ]
    assert [row[:3] for row in errors] == [("demo.measure", "binary: a zero byte at 0", 1)]
    assert (open_flows, waiting) == ([], [])


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_importing_an_example_runs_nothing(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / name), run_name="imported")
    assert list(tmp_path.iterdir()) == []


def test_the_adapter_of_somebody_else_stands_on_the_kit_alone() -> None:
    kit = {"clock", "codec", "errors", "ids", "lifecycle", "model", "ports"}
    files = sorted((EXAMPLES / "tq_file" / "tq_file").glob("*.py"))
    used = {name for path in files for name in re.findall(r"^from tq\.(\w+)", path.read_text(), flags=re.MULTILINE)}
    assert used
    assert used <= kit
    assert not [path for path in files if re.search(r"^(from tq import|import tq)", path.read_text(), re.MULTILINE)]
