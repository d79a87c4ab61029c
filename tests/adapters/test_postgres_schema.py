"""The tables: made once, brought forward, recognised, and kept apart by schema and namespace."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from tq.errors import ForeignDatabaseError
from tq.model import Message
from tq_postgres import PostgresBackend, open_backend, schema

pytestmark = pytest.mark.realtime


def message(id: str) -> Message:
    return Message(id, "q", "t", b"{}", 0.0)


@asynccontextmanager
async def opened(url: str) -> AsyncGenerator[PostgresBackend, None]:
    backend = open_backend(url)
    try:
        await backend.database.open()
        yield backend
    finally:
        await backend.close()


@asynccontextmanager
async def asking(url: str) -> AsyncGenerator[Any, None]:
    connection = await asyncpg.connect(url.partition("?")[0])
    try:
        yield connection
    finally:
        await connection.close()


def named(url: str, namespace: str) -> tuple[str, str]:
    """Return the URL of a namespace of its own, and how its tables begin there."""
    name = url.rpartition("=")[2]
    return f"{url}&namespace={namespace}", f'"{name}"."{namespace}_'


async def test_schemas_and_namespaces_keep_apart_what_is_the_same(postgres_url: str) -> None:
    odd = f"{postgres_url.partition('?')[0]}?schema=A%20%22quoted%22%20name"
    urls = [postgres_url, named(postgres_url, "one")[0], named(postgres_url, "Two_2")[0], odd]
    try:
        for number, url in enumerate(urls):
            async with opened(url) as backend:
                assert await backend.queue.add([message("same"), message(f"own-{number}")]) == []
        for number, url in enumerate(urls):
            async with opened(url) as backend:
                assert sorted(it.id for it in await backend.queue.list(None, "", 9)) == [f"own-{number}", "same"]
    finally:
        async with asking(odd) as connection:
            await connection.execute('DROP SCHEMA "A ""quoted"" name" CASCADE')


async def test_what_one_namespace_tells_another_does_not_hear(postgres_url: str) -> None:
    async with opened(postgres_url) as here, opened(named(postgres_url, "far")[0]) as far:
        assert here.database.schema.channel != far.database.schema.channel


async def test_many_that_open_at_once_make_the_tables_once(postgres_url: str) -> None:
    backends = [open_backend(named(postgres_url, "crowd")[0]) for _ in range(6)]
    await asyncio.gather(*[backend.database.open() for backend in backends])
    instances = {backend.database.schema.instance for backend in backends}
    assert len(instances) == 1
    assert None not in instances
    for backend in backends:
        await backend.close()


async def test_the_schema_of_a_newer_tq_is_refused(postgres_url: str) -> None:
    url, tables = named(postgres_url, "newer")
    async with opened(url):
        pass
    async with asking(url) as connection:
        await connection.execute(f'UPDATE {tables}schema" SET version = 99')  # noqa: S608 -- a name of ours
    with pytest.raises(
        ForeignDatabaseError, match=r"made by a newer tq: its version is 99, this one knows \d+; upgrade"
    ):
        async with opened(url):
            pass


@pytest.mark.parametrize("table", ["messages", "projections", "schema", "order"])
async def test_a_table_of_another_program_under_our_name_is_not_touched(postgres_url: str, table: str) -> None:
    url, tables = named(postgres_url, f"theirs_{table}")
    async with asking(url) as connection:
        await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {tables.partition('.')[0]}")
        await connection.execute(f'CREATE TABLE {tables}{table}" (mine int)')
        with pytest.raises(ForeignDatabaseError, match=f"{table}.*belongs to another program.*namespace="):
            async with opened(url):
                pass
        assert await connection.fetch(f'SELECT mine FROM {tables}{table}"') == []  # noqa: S608 -- as above
        found = await connection.fetch("SELECT FROM pg_class WHERE relname LIKE $1", f"theirs\\_{table}\\_%")
        assert len(found) == 1


async def test_an_older_schema_is_brought_forward_and_its_functions_are_replaced(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, _ = named(postgres_url, "older")
    async with opened(url) as backend:
        await backend.queue.add([message("a")])
    read = schema.read

    def read_more(name: str) -> str:
        if name == "more":
            return "ALTER TABLE tq_paused ADD COLUMN why text NOT NULL DEFAULT ''"
        return read(name).replace("tq_move(asked text", "tq_move(asked varchar")  # another signature

    monkeypatch.setattr(schema, "read", read_more)
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, "more"))
    for _ in range(2):
        async with opened(url) as backend:
            await backend.queue.pause("q", paused=True)
            assert [tuple(row) for row in await backend.database.fetch("SELECT queue, why FROM tq_paused")] == [
                ("q", "")
            ]
            assert list(await backend.queue.locate(["a"])) == ["a"]
            [(version,)] = await backend.database.fetch("SELECT version FROM tq_schema")
            assert version == len(schema.MIGRATIONS)


async def test_a_migration_that_fails_leaves_everything_as_it_was(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, _ = named(postgres_url, "broken")
    async with opened(url) as backend:
        await backend.queue.add([message("a")])
    read = schema.read

    def read_broken(name: str) -> str:
        return "CREATE TABLE tq_new (id int); CREATE TABLE tq_new (id int)" if name == "broken" else read(name)

    with monkeypatch.context() as patch:
        patch.setattr(schema, "read", read_broken)
        patch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, "broken"))
        with pytest.raises(Exception, match="already exists"):
            async with opened(url):
                pass
    async with opened(url) as backend:
        assert list(await backend.queue.locate(["a"])) == ["a"]
        assert (await backend.database.fetch("SELECT to_regclass('tq_new')"))[0][0] is None


async def test_the_first_schema_is_what_it_was(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Databases of version 1 are out there: what differs from it is a migration."""
    monkeypatch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:1])
    async with opened(named(postgres_url, "first")[0]) as backend:
        rows = await backend.database.fetch(
            "SELECT table_name, count(*) FROM information_schema.columns WHERE table_name LIKE 'first\\_%' GROUP BY 1"
        )
    assert {name.removeprefix("first_"): number for name, number in rows} == {
        "chunk_messages": 13,
        "chunks": 3,
        "flows": 33,
        "lanes": 1,
        "late": 3,
        "members": 6,
        "messages": 22,
        "outcomes": 6,
        "outgoing": 4,
        "paused": 1,
        "projections": 12,
        "records": 14,
        "schema": 3,
        "workers": 3,
    }
