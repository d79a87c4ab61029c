"""Fixtures for tests that need a server; those that every test may ask for come from the plugin, `tq.testing.plugin`.

One server per test run (and per process of pytest-xdist) serves all of its tests; each has a place of its own there.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Generator

import pytest

from tests import servers


@pytest.fixture(scope="session")
def mongo_server() -> Generator[str, None, None]:
    """The URL of a MongoDB server, or of its emulator."""
    with servers.mongo() as url:
        yield url


@pytest.fixture(scope="session")
def mongo_database(mongo_server: str) -> Generator[str, None, None]:
    """A database of this process, kept until its last test."""
    database = f"tq_{uuid.uuid4().hex}"
    yield database
    servers.drop_database(mongo_server, database)


@pytest.fixture
def mongo_url(mongo_server: str, mongo_database: str) -> str:
    """The URL of a MongoDB backend with a namespace of its own."""
    settings = f"database={mongo_database}&namespace=tq-{uuid.uuid4().hex}"
    return f"{mongo_server}&{settings}" if "?" in mongo_server else f"{mongo_server}/?{settings}"


@pytest.fixture(scope="session")
def postgres_server() -> Generator[str, None, None]:
    """The URL of a PostgreSQL server, with a database."""
    with servers.postgres() as url:
        yield url


@pytest.fixture(scope="session")
def postgres_schema(postgres_server: str) -> Generator[str, None, None]:
    """A schema of this process, kept until its last test: to make the tables takes longer than most tests do."""
    schema = f"tq_{uuid.uuid4().hex}"
    yield schema
    asyncio.run(servers.drop_schema(postgres_server, schema))


@pytest.fixture
def postgres_url(postgres_server: str, postgres_schema: str) -> str:
    """The URL of a PostgreSQL backend that is empty."""
    asyncio.run(servers.empty_schema(postgres_server, postgres_schema))
    return f"{postgres_server}{'&' if '?' in postgres_server else '?'}schema={postgres_schema}"


@pytest.fixture(scope="session")
def kinesis_server() -> Generator[str, None, None]:
    """The URL of a Kinesis server whose shards split and merge."""
    with servers.kinesis() as url:
        yield url


@pytest.fixture(scope="session")
def kinesalite_server() -> Generator[str, None, None]:
    """The URL of a Kinesis server that is quick with many records."""
    with servers.kinesalite() as url:
        yield url


@pytest.fixture(scope="session")
def redis_server() -> Generator[str, None, None]:
    """The URL of a Redis server."""
    with servers.redis() as url:
        yield url


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """The URL of a Redis backend with a namespace of its own."""
    return f"{redis_server}{'&' if '?' in redis_server else '?'}namespace=tq-{uuid.uuid4().hex}"
