"""Changes of Python files are noticed; those of others are not."""

import os
from pathlib import Path

from tq.cli.worker.sources import Sources


def write(file: Path) -> None:
    before = file.stat().st_mtime_ns if file.exists() else 0
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("pass")
    os.utime(file, ns=(before + 10**9, before + 10**9))


def test_files_made_changed_and_removed_are_named_once(tmp_path: Path) -> None:
    write(tmp_path / "stays.py")
    write(tmp_path / "deep" / "changes.py")
    write(tmp_path / "goes.py")
    sources = Sources(tmp_path)
    assert sources.changed() == []
    write(tmp_path / "deep" / "changes.py")
    write(tmp_path / "comes.py")
    (tmp_path / "goes.py").unlink()
    assert sources.changed() == ["comes.py", "deep/changes.py", "goes.py"]
    assert sources.changed() == []


def test_what_people_do_not_write_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "venv" / "pyvenv.cfg")
    sources = Sources(tmp_path)
    for name in (".hidden/a.py", "__pycache__/a.py", "venv/lib/a.py", "notes.txt"):
        write(tmp_path / name)
    assert sources.changed() == []
