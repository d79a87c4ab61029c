"""What can be set on a SQLite backend, checked when it is made."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from typing import Any, Literal, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from tq.clock import seconds
from tq.errors import ConfigurationError, InvalidInputError

__all__ = ["SqliteSettings"]

_SYNCHRONOUS = ("OFF", "NORMAL", "FULL", "EXTRA")
_IN_MEMORY = ("", ":memory:")


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteSettings:
    """Where the file is, and how it is used.

    Raises:
        InvalidInputError: a setting is refused; it says which, what was given, and what to give instead.
    """

    path: str = ""
    """The file, made when it is not there; "" is a private database in memory."""
    synchronous: Literal["OFF", "NORMAL", "FULL", "EXTRA"] = "FULL"
    """FULL survives the loss of power; NORMAL may lose the last commits then, but never by a crash of the process."""
    busy_timeout: float = 10.0
    """Seconds a writer waits for writers of other processes before it raises `DatabaseLockedError`."""
    poll_interval: float = 0.25
    """Seconds after which a worker without work looks for what other processes added."""
    cache_bytes: int = 32 * 1024 * 1024
    """Memory for pages of the file, per connection."""
    checkpoint_pages: int = 4000
    """Pages in the write-ahead log after which they are moved into the file."""

    def __post_init__(self) -> None:
        if not isinstance(self.path, str):  # pyright: ignore[reportUnnecessaryIsInstance] -- users pass anything
            raise InvalidInputError("path", self.path, 'give the name of a file, or "" for a database in memory')
        if self.synchronous not in _SYNCHRONOUS:
            raise InvalidInputError("synchronous", self.synchronous, f"give one of {', '.join(_SYNCHRONOUS)}")
        seconds("busy_timeout", self.busy_timeout)
        seconds("poll_interval", self.poll_interval, zero=False)
        for name in ("cache_bytes", "checkpoint_pages"):
            value: object = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InvalidInputError(name, value, "give a whole number, one or more")

    @property
    def private(self) -> bool:
        """Whether the database lives in memory, seen by this backend alone."""
        return self.path in _IN_MEMORY

    @classmethod
    def parse(cls, url: str, **options: Any) -> Self:
        """Read `sqlite:///relative.db`, `sqlite:////absolute.db` or `sqlite://`; options may stand after a `?`.

        Raises:
            InvalidInputError: it is no such address, or an option is refused.
            ConfigurationError: an option is unknown.
        """
        parts = urlsplit(url)
        if parts.scheme != "sqlite" or parts.netloc:
            raise InvalidInputError("url", url, "give sqlite:///relative.db, sqlite:////absolute.db or sqlite://")
        if parts.path == "/":  # half a name: nobody means to lose all tasks with the process by it
            raise InvalidInputError(
                "url", url, "name a file, sqlite:///file.db, or give sqlite:// for a private database in memory"
            )
        given: dict[str, Any] = dict(parse_qsl(parts.query, keep_blank_values=True)) | options
        known = {field.name: field.type for field in fields(cls) if field.name != "path"}
        for name, value in given.items():
            if name not in known:
                raise ConfigurationError(f"sqlite:// takes no option {name!r}; it takes {', '.join(sorted(known))}")
            if isinstance(value, str):
                given[name] = _read(name, value, str(known[name]))
        return cls(path=os.fspath(unquote(parts.path[1:])), **given)


def _read(name: str, text: str, kind: str) -> object:
    try:
        return int(text) if kind == "int" else float(text) if kind == "float" else text.upper()
    except ValueError as error:
        raise InvalidInputError(name, text, "give a number") from error
