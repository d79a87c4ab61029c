"""The report says the same whatever order the entries come in, and is written whole or not at all."""

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tq.cli.demo.report import FailedFile, build_report, partial, write_report
from tq.cli.demo.summary import summary_lines


def measured(path: str, size: int, sha256: str) -> Mapping[str, Any]:
    return {"path": path, "size": size, "lines": size, "words": 2, "longest_line": size % 7, "sha256": sha256}


FILES = [measured(f"{index:02}", index % 9, f"{index % 15}") for index in range(30)]
FAILED = [FailedFile("b", "binary"), FailedFile("a", "unreadable")]


def test_the_order_of_entries_makes_no_difference() -> None:
    calm = build_report(FILES, FAILED, {})
    for seed in range(20):
        shuffled, failed = list(FILES), list(FAILED)
        random.Random(seed).shuffle(shuffled)
        random.Random(seed).shuffle(failed)
        assert json.dumps(build_report(shuffled, failed, {})) == json.dumps(calm)


def test_totals_largest_and_duplicates() -> None:
    report = build_report(
        [measured("x", 5, "same"), measured("y", 5, "same"), measured("z", 9, "other")], FAILED, {"run": 1}
    )
    assert report["totals"] == {
        "files": 5,
        "measured": 3,
        "failed": 2,
        "bytes": 19,
        "lines": 19,
        "words": 6,
        "longest_line": {"path": "x", "characters": 5},
    }
    assert report["largest"][0] == {"path": "z", "size": 9}
    assert report["duplicates"] == [{"sha256": "same", "size": 5, "paths": ["x", "y"]}]
    assert [failure["path"] for failure in report["failed"]] == ["a", "b"]
    assert report["meta"] == {"run": 1}


def test_only_ten_are_the_largest() -> None:
    assert len(build_report(FILES, [], {})["largest"]) == 10


def test_a_report_of_nothing_is_a_report() -> None:
    report = build_report([], [], {})
    assert report["totals"]["files"] == 0
    assert report["totals"]["longest_line"] is None
    assert list(summary_lines(report)) == ["0 files measured, 0 failed: 0 lines, 0 words, 0 bytes"]


def test_the_summary_says_how_much_it_leaves_out() -> None:
    files = [measured(f"{index}/{copy}", index, f"{index}") for index in range(1, 13) for copy in range(6)]
    failed = [FailedFile(f"f{index:02}", "\x1b[2J") for index in range(11)]
    text = "\n".join(summary_lines(build_report(files, failed, {})))
    assert "12 bytes: 12/0, 12/1, 12/2, 12/3 and 2 more" in text
    assert "and 2 more groups; the report has them all" in text
    assert "and 1 more files; the report has them all" in text
    assert "\x1b" not in text


def test_a_report_that_cannot_be_written_whole_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_report({"first": 1}, path)
    with pytest.raises(TypeError):
        write_report({"second": object()}, path)
    assert json.loads(path.read_text()) == {"first": 1}
    write_report({"third": 3}, path)
    assert json.loads(path.read_text()) == {"third": 3}
    assert not partial(path).exists()
