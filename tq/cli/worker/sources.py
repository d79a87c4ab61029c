"""Notices that source files have changed, by looking at their times now and then."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["Sources"]

PASSED_OVER = frozenset({"__pycache__", "node_modules", "site-packages"})


class Sources:
    """The Python files below a folder; hidden folders and virtual environments are passed over."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen = self._look()

    def changed(self) -> list[str]:
        """Return files that were changed, made or removed since the last call, sorted."""
        before, self._seen = self._seen, self._look()
        return sorted({name for name, _ in before.items() ^ self._seen.items()})

    def _look(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for parent, folders, names in os.walk(self._folder):
            if "pyvenv.cfg" in names:
                folders.clear()
                continue
            folders[:] = [name for name in folders if not (name.startswith(".") or name in PASSED_OVER)]
            for name in names:
                if name.endswith(".py"):
                    file = Path(parent, name)
                    try:
                        found[os.fspath(file.relative_to(self._folder))] = file.stat().st_mtime_ns
                    except OSError:  # removed while we look
                        continue
        return found
