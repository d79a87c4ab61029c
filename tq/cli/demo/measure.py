"""One step: read one file and say what is in it. Knows nothing of tq but how to fail for good."""

from __future__ import annotations

import codecs
import hashlib
import io
import os
import stat
from dataclasses import dataclass

from tq.errors import NonRetryableError

from .files import SourceFile

__all__ = ["Measures", "measure"]

AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """What a text file holds; `longest_line` counts characters."""

    path: str
    size: int
    lines: int
    words: int
    longest_line: int
    sha256: str


def measure(file: SourceFile) -> Measures:
    """Read a file, however large, piece by piece.

    Raises:
        NonRetryableError: it cannot be read, or is no text; reading it again would change nothing.
    """
    try:
        return _measure(file)
    except OSError as error:
        raise NonRetryableError(f"unreadable: {error.strerror or error}") from error


def _measure(file: SourceFile) -> Measures:
    # Without O_NONBLOCK a pipe that nobody writes to would hold the step for ever.
    descriptor = os.open(file.place, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with open(descriptor, "rb") as opened:  # noqa: PTH123 -- it is opened already
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NonRetryableError("unreadable: not a regular file")
        text, digest, size = _Text(), hashlib.sha256(), 0
        while piece := opened.read(AT_ONCE):
            digest.update(piece)
            text.add(piece, size)
            size += len(piece)
        text.add(b"", size, final=True)
    return Measures(
        path=file.path,
        size=size,
        lines=text.lines + (text.line > 0),
        words=text.words,
        longest_line=max(text.longest, text.line),
        sha256=digest.hexdigest(),
    )


class _Text:
    """Counts in text that comes in pieces, which may end within a character, a word or a line."""

    def __init__(self) -> None:
        self.lines = 0
        """Line ends seen."""
        self.words = 0
        self.longest = 0
        self.line = 0
        """Characters since the last line end."""
        self._in_word = False
        self._decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")(), translate=True)

    def add(self, piece: bytes, offset: int, *, final: bool = False) -> None:
        if (zero := piece.find(0)) >= 0:
            raise NonRetryableError(f"binary: a zero byte at {offset + zero}")
        try:
            text = self._decoder.decode(piece, final)
        except UnicodeDecodeError as error:
            raise NonRetryableError("binary: not UTF-8") from error
        if not text:
            return
        self.words += len(text.split()) - (self._in_word and not text[0].isspace())
        self._in_word = not text[-1].isspace()
        first, *others = text.split("\n")
        self.line += len(first)
        if others:
            *middle, last = others
            self.longest = max(self.longest, self.line, *(len(line) for line in middle), 0)
            self.lines += len(others)
            self.line = len(last)
