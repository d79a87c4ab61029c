"""Writing inside a transaction of the user's own: through asyncpg, or through SQLAlchemy over asyncpg."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, cast

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from tq.errors import BackendError, InvalidInputError

from .connection import Lent, Row
from .errors import mapped
from .schema import Schema
from .statement import Statement

__all__ = ["Guest", "admitted"]

WAYS_IN = (
    "give an asyncpg connection, or an AsyncConnection or AsyncSession of SQLAlchemy over asyncpg, to the handler's own"
    " database, with a transaction begun"
)


class Guest:
    """Runs statements on a connection that is somebody else's, without ending, or spoiling, its transaction."""

    def __init__(self, connection: Lent, schema: Schema) -> None:
        self._connection = connection
        self._schema = schema

    async def run(self, statement: Statement, *, wakes: bool = False) -> list[Row]:
        """Run a statement of several calls; where it fails, the transaction is as it was before.

        Nobody is woken here: the server does that when the transaction commits.
        """
        return await self.fetch(statement.text, *statement.args)

    async def fetch(self, text: str, *args: object) -> list[Row]:
        """Run a statement, as `run` does."""
        with mapped(self._schema.place):
            try:
                return await self._connection.fetch(self._schema.sql(text), *args)
            except BaseException:
                await self._connection.execute("ROLLBACK TO SAVEPOINT tq")
                raise


@asynccontextmanager
async def admitted(given: object, schema: Schema) -> AsyncGenerator[Guest, None]:
    """Let a connection in for a while, within a savepoint of its transaction.

    Raises:
        InvalidInputError: it is of another kind, leads to another database, or has no transaction begun.
    """
    connection = await _driver_connection(given)
    if connection is None or connection.is_closed() or not connection.is_in_transaction():
        raise InvalidInputError("connection", given, WAYS_IN)
    guest = Guest(connection, schema)
    with mapped(schema.place):
        await connection.execute("SAVEPOINT tq")
    try:
        if not await _leads_here(guest, schema):
            raise InvalidInputError("connection", given, f"{WAYS_IN}: {schema.place}, {schema.name('schema')}")
        yield guest
    finally:
        with mapped(schema.place):
            await connection.execute("RELEASE SAVEPOINT tq")


async def _driver_connection(given: object) -> Lent | None:
    """Return the connection of asyncpg that this is, or stands for."""
    if isinstance(given, asyncpg.Connection | PoolConnectionProxy):
        return cast("Lent", given)
    if not type(given).__module__.startswith("sqlalchemy.") and not hasattr(given, "sync_session"):
        return None
    through = cast("Any", given)
    if hasattr(through, "sync_session"):
        through = await through.connection()
    if not hasattr(through, "get_raw_connection"):
        return None
    await through.exec_driver_sql("SELECT 1")  # SQLAlchemy begins its transaction with the first statement
    connection = (await through.get_raw_connection()).driver_connection
    return cast("Lent", connection) if isinstance(connection, asyncpg.Connection) else None


async def _leads_here(guest: Guest, schema: Schema) -> bool:
    try:
        [(instance,)] = await guest.fetch("SELECT instance FROM tq_schema")
    except BackendError:
        return False
    return bool(instance == schema.instance)
