"""The only place that prints: tables and words for people, JSON for programs, one line for an error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, NoReturn

import typer

from .text import plain, shortened

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["console", "document", "fail", "line", "note", "silence", "table", "tree"]

STYLES: Mapping[str, str] = {
    "executed": "green",
    "completed": "green",
    "success": "green",
    "processing": "cyan",
    "open": "cyan",
    "failed": "red",
    "aborted": "red",
    "fail": "red",
    "timed_out": "yellow",
    "paused": "yellow",
    "cancelled": "yellow",
    "expired": "yellow",
}
"""Words that are coloured where they are all that a cell says."""
GAP = 2
NARROWEST = 20


def console() -> Console:
    """Return a console on standard output, as it is now."""
    from rich.console import Console  # noqa: PLC0415 -- half of a start's time, and not needed for JSON

    return Console(highlight=False, markup=False)


def line(text: str, *, now: bool = False) -> None:
    """Print one line; `now` is for what somebody waits for, while more is to come."""
    print(text, flush=now)


def note(text: str) -> None:
    """Say something that is no output."""
    print(text, file=sys.stderr)


def document(value: object) -> None:
    """Print one JSON document."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=_plain_json))


def _plain_json(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
    """Print rows in columns. On a terminal they are coloured, and the last column is cut where the line ends."""
    if not rows:
        note(empty)
        return
    cells = [list(columns), *([plain("" if cell is None else cell) for cell in row] for row in rows)]
    widths = [max(len(row[index]) for row in cells) for index in range(len(columns))]
    screen = console() if sys.stdout.isatty() else None
    if screen is not None:
        widths[-1] = max(screen.width - sum(widths[:-1]) - GAP * len(widths[1:]), len(columns[-1]), NARROWEST)
    for number, row in enumerate(cells):
        last = shortened(row[-1], widths[-1])
        fitted = [cell.ljust(width) for cell, width in zip([*row[:-1], last], widths, strict=True)]
        if screen is None:
            line((" " * GAP).join(fitted).rstrip())
        else:
            _coloured(screen, fitted, header=number == 0)


def _coloured(screen: Console, cells: Sequence[str], *, header: bool) -> None:
    from rich.text import Text  # noqa: PLC0415 -- as above

    styles = ["bold" if header else STYLES.get(cell.strip(), "") for cell in cells]
    text = Text(" " * GAP).join(Text(cell, style=style) for cell, style in zip(cells, styles, strict=True))
    text.rstrip()
    screen.print(text, soft_wrap=True)  # what does not fit goes on in the next line: ids are there to be copied


def tree(head: str, branches: Sequence[tuple[str, Sequence[str]]]) -> None:
    """Print a head, its branches, and their leaves."""
    line(head)
    for number, (branch, leaves) in enumerate(branches, start=1):
        last = number == len(branches)
        line(f"{'└' if last else '├'}── {branch}")
        for place, leaf in enumerate(leaves, start=1):
            line(f"{' ' if last else '│'}   {'└' if place == len(leaves) else '├'}── {leaf}")


def fail(message: str, code: int = 1) -> NoReturn:
    """Say on one line of standard error what went wrong, and end."""
    note(f"tq: {plain(message)}")
    raise typer.Exit(code)


def silence() -> None:
    """Let nothing more be written to standard output, whose reader has gone; the interpreter would complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
