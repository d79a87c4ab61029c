"""Tasks that are added in a transaction of the user's own come, or do not come, with it (RFC 010)."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from tq import Entity, FlowStep, Join, Task, TaskHandler, TaskQueuesManager
from tq.errors import AddTasksError, InvalidInputError
from tq.memory import MemoryProjections

pytestmark = pytest.mark.realtime


@asynccontextmanager
async def opened(url: str) -> AsyncGenerator[tuple[TaskHandler, list[int]], None]:
    """Give a handler, and the payloads that have run."""
    executors, ran = TaskQueuesManager(), list[int]()

    @executors.task("work")
    def work(number: int) -> None:
        ran.append(number)

    @executors.task("join")
    def join(_: dict[str, object]) -> None:
        ran.append(-1)

    async with TaskHandler.connect(url, executors) as handler:
        yield handler, ran


def task(number: int) -> Task[int]:
    return Task(type="work", payload=number, entity=Entity("Number", str(number)))


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


async def test_tasks_of_a_transaction_of_asyncpg_run_once_it_has_committed(postgres_url: str) -> None:
    async with opened(postgres_url) as (handler, ran), asyncpg.create_pool(postgres_url.partition("?")[0]) as pool:
        async with pool.acquire() as connection, connection.transaction():
            ids = await handler.add_tasks([task(1), task(2)], connection=connection)
            assert await handler.task(ids[0]).status() == "unknown"
            await handler.drain()
            assert ran == []
        await handler.drain()
        assert sorted(ran) == [1, 2]


async def test_tasks_of_a_transaction_that_is_rolled_back_never_were(postgres_url: str) -> None:
    async with opened(postgres_url) as (handler, ran), asyncpg.create_pool(postgres_url.partition("?")[0]) as pool:
        async with pool.acquire() as connection:
            transaction = connection.transaction()
            await transaction.start()
            await handler.add_tasks([task(1)], connection=connection)
            steps = [FlowStep("work", payload=number) for number in range(3)]
            flow_id = await handler.start_flow(steps, join=Join("join"), connection=connection)
            await transaction.rollback()
        await handler.drain()
        assert ran == []
        assert await handler.backend.barrier.get([flow_id]) == {}  # type: ignore[union-attr]


async def test_a_flow_of_a_transaction_joins(postgres_url: str) -> None:
    async with opened(postgres_url) as (handler, ran), asyncpg.create_pool(postgres_url.partition("?")[0]) as pool:
        async with pool.acquire() as connection, connection.transaction():
            steps = [FlowStep("work", payload=number) for number in range(3)]
            await handler.start_flow(steps, join=Join("join"), connection=connection)
        await handler.drain()
        assert sorted(ran) == [-1, 0, 1, 2]


async def test_tasks_go_with_a_session_of_sqlalchemy_and_with_its_connection(postgres_url: str) -> None:
    engine = create_async_engine(postgres_url.partition("?")[0].replace("://", "+asyncpg://"))
    async with opened(postgres_url) as (handler, ran):
        async with AsyncSession(engine) as session, session.begin():
            await handler.add_tasks([task(1)], connection=session)  # the first statement of its transaction
            await session.execute(text("SELECT 1"))
        async with engine.begin() as connection:
            await handler.add_tasks([task(2)], connection=connection)
        async with AsyncSession(engine) as session:
            await handler.add_tasks([task(3)], connection=session)
            await session.rollback()
        await engine.dispose()
        await handler.drain()
        assert sorted(ran) == [1, 2]


async def test_a_connection_without_a_transaction_is_refused(postgres_url: str) -> None:
    async with opened(postgres_url) as (handler, ran):
        connection = await asyncpg.connect(postgres_url.partition("?")[0])
        with pytest.raises(InvalidInputError, match="with a transaction begun"):
            await handler.add_tasks([task(1)], connection=connection)
        await connection.close()
        with pytest.raises(InvalidInputError, match="with a transaction begun"):
            await handler.add_tasks([task(1)], connection=connection)
        await handler.drain()
        assert ran == []


async def test_a_connection_to_another_database_is_refused_and_stays_usable(postgres_url: str) -> None:
    """Even where tables of tq are there, too: they are not the handler's."""
    server = postgres_url.partition("?")[0]
    other = f"{server.rpartition('/')[0]}/tq_other"
    here = await asyncpg.connect(server)
    await here.execute("DROP DATABASE IF EXISTS tq_other")
    await here.execute("CREATE DATABASE tq_other")
    try:
        async with opened(postgres_url) as (handler, _):
            for once_there in (False, True):
                if once_there:
                    async with opened(postgres_url.replace(server, other)):
                        pass
                there = await asyncpg.connect(other)
                async with there.transaction():
                    with pytest.raises(InvalidInputError, match="the handler's own database"):
                        await handler.add_tasks([task(1)], connection=there)
                    await there.execute("SELECT 1")
                await there.close()
    finally:
        await here.execute("DROP DATABASE tq_other")
        await here.close()


async def test_a_refused_task_leaves_the_transaction_usable(postgres_url: str) -> None:
    async with opened(postgres_url) as (handler, ran), asyncpg.create_pool(postgres_url.partition("?")[0]) as pool:
        async with pool.acquire() as connection, connection.transaction():
            with pytest.raises(AddTasksError, match="1 tasks were not accepted"):
                await handler.add_tasks([Task(id="a\0b", type="work", payload=1)], connection=connection)
            await handler.add_tasks([task(2)], connection=connection)
        await handler.drain()
        assert ran == [2]


# --- SQLite -----------------------------------------------------------------------------------------------------------


async def test_tasks_go_with_a_transaction_of_sqlite(tmp_path: Path) -> None:
    async with opened(f"sqlite:///{tmp_path / 'app.db'}") as (handler, ran):
        with closing(sqlite3.connect(tmp_path / "app.db")) as connection:
            connection.row_factory, connection.text_factory = sqlite3.Row, bytes
            connection.execute("CREATE TABLE orders (id TEXT)")
            with connection:
                connection.execute("INSERT INTO orders VALUES ('o-1')")
                await handler.add_tasks([task(1)], connection=connection)
            connection.execute("INSERT INTO orders VALUES ('o-2')")
            await handler.add_tasks([task(2)], connection=connection)
            connection.rollback()
            assert [tuple(row) for row in connection.execute("SELECT id FROM orders")] == [(b"o-1",)]
        await handler.drain()
        assert ran == [1]


async def test_a_connection_to_another_file_is_refused(tmp_path: Path) -> None:
    async with opened(f"sqlite:///{tmp_path / 'app.db'}") as (handler, ran):
        for place in (":memory:", tmp_path / "other.db"):
            with closing(sqlite3.connect(place)) as connection:
                connection.execute("BEGIN")
                with pytest.raises(InvalidInputError, match=r"the handler's own file.*app\.db"):
                    await handler.add_tasks([task(1)], connection=connection)
        with (
            closing(sqlite3.connect(tmp_path / "app.db")) as connection,
            pytest.raises(InvalidInputError, match="with a transaction begun"),
        ):
            await handler.add_tasks([task(1)], connection=connection)
        await handler.drain()
        assert ran == []


# --- who cannot -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["memory://", "immediate://", "sqlite://"])
async def test_a_backend_that_cannot_refuses_at_the_door(url: str) -> None:
    async with opened(url) as (handler, ran):
        with pytest.raises(InvalidInputError, match=r"connection is refused: .*leave it out"):
            await handler.add_tasks([task(1)], connection=object())
        with pytest.raises(InvalidInputError, match=r"connection is refused: .*leave it out"):
            await handler.start_flow([FlowStep("work", payload=1)], join=Join("join"), connection=object())
        await handler.drain()
        assert ran == []


async def test_notes_for_a_provider_of_the_users_go_with_the_transaction(tmp_path: Path) -> None:
    executors = TaskQueuesManager()
    executors.queue("default")
    rows = MemoryProjections()
    async with TaskHandler.connect(f"sqlite:///{tmp_path / 'app.db'}") as first:
        parts = {"queue": first.backend.queue, "store": first.backend.store, "barrier": first.backend.barrier}
        handler = TaskHandler(executors=executors, projections=rows, **parts)  # type: ignore[arg-type]
        with closing(sqlite3.connect(tmp_path / "app.db")) as connection, connection:
            connection.execute("BEGIN")
            await handler.add_tasks([task(1)], connection=connection)
            assert await first.backend.store.outgoing("projection", 10) == []
        [note] = await first.backend.store.outgoing("projection", 10)
        assert note.topic == "projection"
