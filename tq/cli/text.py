"""Values as text that is safe to print: a task's type, or a file's name, may hold whatever its maker liked."""

from __future__ import annotations

import re
from datetime import datetime

from tq.clock import to_datetime

__all__ = ["instant", "moment", "plain", "shortened"]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def plain(text: object) -> str:
    """Return a text on one line, without anything that a terminal would obey."""
    return _CONTROL.sub("�", str(text))


def shortened(text: object, length: int = 100) -> str:
    """Return the first line of a text, cut to `length` characters."""
    first, newline, _ = str(text).partition("\n")
    cut = len(first) > length or newline
    return plain(first[: length - 1] + "…" if cut else first)


def instant(when: float | datetime | None) -> str:
    """Return an instant to the second, in UTC; "" for none."""
    if when is None:
        return ""
    moment = when if isinstance(when, datetime) else to_datetime(when)
    return moment.strftime("%Y-%m-%d %H:%M:%SZ")


def moment(when: float | None) -> datetime | None:
    """Return an instant as JSON output has it."""
    return None if when is None else to_datetime(when)
