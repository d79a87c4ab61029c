"""The demo: a folder as one flow, a report, and runs that follow one another."""

import asyncio
import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tq import TaskHandler
from tq.cli.demo.executors import make_executors
from tq.cli.demo.report import partial
from tq.cli.demo.runs import find_or_start
from tq.cli.demo.settings import DemoSettings
from tq.cli.program import program

pytestmark = pytest.mark.realtime

Demo = Callable[..., Result]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of twelve files: text, the same text again, empty, binary, and one that cannot be read."""
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    for index in range(5):
        (folder / f"text-{index}.txt").write_text(f"{index} words\n" * (index + 1))
    (folder / "deep" / "same.txt").write_text("twice\n")
    (folder / "same.txt").write_text("twice\n")
    (folder / "empty-1").touch()
    (folder / "empty-2").touch()
    (folder / "binary").write_bytes(b"\0\1\2")
    (folder / "latin").write_bytes(b"caf\xe9")
    (folder / "unreadable").symlink_to("nowhere")
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    return home


@pytest.fixture
def demo(home: Path) -> Demo:
    """Run the demo in this process."""

    def run(*arguments: object, code: int = 0) -> Result:
        result = CliRunner().invoke(program, ["demo", *map(str, arguments)], prog_name="tq")
        assert result.exit_code == code, (result.exception, result.output)
        return result

    return run


def report(home: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((home / "report.json").read_text())
    return found


def test_every_file_is_in_the_report_once(demo: Demo, folder: Path, home: Path) -> None:
    printed = demo(folder).stdout
    found = report(home)
    assert printed.startswith(f"Beginning run 1 over {folder}: 12 files.\n")
    assert "9 files measured, 3 failed: 17 lines" in printed
    assert {name: found["totals"][name] for name in ("files", "measured", "failed")} == {
        "files": 12,
        "measured": 9,
        "failed": 3,
    }
    assert found["failed"] == [
        {"path": "binary", "error": "binary: a zero byte at 0"},
        {"path": "latin", "error": "binary: not UTF-8"},
        {"path": "unreadable", "error": "unreadable: No such file or directory"},
    ]
    assert [group["paths"] for group in found["duplicates"]] == [["deep/same.txt", "same.txt"], ["empty-1", "empty-2"]]
    for file in found["files"]:
        content = (folder / file["path"]).read_bytes()
        assert (file["size"], file["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
        assert file["lines"] == len(content.splitlines())
        assert file["words"] == len(content.split())


def test_a_finished_run_is_followed_by_a_new_one_with_the_same_report(demo: Demo, folder: Path, home: Path) -> None:
    demo(folder)
    first = report(home)
    assert f"Run 1 has ended; beginning run 2 over {folder}: 12 files." in demo(folder).stdout
    second = report(home)
    assert (first.pop("meta")["run"], second.pop("meta")["run"]) == (1, 2)
    assert first == second


def test_json_is_the_report_without_its_files(demo: Demo, folder: Path, home: Path) -> None:
    printed = json.loads(demo(folder, "--json").stdout)
    found = report(home)
    del found["files"]
    assert printed == found


def test_a_folder_without_files_joins_at_once(demo: Demo, folder: Path, home: Path) -> None:
    (folder.parent / "bare").mkdir()
    assert "0 files measured, 0 failed" in demo(folder.parent / "bare").stdout
    assert report(home)["totals"]["files"] == 0


def test_the_demo_does_not_measure_what_it_writes(demo: Demo, home: Path) -> None:
    (home / "only.txt").write_text("x")
    for _ in range(2):
        demo(".")
        assert [file["path"] for file in report(home)["files"]] == ["only.txt"]


def test_runs_over_other_folders_are_left_alone(demo: Demo, folder: Path, home: Path) -> None:
    other = folder / "deep"
    start_only(DemoSettings(folder=other, database=home / "tq-demo.db", report=home / "other.json"))
    assert "Beginning run 1" in demo(folder).stdout
    assert "Resuming run 1" in demo(other, "--report", "other.json").stdout
    assert json.loads((home / "other.json").read_text())["totals"]["files"] == 1


def start_only(settings: DemoSettings) -> None:
    """Do what a process does that is killed after the flow is stored and before anything has run."""

    async def start() -> None:
        async with TaskHandler.connect(settings.url, make_executors(settings)) as handler:
            await find_or_start(handler, settings)

    asyncio.run(start())


def test_a_run_that_was_only_begun_is_resumed_with_the_files_of_its_beginning(
    demo: Demo, folder: Path, home: Path
) -> None:
    start_only(DemoSettings(folder=folder, database=home / "tq-demo.db", report=home / "report.json"))
    (folder / "new.txt").touch()
    assert f"Resuming run 1 over {folder}: 0 of 12 files are done." in demo(folder).stdout
    assert "beginning run 2" in demo(folder).stdout
    assert report(home)["totals"]["files"] == 13


def test_the_flow_has_a_projection_row(demo: Demo, folder: Path, home: Path) -> None:
    demo(folder)
    with sqlite3.connect(home / "tq-demo.db") as db:
        rows = db.execute("SELECT entity_type, entity_id, status, task_type, result FROM tq_projections").fetchall()
    db.close()
    ((entity_type, entity_id, status, task_type, result),) = rows
    assert (entity_type, entity_id, status, task_type) == ("demo.folder", str(folder), "executed", "demo.report")
    assert json.loads(result)["files"] == 12


def test_ctrl_c_stops_and_the_same_command_goes_on(demo: Demo, folder: Path, home: Path) -> None:
    command = [sys.executable, "-m", "tq.cli", "demo", str(folder), "--slow", "0.3", "--concurrency", "2"]
    with subprocess.Popen(command, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "Beginning run 1" in process.stdout.readline()
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=60)
    assert process.returncode == 130
    assert complaint.startswith("tq: stopped after ")
    assert complaint.endswith(" of 12 files; the same command goes on from here\n")
    began = time.monotonic()
    assert "Resuming run 1" in demo(folder).stdout
    assert time.monotonic() - began < 4, "what was given back at the stop must not wait for its lease"
    assert report(home)["totals"]["files"] == 12


def test_a_report_that_cannot_be_written_is_tried_again_by_the_next_call(demo: Demo, folder: Path, home: Path) -> None:
    partial(home / "report.json").mkdir()
    assert "the report could not be written: " in demo(folder, code=1).stderr
    partial(home / "report.json").rmdir()
    assert "Resuming run 1" in demo(folder).stdout
    assert report(home)["meta"]["run"] == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere"], "is not a folder"),
        (["--report", "nowhere/report.json"], "give a file in a folder that exists"),
        (["--report", "."], "give a file in a folder that exists"),
        (["--slow", "-1"], "--slow"),
        (["--concurrency", "0"], "--concurrency"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(demo: Demo, home: Path, arguments: list[str], told: str) -> None:
    assert told in " ".join(demo(*arguments, code=2).stderr.split())
    assert list(home.iterdir()) == []


def test_a_database_of_another_program_is_left_as_it_is(demo: Demo, folder: Path, home: Path) -> None:
    (home / "tq-demo.db").write_text("a diary")
    stderr = demo(folder, code=1).stderr
    assert stderr.startswith("tq: ")
    assert stderr.count("\n") == 1
    assert (home / "tq-demo.db").read_text() == "a diary"


def test_without_a_folder_the_demo_measures_tq_itself(demo: Demo, home: Path) -> None:
    demo("--database", home / "db" / "kept.db")
    assert "tq/cli/demo/measure.py" in [file["path"] for file in report(home)["files"]]
    assert (home / "db" / "kept.db").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_does_not_hold_the_demo_up(demo: Demo, folder: Path, home: Path) -> None:
    os.mkfifo(folder / "pipe")
    demo(folder)
    assert {"path": "pipe", "error": "unreadable: not a regular file"} in report(home)["failed"]
