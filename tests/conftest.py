"""Fixtures for tests that need a server; those that every test may ask for come from the plugin, `tq.testing.plugin`.

One server per test run (and per process of pytest-xdist) serves all of its tests; each has a place of its own there.
"""

from __future__ import annotations

import uuid
from collections.abc import Generator

import pytest

from tests import servers


@pytest.fixture(scope="session")
def postgres_server() -> Generator[str, None, None]:
    """The URL of a PostgreSQL server, with a database."""
    with servers.postgres() as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server: str) -> str:
    """The URL of a PostgreSQL backend with a schema of its own, which is made when it is opened."""
    return f"{postgres_server}{'&' if '?' in postgres_server else '?'}schema=tq_{uuid.uuid4().hex}"


@pytest.fixture(scope="session")
def redis_server() -> Generator[str, None, None]:
    """The URL of a Redis server."""
    with servers.redis() as url:
        yield url


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """The URL of a Redis backend with a namespace of its own."""
    return f"{redis_server}{'&' if '?' in redis_server else '?'}namespace=tq-{uuid.uuid4().hex}"
