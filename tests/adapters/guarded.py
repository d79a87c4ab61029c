"""Servers that ask for a password, and the troubles that they may be in while somebody works with them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from tests.adapters.redis_servers import raw
from tests.crash import struck
from tests.servers import free_port
from tq.errors import BackendError, BackendUnavailableError, DatabaseFullError, ReadOnlyDatabaseError

__all__ = ["GUARDED", "SECRET", "Guarded", "Trouble"]

SECRET = "s3cret"


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """What may befall a server, and what is then said of it."""

    befall: Callable[[], AbstractAsyncContextManager[None]]
    """The trouble is over when the block is left."""
    error: type[BackendError] = BackendUnavailableError
    way_out: str = ""
    stops: bool = True
    """Whether nothing can be claimed meanwhile."""


@dataclass(frozen=True, kw_only=True)
class Guarded:
    """A server, and how to get at it."""

    url: str
    """Holds the password, and ends where an option may follow."""
    quick: Mapping[str, float]
    """Options with which it is not waited for very long."""
    troubles: Mapping[str, Trouble]


def common(server: struck.Server, frozen: str) -> dict[str, Trouble]:
    """Return what may befall every server; `frozen` is the way out of one that does not answer."""

    @asynccontextmanager
    async def killed() -> AsyncGenerator[None, None]:
        await asyncio.to_thread(server.end)
        try:
            yield
        finally:
            await asyncio.to_thread(server.start)

    @asynccontextmanager
    async def standing_still() -> AsyncGenerator[None, None]:
        with server.frozen():
            yield

    return {
        "killed": Trouble(befall=killed, way_out=r"start it|see that it runs"),
        "frozen": Trouble(befall=standing_still, way_out=frozen),
    }


@contextmanager
def redis() -> Generator[Guarded, None, None]:
    """A Redis server."""
    with struck.redis(SECRET) as server:

        @asynccontextmanager
        async def full() -> AsyncGenerator[None, None]:
            with raw(server.url) as client:
                client.config_set("maxmemory", "100kb")
                try:
                    yield
                finally:
                    client.config_set("maxmemory", "0")

        @asynccontextmanager
        async def read_only() -> AsyncGenerator[None, None]:
            with raw(server.url) as client:
                client.replicaof("127.0.0.1", free_port())
                try:
                    yield
                finally:
                    client.replicaof("NO", "ONE")

        @asynccontextmanager
        async def refusing() -> AsyncGenerator[None, None]:
            with raw(server.url) as client:
                client.config_set("requirepass", "another")
                client.client_kill_filter(_type="normal", skipme=True)
                try:
                    yield
                finally:
                    client.config_set("requirepass", SECRET)

        troubles = common(server, "see that it runs") | {
            # A script that begins by removing something is let through: what ends makes room.
            "full": Trouble(befall=full, error=DatabaseFullError, way_out="raise its maxmemory", stops=False),
            "read-only": Trouble(befall=read_only, error=ReadOnlyDatabaseError, way_out="name the primary"),
            "refusing": Trouble(befall=refusing, error=BackendError, way_out="check name and password"),
        }
        yield Guarded(url=f"{server.url}?", quick={"timeout": 0.5, "poll_interval": 0.5}, troubles=troubles)


@contextmanager
def postgres() -> Generator[Guarded, None, None]:
    """A PostgreSQL server, with a role that may do nothing but what it needs."""
    with struck.postgres() as server:

        async def do(*words: str) -> None:
            connection = await asyncpg.connect(server.url)
            try:
                await connection.execute("SET default_transaction_read_only = off")
                for sql in words:
                    await connection.execute(sql)
            finally:
                await connection.close()

        async def guard() -> None:
            connection = await asyncpg.connect(server.url)
            rules = Path(await connection.fetchval("SHOW hba_file"))
            await connection.close()
            await asyncio.to_thread(ask_for_a_password, rules)
            await do(
                f"CREATE ROLE guarded LOGIN PASSWORD '{SECRET}'",
                "CREATE SCHEMA app AUTHORIZATION guarded",
                "SELECT pg_reload_conf()",
                "CREATE FUNCTION full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                " RAISE 'could not extend file' USING ERRCODE = 'disk_full'; END $$",
            )

        @asynccontextmanager
        async def full() -> AsyncGenerator[None, None]:
            """As on a disk without room: whoever writes is told so by the server."""
            await do(
                on_every_queue(
                    "CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE OR DELETE ON %s EXECUTE FUNCTION full()"
                )
            )
            try:
                yield
            finally:
                await do(on_every_queue("DROP TRIGGER full_disk ON %s"))

        @asynccontextmanager
        async def read_only() -> AsyncGenerator[None, None]:
            await do("ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
            try:
                yield
            finally:
                await do("ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()")

        @asynccontextmanager
        async def refusing() -> AsyncGenerator[None, None]:
            theirs = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'guarded'"
            await do("ALTER ROLE guarded PASSWORD 'another'", theirs)
            try:
                yield
            finally:
                await do(f"ALTER ROLE guarded PASSWORD '{SECRET}'")

        asyncio.run(guard())
        troubles = common(server, "did not answer in time") | {
            "full": Trouble(befall=full, error=DatabaseFullError, way_out="free room on its disk"),
            "read-only": Trouble(befall=read_only, error=ReadOnlyDatabaseError, way_out="name the primary"),
            "refusing": Trouble(befall=refusing, error=BackendError, way_out="correct the user or the password"),
        }
        yield Guarded(
            url=server.url.replace("postgres@", f"guarded:{SECRET}@") + "?schema=app&",
            quick={"command_timeout": 1.5, "connect_timeout": 1.5, "poll_interval": 0.5},
            troubles=troubles,
        )


def on_every_queue(sql: str) -> str:
    """Return words that do something to the messages of every namespace."""
    return (
        "DO $do$ DECLARE queue regclass; BEGIN FOR queue IN SELECT c.oid FROM pg_class c"  # noqa: S608 -- words of ours
        " WHERE c.relnamespace = 'app'::regnamespace AND c.relkind = 'r' AND c.relname LIKE '%\\_messages'"
        f" LOOP EXECUTE format('{sql}', queue); END LOOP; END $do$"
    )


def ask_for_a_password(rules: Path) -> None:
    """Let PostgreSQL ask the role for one; everybody else who comes from this machine is still trusted."""
    rules.write_text(f"host all guarded 127.0.0.1/32 scram-sha-256\n{rules.read_text()}", encoding="utf-8")


GUARDED: Mapping[str, Callable[[], AbstractContextManager[Guarded]]] = {"redis": redis, "postgres": postgres}
