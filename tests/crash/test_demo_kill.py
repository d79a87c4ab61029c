"""The demo is killed with SIGKILL, again and again; its report is the report of a run that nobody disturbed."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.crash, pytest.mark.realtime]

LAST = 120.0


def folder_of(count: int, place: Path) -> Path:
    """Make a folder of text files, with some that are empty, binary, the same, or not there."""
    for index in range(count):
        file = place / f"{index % 7}" / f"{index:05}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        match index % 20:
            case 3:
                file.write_bytes(b"")
            case 5:
                file.write_bytes(b"text\0%d" % index)
            case 7:
                file.symlink_to("nowhere")
            case 11:
                file.write_text("the same everywhere\n")
            case _:
                file.write_text(f"line {index}\n" * (index % 50))
    return place


def start(folder: Path, home: Path, *options: str) -> subprocess.Popen[str]:
    """Start the demo in a folder of its own."""
    home.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "tq.cli", "demo", str(folder), *options]
    return subprocess.Popen(
        command, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def finish(folder: Path, home: Path, *options: str) -> str:
    """Run the demo to its end and return what it printed."""
    with start(folder, home, *options) as process:
        printed, complaint = process.communicate(timeout=LAST)
    assert process.returncode == 0, complaint
    return printed


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate(timeout=LAST)


def killed_while_writing(folder: Path, home: Path) -> bool:
    """Kill the demo as soon as its report is begun; False where the report was done by then."""
    process = start(folder, home)
    until = time.monotonic() + LAST
    while not (home / ".report.json.partial").exists() and process.poll() is None:
        assert time.monotonic() < until
    kill(process)
    return not (home / "report.json").exists()


def said(process: subprocess.Popen[str]) -> str:
    """Return the first line, which is printed when the run is stored and before anything of it runs."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def report(home: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((home / "report.json").read_text())
    return found


def sound(found: dict[str, Any], count: int) -> None:
    """Check that nothing is missing and nothing is there twice."""
    named = [file["path"] for file in (*found["files"], *found["failed"])]
    assert len(named) == len(set(named)) == found["totals"]["files"] == count


def test_ten_kills_at_random_moments_change_nothing_in_the_report(tmp_path: Path) -> None:
    seed = int(os.environ.get("TQ_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
    print(f"TQ_SEED={seed}")
    moments = random.Random(seed)
    folder = folder_of(600, tmp_path / "folder")
    began = time.monotonic()
    finish(folder, tmp_path / "calm")
    usual = time.monotonic() - began  # how long a start takes depends on what else this machine does
    home = tmp_path / "killed"
    for number in range(10):
        process = start(folder, home, "--slow", "0.1", "--concurrency", "4")
        if number % 3 == 0:
            moment, since = moments.uniform(0.0, usual), "its start"
        else:
            moment, since = moments.uniform(0.0, 0.8), said(process)
        time.sleep(moment)
        assert process.poll() is None, f"it ended before kill {number}"
        kill(process)
        print(f"killed {moment:.3f} s after {since}")
    printed = finish(folder, home)
    assert "Resuming run 1" in printed
    calm, killed = report(tmp_path / "calm"), report(home)
    sound(killed, 600)
    assert (calm.pop("meta")["run"], killed.pop("meta")["run"]) == (1, 1)
    assert killed == calm


def test_a_kill_while_the_join_writes_leaves_no_half_report(tmp_path: Path) -> None:
    folder = folder_of(3000, tmp_path / "folder")
    finish(folder, tmp_path / "calm")
    for attempt in range(10):  # on a busy machine the report may be done before the signal arrives
        home = tmp_path / f"killed-{attempt}"
        if killed_while_writing(folder, home):
            break
    else:
        pytest.fail("the join was too quick, ten times over")
    assert "Resuming run 1" in finish(folder, home)
    calm, killed = report(tmp_path / "calm"), report(home)
    sound(killed, 3000)
    assert (calm.pop("meta")["run"], killed.pop("meta")["run"]) == (1, 1)
    assert killed == calm
    assert not (home / ".report.json.partial").exists()
