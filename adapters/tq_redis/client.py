"""Clients of redis-py, made alike: for event loops, for a first look that blocks, and for listening."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol, cast

import redis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.retry import Retry as BlockingRetry

from .settings import RedisSettings

__all__ = ["BlockingClient", "Client", "Listener", "connect", "connect_blocking", "listening"]

_TRIALS = 3
"""Times that a call is sent again: scripts do once what they are sent twice."""


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

    def listen(self) -> AsyncIterator[dict[str, Any]]:
        """Give each word when it comes."""
        ...


class BlockingClient(Protocol):
    """As `Client`, without an event loop."""

    def execute_command(self, *args: Any) -> Any:
        """Send a command and return its answer."""

    def info(self) -> dict[str, Any]:
        """Return what the server says about itself."""
        ...

    def close(self) -> None:
        """Close its connections."""


def _options(settings: RedisSettings, timeout: float | None) -> dict[str, Any]:
    return {
        "username": settings.username or None,
        "password": settings.password or None,
        "socket_timeout": timeout,
        "socket_connect_timeout": settings.timeout,
        "socket_keepalive": True,
        "protocol": 2,
    }


def _secured(settings: RedisSettings) -> dict[str, Any]:
    return {"ssl": True, "ssl_ca_certs": settings.tls_ca or None} if settings.tls else {}


def _address(settings: RedisSettings) -> dict[str, Any]:
    if settings.socket:
        return {"unix_socket_path": settings.socket}
    return {"host": settings.host, "port": settings.port, **_secured(settings)}


def connect(settings: RedisSettings, *, cluster: bool) -> Client:
    """Return a client for the event loop that runs; it connects when it is first used."""
    retry = Retry(ExponentialBackoff(cap=0.5, base=0.02), _TRIALS)
    options = _options(settings, settings.timeout)
    if cluster:
        nodes = redis.asyncio.RedisCluster(
            host=settings.host,
            port=settings.port,
            max_connections=settings.connections,
            retry=retry,
            **options,
            **_secured(settings),
        )
        return cast("Client", nodes)
    made = redis.asyncio.Redis(db=settings.database, retry=retry, **options, **_address(settings))
    # The client makes a pool that fails when it is empty; the same connections in one that waits.
    plain = made.connection_pool
    waiting = redis.asyncio.BlockingConnectionPool(
        max_connections=settings.connections,
        timeout=None,
        connection_class=plain.connection_class,
        **plain.connection_kwargs,
    )
    return cast("Client", redis.asyncio.Redis.from_pool(waiting))


def connect_blocking(settings: RedisSettings, *, cluster: bool = False) -> BlockingClient:
    """Return a client that blocks."""
    options = _options(settings, settings.timeout)
    retry = BlockingRetry(ExponentialBackoff(cap=0.5, base=0.02), _TRIALS)
    if cluster:
        nodes = redis.RedisCluster(host=settings.host, port=settings.port, retry=retry, **options, **_secured(settings))
        return cast("BlockingClient", nodes)
    made = redis.Redis(db=settings.database, retry=retry, **options, **_address(settings))
    return cast("BlockingClient", made)


@asynccontextmanager
async def listening(settings: RedisSettings) -> AsyncGenerator[Listener]:
    """Give what may wait for a word as long as it takes; in a cluster any node will do."""
    client: Any = redis.asyncio.Redis(**_options(settings, None), **_address(settings))
    async with client, client.pubsub() as listener:
        yield listener
