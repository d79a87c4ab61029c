"""Which files a folder has, and how each is named in a payload."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

__all__ = ["SourceFile", "find_files", "own_sources"]

PASSED_OVER = frozenset({"__pycache__", "node_modules"})
"""Folders that programs fill, not people; hidden folders (.git, .venv) are passed over as well."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of a folder, as a step carries it: `path` is relative to `folder` and has forward slashes."""

    folder: str
    path: str
    raw: str = ""
    """The path's bytes in hexadecimal digits where they are no UTF-8, and JSON could not carry them as text."""

    @property
    def place(self) -> Path:
        """Where the file is."""
        relative = os.fsdecode(bytes.fromhex(self.raw)) if self.raw else self.path
        return Path(self.folder, relative)


def find_files(folder: Path, *, everything: bool = False, but: Collection[Path] = ()) -> list[SourceFile]:
    """Return the files below a folder, by path; links to folders are not followed.

    A folder that cannot be listed stands for the files it hides, so that its step, and the report, can say so.

    Args:
        folder: an absolute path.
        everything: whether folders that are usually passed over are looked into.
        but: files that are left out.
    """
    found: list[str] = []

    def note(error: OSError) -> None:
        found.append(str(error.filename))

    for parent, folders, names in os.walk(folder, onerror=note):
        if not everything:
            folders[:] = [name for name in folders if not (name.startswith(".") or name in PASSED_OVER)]
        found += [os.path.join(parent, name) for name in names]  # noqa: PTH118 -- a Path per file doubles the time
    left_out = {os.fspath(path) for path in but}
    return sorted((_named(folder, place) for place in found if place not in left_out), key=lambda file: file.path)


def _named(folder: Path, place: str) -> SourceFile:
    relative = os.path.relpath(place, folder).replace(os.sep, "/")
    try:
        relative.encode()
    except UnicodeEncodeError:
        raw = os.fsencode(relative)
        return SourceFile(str(folder), raw.decode("utf-8", "backslashreplace"), raw.hex())
    return SourceFile(str(folder), relative)


def own_sources() -> Path:
    """Return the folder of tq's own sources: the whole project in a checkout, else the installed package."""
    package = Path(__file__).resolve().parents[2]
    return package.parent if (package.parent / "pyproject.toml").is_file() else package
