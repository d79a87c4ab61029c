"""How a connection to the server is opened."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import asyncpg

from tq.errors import ConfigurationError

from .errors import mapped
from .settings import PostgresSettings

if TYPE_CHECKING:  # asyncpg's own classes take no parameters
    from asyncpg.pool import PoolConnectionProxy

    Row = asyncpg.Record
    Connection = asyncpg.Connection[Row]
    Lent = Connection | PoolConnectionProxy[Row]
    Pool = asyncpg.Pool[Row]
else:
    Row = Connection = Lent = Pool = Any

__all__ = ["Connection", "Lent", "Pool", "Row", "check_version", "connect", "make_pool", "reading"]

_LEAST_VERSION = 13


async def connect(settings: PostgresSettings) -> Connection:
    """Open a connection beside the pool's.

    Raises:
        BackendError: and its branches, as `tq_postgres.errors` maps them.
        ConfigurationError: the URL cannot be read.
    """
    with reading(settings):
        return await asyncpg.connect(settings.dsn, **_options(settings))


async def make_pool(settings: PostgresSettings, made: Callable[[Connection], Coroutine[Any, Any, None]]) -> Pool:
    """Make a pool, which opens connections as they are needed; `made` is told of each.

    What `connect` raises is raised by the first that is asked for, within `reading`.
    """
    pool = asyncpg.create_pool(
        settings.dsn,
        min_size=0,  # else it logs every try to replace its last one, for as long as the server is away
        max_size=settings.pool_size,
        init=cast("Any", made),  # the stubs ask for the name of its argument
        reset=_leave_as_it_is,
        **_options(settings),
    )
    return await pool


@contextmanager
def reading(settings: PostgresSettings) -> Generator[None]:
    """Say what is wrong where the URL is read: by the first connection that is opened.

    Raises:
        BackendError: and its branches, as `tq_postgres.errors` maps them.
        ConfigurationError: the URL cannot be read.
    """
    with mapped(settings.place):
        try:
            yield
        except ValueError:  # it shows a part of the URL, which may be a part of the password
            raise _unreadable(settings) from None


def check_version(place: str, version: tuple[Any, ...]) -> None:
    """Refuse a server that lacks what the schema needs.

    Raises:
        ConfigurationError: it is too old.
    """
    if version[0] < _LEAST_VERSION:
        needs = f"tq needs PostgreSQL {_LEAST_VERSION} or newer, for gen_random_uuid()"
        raise ConfigurationError(f"{needs}; {place} is {version[0]}.{version[1]}")


def _options(settings: PostgresSettings) -> dict[str, Any]:
    return {
        "timeout": settings.connect_timeout,
        "command_timeout": settings.command_timeout,
        "server_settings": {"application_name": "tq"},
        "max_cached_statement_lifetime": 0,  # statements are few, and preparing them again costs a round trip
    }


async def _leave_as_it_is(_: object) -> None:
    """Statements of ours leave nothing behind in a session, so that nothing is to be reset: a round trip less."""


def _unreadable(settings: PostgresSettings) -> ConfigurationError:
    return ConfigurationError(
        f"{settings.place}: the URL cannot be read; give postgresql://user:password@host:port/database, with"
        " @ : / ? # % in user and password written as %40 %3A %2F %3F %23 %25"
    )
