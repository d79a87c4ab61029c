"""Where a page of something ordered by instant ended, as text for `--after`."""

from __future__ import annotations

from tq.errors import InvalidInputError

__all__ = ["read_pair", "write_pair"]


def write_pair(at: float, id: str) -> str:
    """Return the text of a place."""
    return f"{at!r}:{id}"


def read_pair(text: str) -> tuple[float, str]:
    """Return the place that a text names.

    Raises:
        InvalidInputError: it names none.
    """
    at, colon, id = text.partition(":")
    try:
        if colon:
            return float(at), id
    except ValueError:
        pass
    raise InvalidInputError("after", text, "give what the page before named")
