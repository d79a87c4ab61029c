"""What PostgreSQL refuses reaches the caller as an error of tq, with its cause, a way out, and never the password."""

import inspect
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from tq import Actions, Task, TaskHandler, TaskQueuesManager
from tq.errors import (
    BackendError,
    BackendUnavailableError,
    ConfigurationError,
    ContentRefusedError,
    DatabaseFullError,
    InvalidInputError,
    ReadOnlyDatabaseError,
    TaskFailedError,
)
from tq.model import Batch, Effects, Message
from tq_postgres import PostgresBackend, PostgresSettings, open_backend
from tq_postgres.connection import check_version
from tq_postgres.errors import ERRORS, WAYS_OUT, translate

pytestmark = pytest.mark.realtime


def message(id: str, **fields: Any) -> Message:
    return Message(id, "q", "t", b"{}", 0.0)._replace(**fields)


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncGenerator[PostgresBackend, None]:
    backend = open_backend(url, **options)
    try:
        yield backend
    finally:
        await backend.close()


# --- the map ----------------------------------------------------------------------------------------------------------

OURS_TO_MEND = frozenset(
    "00 01 02 03 09 0A 0B 0F 0L 0P 0Z 10 20 21 24 25 26 27 28 2B 2D 2F 34 38 39 3B 3D 3F 42 44 F0 HV P0 XX 72".split()  # noqa: SIM905 -- a list of forty lines is no better read
)
"""Classes of errors that say that a statement, or a database, is wrong: neither time nor other content helps."""


def test_every_class_of_errors_that_the_driver_knows_is_decided_on() -> None:
    """A driver with a new class fails here, not at a user's."""
    kinds = [kind for _, kind in inspect.getmembers(asyncpg.exceptions, inspect.isclass)]
    states = {state for kind in kinds if (state := getattr(kind, "sqlstate", None))}
    assert {"40P01", "53100", "25006", "28P01"} <= states
    undecided = {state for state in states if state not in ERRORS and state[:2] not in {*ERRORS, *OURS_TO_MEND}}
    assert undecided == set()


@pytest.mark.parametrize(
    ("state", "kind", "way_out"),
    [
        ("53100", DatabaseFullError, "free room"),
        ("25006", ReadOnlyDatabaseError, "name the primary"),
        ("42501", ReadOnlyDatabaseError, "grant the role"),
        ("57P01", BackendUnavailableError, ""),
        ("57P03", BackendUnavailableError, ""),
        ("53300", BackendUnavailableError, "more connections"),
        ("40001", BackendUnavailableError, ""),
        ("08006", BackendUnavailableError, ""),
        ("22P05", ContentRefusedError, ""),
        ("54000", ContentRefusedError, ""),
        ("42P01", BackendError, "open it again"),
        ("28P01", BackendError, "correct the user or the password"),
        ("3D000", BackendError, "create the database"),
        ("XX000", BackendError, ""),
    ],
)
def test_an_error_of_the_server_names_the_place_and_the_way_out(
    state: str, kind: type[BackendError], way_out: str
) -> None:
    refused = asyncpg.PostgresError.new({"S": "ERROR", "C": state, "M": "no", "D": "a row of somebody's"})
    error = translate(refused, "postgresql://me@here/db")
    assert type(error) is kind
    assert str(error) == f"postgresql://me@here/db: no ({state}){f'; {said}' if (said := _way_out(state)) else ''}"
    assert way_out in str(error)


def _way_out(state: str) -> str:
    return WAYS_OUT.get(state) or WAYS_OUT.get(state[:2], "")


# --- the URL ----------------------------------------------------------------------------------------------------------


async def test_a_server_that_is_not_there_is_named_without_its_password() -> None:
    async with opened("postgresql://me:secret@127.0.0.1:1/db?sslmode=disable") as backend:
        with pytest.raises(
            BackendUnavailableError, match=r"postgresql://me@127\.0\.0\.1:1/db cannot be reached.*start it"
        ) as told:
            await backend.queue.announced()
    assert "secret" not in repr(told.value)


async def test_a_database_or_a_user_that_is_not_there_is_named(postgres_server: str) -> None:
    place = postgres_server.rpartition("/")[0]
    async with opened(f"{place}/never") as backend:
        with pytest.raises(BackendError, match=r"never.*3D000.*create the database"):
            await backend.queue.announced()
    async with opened(postgres_server.replace("postgres@", "nobody:secret@")) as backend:
        with pytest.raises(BackendError, match=r"28.*correct the user or the password") as told:
            await backend.queue.announced()
    assert "secret" not in f"{told.value!r} {told.value.__cause__!r}"


@pytest.mark.parametrize("url", ["postgresql://me:p#w@host/db", "postgresql://me:a/b@host/db", "postgresql://h:x1/db"])
async def test_a_url_that_cannot_be_read_is_refused_without_showing_it(url: str) -> None:
    async with opened(url) as backend:
        with pytest.raises((ConfigurationError, BackendUnavailableError)) as told:
            await backend.queue.announced()
    assert "p#w" not in f"{told.value!r} {told.value.__context__ if told.value.__suppress_context__ is False else ''!r}"


def test_options_come_with_the_address_or_beside_it() -> None:
    url = "postgresql://me@here/db?schema=app&pool_size=3&poll_interval=0.5&sslmode=require"
    settings = PostgresSettings.parse(url, namespace="jobs")
    assert (settings.schema, settings.namespace, settings.pool_size, settings.poll_interval) == ("app", "jobs", 3, 0.5)
    assert settings.dsn == "postgresql://me@here/db?sslmode=require"
    assert PostgresSettings.parse("postgres://me:secret@here:5/db").place == "postgresql://me@here:5/db"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("pool_size=0", "pool_size"),
        ("pool_size=many", "pool_size"),
        ("poll_interval=0", "poll_interval"),
        ("command_timeout=-1", "command_timeout"),
        ("schema=", "schema"),
        ("namespace=a-b", "namespace"),
        (f"namespace={'n' * 60}", "namespace"),
        (f"schema={'s' * 64}", "schema"),
    ],
)
def test_a_bad_setting_is_refused_by_name(query: str, field: str) -> None:
    with pytest.raises(InvalidInputError, match=field):
        PostgresSettings.parse(f"postgresql://me@here/db?{query}")


def test_an_unknown_option_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match=r"takes no option 'shema'; it takes .*schema"):
        open_backend("postgresql://me@here/db", shema="app")
    with pytest.raises(InvalidInputError, match="give postgresql://"):
        open_backend("mysql://me:secret@here/db")


def test_a_server_that_is_too_old_is_refused_by_name() -> None:
    check_version("here", (13, 1, 0, "final", 0))
    with pytest.raises(ConfigurationError, match=r"tq needs PostgreSQL 13 or newer.*here is 12\.3"):
        check_version("here", (12, 3, 0, "final", 0))


# --- content ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        {"id": "a\0b"},
        {"type": "\ud800"},
        {"attempt": 1 << 40},
        {"fence": 1 << 70},
        {"queue": "".join(map(chr, range(256, 6000)))},
    ],
    ids=["nul", "surrogate", "int", "bigint", "too long for an index"],
)
async def test_content_that_the_server_cannot_hold_is_refused_and_nothing_is_written(
    postgres_url: str, bad: dict[str, Any]
) -> None:
    async with opened(postgres_url) as backend:
        effects = [Effects(messages=(message("fine"),)), Effects(messages=(message("bad")._replace(**bad),))]
        with pytest.raises(ContentRefusedError):
            await backend.commit(Batch(effects=effects))
        assert await backend.queue.locate(["fine"]) == {}


async def test_an_outcome_that_is_refused_is_found_among_its_neighbours(postgres_url: str) -> None:
    """Design 3: the culprit becomes a dead letter with the server's error; the others have ended as they did."""
    executors = TaskQueuesManager()

    @executors.executor("speak", store_on_success=True)
    async def speak(task: Task[str], actions: Actions) -> None:
        if task.payload == "nul":
            actions.fail(task, "a\0b")
        else:
            actions.success(task, task.payload)

    async with TaskHandler.connect(postgres_url, executors) as handler:
        words = ["one", "two", "nul", "three"]
        ids = await handler.add_tasks([speak.task(word) for word in words])
        await handler.drain()
        results = [await handler.task(id).result() for id, word in zip(ids, words, strict=True) if word != "nul"]
        assert results == ["one", "two", "three"]
        with pytest.raises(TaskFailedError, match="22021"):
            await handler.task(ids[2]).result()


# --- who may write ----------------------------------------------------------------------------------------------------


async def test_a_server_that_is_read_only_says_so(postgres_url: str) -> None:
    async with opened(f"{postgres_url}&default_transaction_read_only=on") as backend:
        with pytest.raises(ReadOnlyDatabaseError, match="name the primary"):
            await backend.queue.add([message("a")])


async def test_a_role_that_may_not_write_is_told_what_it_needs(postgres_server: str, postgres_url: str) -> None:
    async with opened(postgres_url) as owner:
        await owner.queue.add([message("a")])
        await owner.database.fetch("DROP ROLE IF EXISTS guest_of_tq")
        await owner.database.fetch("CREATE ROLE guest_of_tq LOGIN")
        try:
            theirs = postgres_url.replace("postgres@", "guest_of_tq@")
            async with opened(theirs) as backend:
                with pytest.raises(ReadOnlyDatabaseError, match=r"42501.*grant the role"):
                    await backend.queue.add([message("b")])
            async with opened(theirs.replace("schema=", "schema=new_")) as backend:
                with pytest.raises(ReadOnlyDatabaseError, match="CREATE SCHEMA"):
                    await backend.queue.add([message("b")])
        finally:
            await owner.database.fetch("DROP ROLE guest_of_tq")


async def test_tables_that_were_dropped_under_a_worker_are_missed_by_name(postgres_url: str) -> None:
    async with opened(f"{postgres_url}&namespace=dropped") as backend:
        await backend.queue.add([message("a")])
        await backend.database.fetch("DROP TABLE tq_messages")
        with pytest.raises(BackendError, match=r"dropped_messages.*open it again"):
            await backend.queue.locate(["a"])


# --- the end ---------------------------------------------------------------------------------------------------------


async def test_a_closed_backend_says_so(postgres_url: str) -> None:
    async with opened(postgres_url) as backend:
        await backend.queue.add([message("a")])
        await backend.close()
        with pytest.raises(BackendError, match="was closed"):
            await backend.queue.add([message("b")])
