"""What can be set on a PostgreSQL backend, checked when it is made."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from tq.clock import seconds
from tq.errors import ConfigurationError, InvalidInputError

__all__ = ["PostgresSettings"]

_SCHEMES = ("postgresql", "postgres")
_LONGEST_NAME = 63
"""Bytes of an identifier of PostgreSQL."""
_LONGEST_SUFFIX = len("_chunk_messages_plan_number_at_idx")


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresSettings:
    """Where the database is, and how it is used.

    Raises:
        InvalidInputError: a setting is refused; it says which, what was given, and what to give instead.
    """

    dsn: str
    """`postgresql://user:password@host:port/database`; what stands after a `?` and is not ours is the driver's."""
    schema: str = "public"
    """The schema that holds the tables; made when it is not there."""
    namespace: str = "tq"
    """What the names of all tables begin with: several programs may share one schema."""
    pool_size: int = 5
    """Most connections for commits and questions; renewing leases and listening take one more each."""
    connect_timeout: float = 10.0
    """Seconds a new connection may take."""
    command_timeout: float = 30.0
    """Seconds a statement may take."""
    poll_interval: float = 1.0
    """Seconds after which a worker without work looks, should a notification have been lost."""

    def __post_init__(self) -> None:
        if urlsplit(str(self.dsn)).scheme not in _SCHEMES:
            raise InvalidInputError("dsn", "…", "give postgresql://user:password@host:port/database")
        for name, most in (("schema", _LONGEST_NAME), ("namespace", _LONGEST_NAME - _LONGEST_SUFFIX)):
            value: object = getattr(self, name)
            if not isinstance(value, str) or not value or "\0" in value or len(value.encode()) > most:
                raise InvalidInputError(name, value, f"give a name of 1 to {most} bytes")
        if not self.namespace.replace("_", "").isalnum() or not self.namespace.isascii():
            raise InvalidInputError("namespace", self.namespace, "give letters, digits and _")
        if type(self.pool_size) is not int or self.pool_size < 1:
            raise InvalidInputError("pool_size", self.pool_size, "give a whole number, one or more")
        for name in ("connect_timeout", "command_timeout", "poll_interval"):
            seconds(name, getattr(self, name), zero=False)

    @property
    def place(self) -> str:
        """How the database is named to people: never with the password, nor with what the driver is told."""
        parts = urlsplit(self.dsn)
        return urlunsplit(("postgresql", _without_password(parts.netloc), parts.path, "", ""))

    @classmethod
    def parse(cls, url: str, **options: Any) -> Self:
        """Read `postgresql://user:password@host:port/database?schema=…`; options may stand after the `?`.

        Raises:
            InvalidInputError: it is no such address, or an option is refused.
            ConfigurationError: an option is unknown.
        """
        parts = urlsplit(url)
        known = {field.name: field.type for field in fields(cls) if field.name != "dsn"}
        for name in options:
            if name not in known:
                raise ConfigurationError(f"postgresql:// takes no option {name!r}; it takes {', '.join(sorted(known))}")
        asked = parse_qsl(parts.query, keep_blank_values=True)
        ours: dict[str, Any] = {name: _read(name, value, str(known[name])) for name, value in asked if name in known}
        rest = urlencode([(name, value) for name, value in asked if name not in known])
        return cls(dsn=urlunsplit(parts._replace(query=rest)), **{**ours, **options})


def _without_password(netloc: str) -> str:
    who, at, where = netloc.rpartition("@")
    return f"{who.partition(':')[0]}{at}{where}"


def _read(name: str, text: str, kind: str) -> object:
    try:
        return int(text) if kind == "int" else float(text) if kind == "float" else text
    except ValueError as error:
        raise InvalidInputError(name, text, "give a number") from error
