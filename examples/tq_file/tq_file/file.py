"""The file: read as a whole, and replaced as a whole, so that a call takes effect in full or not at all."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tq.errors import (
    BackendUnavailableError,
    ContentRefusedError,
    DatabaseFullError,
    ForeignDatabaseError,
    ReadOnlyDatabaseError,
)
from tq.model import Message

from .book import Book, Row

__all__ = ["opened", "seen"]

FORMAT = 1
"""Stands in the file: what a newer version wrote is refused, not misread."""


@contextmanager
def opened(path: Path) -> Generator[Book, None, None]:
    """Give what stands in the file, to be changed; it is written when the block ends, unless by an exception."""
    with errors_of(path), path.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # let go when the file is closed, or the process dies
        book = read(path)
        yield book
        new = path.with_suffix(".new")
        with new.open("wb") as file:
            file.write(written(book, path))
            file.flush()
            os.fsync(file.fileno())  # durable is what survives the loss of power
        new.replace(path)


def seen(path: Path) -> Book:
    """Return what stands in the file."""
    with errors_of(path):
        return read(path)


def read(path: Path) -> Book:
    """Return what stands in the file, or an empty book where there is none.

    Raises:
        ForeignDatabaseError: it is somebody else's, or a newer version's.
    """
    try:
        told = json.loads(path.read_bytes())
        if told["format"] != FORMAT:
            raise ForeignDatabaseError(f"{path} has format {told['format']}, this version knows {FORMAT}; upgrade it")
        rows = [Row(**row | {"message": message_of(row["message"])}) for row in told["rows"]]
    except FileNotFoundError:
        return Book()
    except (ValueError, TypeError, KeyError) as error:
        raise ForeignDatabaseError(f"{path} is no file of this queue; give another path") from error
    return Book(
        rows={row.message.id: row for row in rows},
        numbers=told["numbers"],
        paused=set(told["paused"]),
        workers={worker: (until, queues) for worker, (until, queues) in told["workers"].items()},
    )


def written(book: Book, path: Path) -> bytes:
    """Return the bytes of a book.

    Raises:
        ContentRefusedError: a text that UTF-8 cannot hold, or a number that is none.
    """
    told: dict[str, Any] = {
        "format": FORMAT,
        "numbers": book.numbers,
        "paused": sorted(book.paused),
        "workers": book.workers,
        "rows": [asdict(row) | {"message": fields_of(row.message)} for row in book.rows.values()],
    }
    try:
        return json.dumps(told, ensure_ascii=False, allow_nan=False).encode()
    except ValueError as error:
        raise ContentRefusedError(f"{path} cannot hold this value: {error}") from error


def fields_of(message: Message) -> dict[str, Any]:
    """Return a message as JSON has it: bytes as the characters of the same numbers."""
    return message._asdict() | {"body": message.body.decode("latin-1"), "stats": message.stats.decode("latin-1")}


def message_of(fields: dict[str, Any]) -> Message:
    """Return the message again."""
    return Message(**fields | {"body": fields["body"].encode("latin-1"), "stats": fields["stats"].encode("latin-1")})


@contextmanager
def errors_of(path: Path) -> Generator[None, None, None]:
    """Raise errors of tq in place of the system's: an adapter lets nothing else through.

    Raises:
        BackendError: its branch says whether trying again may help; the message names the file and the way out.
    """
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DatabaseFullError(f"no room is left for {path}; free some") from error
        if error.errno in {errno.EROFS, errno.EACCES, errno.EPERM}:
            raise ReadOnlyDatabaseError(f"{path} cannot be written to; see who may write in its folder") from error
        raise BackendUnavailableError(f"{path} cannot be used: {error.strerror}; is its folder there?") from error
