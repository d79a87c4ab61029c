"""Clients of redis-py, made alike: for event loops, for a first look that blocks, and for listening."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol, cast

from .driver import aio, aio_retry, backoff, exceptions, hiredis, redis, retry
from .settings import RedisSettings

__all__ = ["BlockingClient", "Client", "Listener", "connect", "connect_blocking", "listening"]

_TRIALS = 3
"""Times that a call is sent again: scripts do once what they are sent twice."""

_SCRIPTS = ("EVALSHA", "EVAL")


class Client(Protocol):
    """What is used of a client, of one server or of a cluster."""

    async def execute_command(self, *args: Any) -> Any:
        """Send a command and return its answer."""

    async def aclose(self) -> None:
        """Close its connections."""


class Listener(Protocol):
    """Hears what is published, for as long as it is entered."""

    async def subscribe(self, *channels: str) -> None:
        """Hear this from now on."""

    async def get_message(self, *, timeout: float) -> dict[str, Any] | None:
        """Give the next word, or None when there was none for so many seconds."""

    async def ping(self) -> None:
        """Ask for a word."""


class BlockingClient(Protocol):
    """As `Client`, without an event loop."""

    def execute_command(self, *args: Any) -> Any:
        """Send a command and return its answer."""

    def info(self) -> dict[str, Any]:
        """Return what the server says about itself."""
        ...

    def close(self) -> None:
        """Close its connections."""


_pack = cast("Callable[[tuple[Any, ...]], bytes]", hiredis.pack_command)  # pyright: ignore[reportUnknownMemberType] -- as said


class _Packing:
    """Writes scripts by hiredis; redis-py's asyncio does it in Python, where an argument costs five times as much."""

    def pack_command(self, *args: Any) -> list[bytes]:
        if args[0] not in _SCRIPTS:
            return cast("list[bytes]", super().pack_command(*args))  # type: ignore[misc]  # pyright: ignore[reportUnknownMemberType, reportAttributeAccessIssue] -- the other base has it
        try:
            return [_pack(args)]
        except TypeError as error:
            raise exceptions.DataError(str(error)) from error


class _Connection(_Packing, aio.Connection):
    pass


class _SecureConnection(_Packing, aio.SSLConnection):
    pass


class _SocketConnection(_Packing, aio.UnixDomainSocketConnection):
    pass


def _options(settings: RedisSettings) -> dict[str, Any]:
    return {
        "username": settings.username or None,
        "password": settings.password or None,
        "socket_timeout": settings.timeout,
        "socket_connect_timeout": settings.timeout,
        "retry_on_error": [exceptions.ConnectionError, exceptions.TimeoutError],  # which newer clients do by themselves
        "protocol": 2,
    }


def _address(settings: RedisSettings) -> dict[str, Any]:
    if settings.socket:
        return {"unix_socket_path": settings.socket}
    secured = {"ssl": True, "ssl_ca_certs": settings.tls_ca or None} if settings.tls else {}
    return {"host": settings.host, "port": settings.port, "socket_keepalive": True, **secured}


def connect(settings: RedisSettings, *, cluster: bool) -> Client:
    """Return a client for the event loop that runs; it takes no more calls at once than there are connections."""
    again = aio_retry.Retry(backoff.ExponentialBackoff(cap=0.5, base=0.02), _TRIALS)
    options: dict[str, Any] = _options(settings)
    if cluster:
        made = aio.RedisCluster(max_connections=settings.connections, retry=again, **options, **_address(settings))
        return cast("Client", made)
    kind: type[aio.Connection | aio.UnixDomainSocketConnection]
    where: dict[str, Any]
    if settings.socket:
        kind, where = _SocketConnection, {"path": settings.socket}
    else:
        kind, where = _Connection, _address(settings)
        if where.pop("ssl", False):
            kind = _SecureConnection
    pool = aio.ConnectionPool(
        max_connections=settings.connections,
        connection_class=kind,
        db=settings.database,
        retry=again,
        **options,
        **where,
    )
    return cast("Client", aio.Redis.from_pool(pool))


def connect_blocking(settings: RedisSettings, *, cluster: bool = False) -> BlockingClient:
    """Return a client that blocks."""
    again = retry.Retry(backoff.ExponentialBackoff(cap=0.5, base=0.02), _TRIALS)
    options: dict[str, Any] = {"retry": again, **_options(settings), **_address(settings)}
    if cluster:
        return cast("BlockingClient", redis.RedisCluster(**options))
    return cast("BlockingClient", redis.Redis(db=settings.database, **options))


@asynccontextmanager
async def listening(settings: RedisSettings) -> AsyncGenerator[Listener]:
    """Give what hears words; in a cluster any node will do."""
    client: Any = aio.Redis(**_options(settings), **_address(settings))
    async with client, client.pubsub() as listener:
        yield listener
