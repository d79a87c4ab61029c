"""The file that was opened, and whether its name still stands for it."""

from __future__ import annotations

import os
from pathlib import Path

from tq.errors import BackendUnavailableError, DatabaseGoneError

__all__ = ["OpenedFile", "check_folder"]


class OpenedFile:
    """Knows a file by its inode: one that was deleted goes on to take what is written, and nobody will ever read it."""

    def __init__(self, path: str) -> None:
        self._path = Path(path).absolute()  # the current folder may change
        self._identity = self._look()

    def _look(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._path)  # noqa: PTH116 -- with every transaction: half the way
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def check(self) -> None:
        """Refuse to go on with a file that is not there any more.

        Raises:
            DatabaseGoneError: it was deleted, moved away, or replaced by another one.
        """
        if (there := self._look()) != self._identity:
            what = "was deleted or moved away" if there is None else "was replaced by another file"
            raise DatabaseGoneError(
                f"{self._path} {what} while it was open: put it back, or start this process again to work on "
                f"{'a new one' if there is None else 'that one'}"
            )


def check_folder(path: str) -> None:
    """Say which folder is missing; SQLite only says that it cannot open the file.

    Raises:
        BackendUnavailableError: there is no such folder.
    """
    folder = Path(path).absolute().parent
    if not folder.is_dir():
        raise BackendUnavailableError(f"{path} cannot be opened: there is no folder {folder}")
