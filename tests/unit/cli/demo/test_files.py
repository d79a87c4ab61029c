"""Every file of a folder is found, and each can be named in a payload."""

import os
from pathlib import Path

import pytest

from tq.cli.demo.files import SourceFile, find_files, own_sources


def paths(folder: Path, *, everything: bool = False) -> list[str]:
    return [file.path for file in find_files(folder, everything=everything)]


def test_files_are_sorted_by_path_and_caches_are_passed_over(tmp_path: Path) -> None:
    for name in ("b/z.txt", "a.txt", "b/a/x.txt", ".hidden", ".git/config", "b/__pycache__/x.pyc", "node_modules/x.js"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert paths(tmp_path) == [".hidden", "a.txt", "b/a/x.txt", "b/z.txt"]
    assert len(paths(tmp_path, everything=True)) == 7


def test_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(".")
    (tmp_path / "same").symlink_to("file")
    assert paths(tmp_path) == ["file", "same"]


def test_files_may_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "own").touch()
    assert [file.path for file in find_files(tmp_path, but=[tmp_path / "own"])] == ["file"]


def test_a_name_that_is_no_text_is_carried_as_bytes(tmp_path: Path) -> None:
    try:
        (tmp_path / os.fsdecode(b"caf\xe9")).write_text("x")
    except OSError:
        pytest.skip("this file system refuses such names")
    (file,) = find_files(tmp_path)
    assert file == SourceFile(str(tmp_path), "caf\\xe9", b"caf\xe9".hex())
    assert file.place.read_text() == "x"


def test_a_folder_that_cannot_be_listed_stands_for_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "file").touch()
    scandir = os.scandir

    def refusing(path: str) -> object:
        if path.endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert paths(tmp_path) == ["closed"]


def test_the_project_s_own_sources_hold_this_package() -> None:
    assert "tq/cli/demo/files.py" in [file.path for file in find_files(own_sources())]
