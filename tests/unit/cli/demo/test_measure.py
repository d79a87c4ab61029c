"""One file is measured right, wherever its pieces are cut."""

import hashlib
import os
from pathlib import Path

import pytest

from tq.cli.demo import measure as measuring
from tq.cli.demo.files import SourceFile
from tq.cli.demo.measure import measure
from tq.errors import NonRetryableError


def file_of(folder: Path, content: bytes) -> SourceFile:
    (folder / "file.txt").write_bytes(content)
    return SourceFile(str(folder), "file.txt")


@pytest.mark.parametrize("at_once", [1, 2, 3, 7, 1 << 20])
@pytest.mark.parametrize(
    ("content", "lines", "words", "longest"),
    [
        (b"", 0, 0, 0),
        (b"\n", 1, 0, 0),
        (b"one two\nthree", 2, 3, 7),
        (b"one two\nthree\n", 2, 3, 7),
        (b"\r\nwindows line\r\n", 2, 2, 12),
        ("größer – 漢字\n\n x ".encode(), 3, 4, 11),
        (b"  spaces   between  \n", 1, 2, 20),
    ],
)
def test_counts(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    at_once: int,
    content: bytes,
    lines: int,
    words: int,
    longest: int,
) -> None:
    monkeypatch.setattr(measuring, "AT_ONCE", at_once)
    found = measure(file_of(tmp_path, content))
    assert (found.lines, found.words, found.longest_line) == (lines, words, longest)
    assert (found.size, found.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert found.path == "file.txt"


@pytest.mark.parametrize("at_once", [2, 1 << 20])
@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"text\0text", "binary: a zero byte at 4"),
        (b"text\xff", "binary: not UTF-8"),
        ("ü".encode()[:1], "binary: not UTF-8"),
    ],
)
def test_what_is_no_text_fails_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int, content: bytes, error: str
) -> None:
    monkeypatch.setattr(measuring, "AT_ONCE", at_once)
    with pytest.raises(NonRetryableError, match=error):
        measure(file_of(tmp_path, content))


def test_what_cannot_be_read_fails_for_good(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("nowhere")
    for name, error in (
        ("folder", "Is a directory|not a regular file"),
        ("pipe", "not a regular file"),
        ("link", "No such file"),
        ("never", "No such file"),
    ):
        with pytest.raises(NonRetryableError, match=f"unreadable: .*({error})"):
            measure(SourceFile(str(tmp_path), name))
