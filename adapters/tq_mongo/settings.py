"""What can be set on a MongoDB backend, checked when it is made."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode, urlsplit

from tq.clock import seconds
from tq.errors import ConfigurationError, InvalidInputError

__all__ = ["MongoSettings"]

_SCHEMES = ("mongodb", "mongodb+srv")
_WAY_OUT = "give mongodb://user:password@host:27017/database, or mongodb+srv:// for a cluster's name"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,60}")


@dataclass(frozen=True, slots=True, kw_only=True)
class MongoSettings:
    """Where the server is, and how it is used.

    Raises:
        InvalidInputError: a setting is refused; it says which, what was given, and what to give instead.
    """

    uri: str = field(default="mongodb://localhost:27017", repr=False)
    """What the driver is given: options that are not ours are the driver's."""
    database: str = "tq"
    namespace: str = "tq"
    """Collections are named "{namespace}_tasks" and so on: several programs may share one database."""
    timeout: float = 5.0
    """Seconds after which an answer, a connection or a server is no longer waited for."""
    poll_interval: float = 1.0
    """Seconds after which a worker looks for what other processes added: a standalone server tells nobody."""

    def __post_init__(self) -> None:
        for name in ("database", "namespace"):
            value: object = getattr(self, name)
            if not isinstance(value, str) or not _NAME.fullmatch(value):
                raise InvalidInputError(name, value, "give up to 60 letters, digits, _ and -")
        if urlsplit(self.uri).scheme not in _SCHEMES:
            raise InvalidInputError("uri", _without_password(self.uri), _WAY_OUT)
        seconds("timeout", self.timeout, zero=False)
        seconds("poll_interval", self.poll_interval, zero=False)

    @property
    def place(self) -> str:
        """Where the server is, for messages: without anything that is secret."""
        hosts = urlsplit(self.uri).netloc.rpartition("@")[2]
        return f"MongoDB at {hosts}, database {self.database}"

    @classmethod
    def parse(cls, url: str, **options: Any) -> Self:
        """Read `mongodb://user:password@host:27017/database`; our options may stand after a `?`, beside the driver's.

        Raises:
            InvalidInputError: it is no such address, or an option is refused.
            ConfigurationError: an option given by name is unknown.
        """
        try:
            parts = urlsplit(url)
        except ValueError as error:
            raise InvalidInputError("url", _without_password(url), f"{_WAY_OUT}: {error}") from error
        if parts.scheme not in _SCHEMES or not parts.netloc.rpartition("@")[2] or parts.fragment:
            raise InvalidInputError("url", _without_password(url), _WAY_OUT)
        known = {it.name: it.type for it in fields(cls) if it.name != "uri"}
        for name in options:
            if name not in known:
                raise ConfigurationError(f"mongodb:// takes no option {name!r}; it takes {', '.join(sorted(known))}")
        named: dict[str, Any] = {}
        others: list[tuple[str, str]] = []
        for name, value in parse_qsl(parts.query, keep_blank_values=True):
            if name in known:
                named[name] = _read(name, value, str(known[name]))
            else:
                others.append((name, value))
        if path := parts.path.strip("/"):
            named.setdefault("database", path)
        # The path goes on to the driver, too: it is where users with a name are looked up.
        named["uri"] = parts._replace(query=urlencode(others)).geturl()
        return cls(**named | options)


def _without_password(url: str) -> str:
    """Return a URL that may be shown."""
    head, at, tail = url.rpartition("@")
    scheme, slashes, _ = head.partition("://")
    return f"{scheme}{slashes}…{at}{tail}" if at else url


def _read(name: str, text: str, kind: str) -> object:
    try:
        return float(text) if kind == "float" else text
    except ValueError as error:
        raise InvalidInputError(name, text, "give a number") from error
