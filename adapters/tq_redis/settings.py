"""What can be set on a Redis backend, checked when it is made."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from tq.clock import seconds
from tq.errors import ConfigurationError, InvalidInputError

__all__ = ["RedisSettings"]

_SCHEMES = ("redis", "rediss", "redis+unix")
_WAY_OUT = "give redis://host:6379/0, rediss://host for TLS, or redis+unix:///path/of.sock"


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisSettings:
    """Where the server is, and how it is used.

    Raises:
        InvalidInputError: a setting is refused; it says which, what was given, and what to give instead.
    """

    host: str = "localhost"
    port: int = 6379
    socket: str = ""
    """Path of a Unix socket, in place of host and port."""
    database: int = 0
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    tls: bool = False
    tls_ca: str = ""
    """File of the authorities that are trusted; "" for those of the system."""
    namespace: str = "tq"
    """Everything is kept under "{namespace}:": several programs may share one server."""
    timeout: float = 5.0
    """Seconds after which an answer, or a connection, is no longer waited for; the call is then sent again."""
    connections: int = 16
    """Most connections that are open at once; who needs one more waits."""
    poll_interval: float = 5.0
    """Seconds after which a worker looks even if nobody has told it that something was added."""

    def __post_init__(self) -> None:
        for name in ("host", "namespace"):
            if not getattr(self, name):
                raise InvalidInputError(name, getattr(self, name), "give a name")
        if "{" in self.namespace or "}" in self.namespace:
            raise InvalidInputError("namespace", self.namespace, "give a name without braces: they mark it in the keys")
        for name, least, most in (("port", 1, 65_535), ("database", 0, 1_000_000), ("connections", 1, 100_000)):
            value: object = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
                raise InvalidInputError(name, value, f"give a whole number from {least} to {most}")
        seconds("timeout", self.timeout, zero=False)
        seconds("poll_interval", self.poll_interval, zero=False)

    @property
    def place(self) -> str:
        """Where the server is, for messages: without anything that is secret."""
        where = self.socket or f"{self.host}:{self.port}"
        return f"Redis at {where}, database {self.database}"

    @property
    def root(self) -> str:
        """The beginning of every key; what stands in braces decides the node of a cluster."""
        return f"{{{self.namespace}}}"

    @classmethod
    def parse(cls, url: str, **options: Any) -> Self:
        """Read `redis://user:password@host:6379/0`, `rediss://` or `redis+unix:///path`; options may stand after a `?`.

        Raises:
            InvalidInputError: it is no such address, or an option is refused.
            ConfigurationError: an option is unknown.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise InvalidInputError("url", _without_password(url), f"{_WAY_OUT}: {error}") from error
        if parts.scheme not in _SCHEMES or parts.fragment:
            raise InvalidInputError("url", _without_password(url), _WAY_OUT)
        given: dict[str, Any] = dict(parse_qsl(parts.query, keep_blank_values=True)) | options
        known = {it.name: it.type for it in fields(cls)}
        for name, value in given.items():
            if name not in known:
                raise ConfigurationError(f"redis:// takes no option {name!r}; it takes {', '.join(sorted(known))}")
            if isinstance(value, str):
                given[name] = _read(name, value, str(known[name]))
        named: dict[str, Any] = {
            "host": host,
            "port": port,
            "username": unquote(parts.username or ""),
            "password": unquote(parts.password or ""),
            "tls": parts.scheme == "rediss",
        }
        if parts.scheme == "redis+unix":
            if host or not parts.path.strip("/"):
                raise InvalidInputError("url", _without_password(url), _WAY_OUT)
            named["socket"] = unquote(parts.path)
        elif database := parts.path.strip("/"):
            named["database"] = _read("database", database, "int")
        return cls(**{name: value for name, value in named.items() if value} | given)


def _without_password(url: str) -> str:
    """Return a URL that may be shown."""
    head, at, tail = url.rpartition("@")
    scheme, slashes, _ = head.partition("://")
    return f"{scheme}{slashes}…{at}{tail}" if at else url


def _read(name: str, text: str, kind: str) -> object:
    try:
        if kind == "bool":
            return {"true": True, "false": False, "1": True, "0": False}[text.lower()]
        return int(text) if kind == "int" else float(text) if kind == "float" else text
    except (KeyError, ValueError) as error:
        raise InvalidInputError(name, text, "give true or false" if kind == "bool" else "give a number") from error
