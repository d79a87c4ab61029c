"""Where statements run: a small pool, opened by the first of them; transactions that lost a race are made again."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from tq.clock import Clock, apart
from tq.errors import BackendError
from tq.inline import Inline
from tq.lifecycle import OneProcess

from .connection import Connection, Lent, Pool, Row, check_version, make_pool, reading
from .errors import lost_a_race, mapped
from .listener import Listener
from .schema import Schema
from .settings import PostgresSettings
from .statement import Statement

__all__ = ["Database"]

log = logging.getLogger("tq.postgres")

RACES = 20
"""How often a transaction that met another one is made again."""
PLAN_ANEW = 1.0
"""Seconds for which a connection keeps its plans: what is best for ten rows is not for the million that came since."""
LAST_CALLS = 5.0
"""Seconds for which closing lets statements come to their end."""


class Database:
    """Runs statements, each a transaction of its own.

    In virtual time, where nothing may wait for a socket, they run while the loop stands still, at the clock's present.
    """

    def __init__(self, settings: PostgresSettings, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        self.place = settings.place
        self.schema = Schema(settings)
        self._inline = Inline() if clock.virtual else None
        self._opening = asyncio.Lock()
        self._pool: Pool | None = None
        self._closed = False
        self._process = OneProcess(self.place)
        self._pids: dict[int, float] = {}
        """The server's processes that work for this backend, and when each of them last made its plans."""
        self._listener = Listener(settings, self.schema.channel, clock, self._pids)

    async def fetch(self, text: str, *args: object) -> list[Row]:
        """Run a statement; return its rows.

        Raises:
            BackendError: and its branches, as `tq_postgres.errors` maps them.
        """
        self._process.check()
        if self._inline is not None:
            if self._closed:
                raise BackendError(f"{self.place} was closed")
            return self._inline.run(self._fetch(text, args, self.clock.now()))
        races = 0
        while True:
            try:
                return await self._fetch(text, args)
            except BackendError as error:
                if not lost_a_race(error) or races == RACES:
                    raise
            races += 1
            await self.clock.sleep(random.random() * 0.002 * races)

    async def _fetch(self, text: str, args: Sequence[object], now: float | None = None) -> list[Row]:
        pool = self._pool or await self._open()
        with mapped(self.place):
            async with pool.acquire() as connection:
                try:
                    if now is not None:
                        await connection.execute(f"SET tq.now = '{now!r}'")
                    elif self._plans_are_old(connection.get_server_pid()):
                        await connection.execute("DISCARD PLANS")
                    return await connection.fetch(self.schema.sql(text), *args)
                except TimeoutError:
                    connection.terminate()  # the next one would wait for the end of what was given up
                    raise

    def _plans_are_old(self, pid: int) -> bool:
        now = self.clock.monotonic()
        if now - self._pids.get(pid, 0.0) < PLAN_ANEW:
            return False
        self._pids[pid] = now
        return True

    async def call(self, function: str, *args: object, wakes: bool = False) -> Any:
        """Call one of the functions in `sql/`; return its value. `wakes`: something may have fallen due."""
        statement = Statement()
        statement.call(function, *args, returns="value")
        [row] = await self.run(statement, wakes=wakes)
        return row[0]

    async def run(self, statement: Statement, *, wakes: bool = False) -> list[Row]:
        """Run a statement of several calls; return its rows."""
        rows = await self.fetch(statement.text, *statement.args)
        if wakes:
            self._listener.tell()
        return rows

    def on_change(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call back when something may have fallen due, whoever wrote it; return what ends it."""
        return self._listener.on_change(callback, listening=self._inline is None)

    # --- opening and closing --------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect, and bring the schema forward, unless that was done.

        Raises:
            BackendError: and its branches.
            ConfigurationError: the URL cannot be read, or the server is too old.
        """
        if self._pool is not None:
            return
        if self._inline is None:
            await self._open()
        else:
            self._inline.run(self._open())

    async def _open(self) -> Pool:
        async with self._opening:
            if self._closed:
                raise BackendError(f"{self.place} was closed")
            if self._pool is None:
                pool = await make_pool(self.settings, self._made)
                try:
                    with reading(self.settings):
                        async with pool.acquire() as connection:
                            check_version(self.place, connection.get_server_version())
                            await self._compare_clocks(connection)
                            await self.schema.migrate(connection)
                except BaseException:
                    pool.terminate()
                    raise
                self._pool = pool
            return self._pool

    async def _compare_clocks(self, connection: Lent) -> None:
        """Warn where the server and this machine do not agree on the time."""
        theirs: float = await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
        if not self.clock.virtual and (off := apart(self.place, theirs, self.clock.now())):
            log.warning(off)

    async def _made(self, connection: Connection) -> None:
        """Remember the connections of this backend: what they tell of is known here already."""
        pid = connection.get_server_pid()
        self._pids[pid] = 0.0

        def forget(_: object) -> None:
            self._pids.pop(pid, None)

        connection.add_termination_listener(forget)

    async def close(self) -> None:
        """Finish what was begun and close the connections; may be called twice."""
        if not self._process.here:
            return
        await self._listener.close()
        if self._inline is None:
            await self._close()
        elif not self._closed:
            self._inline.run(self._close())
            self._inline.close()

    async def _close(self) -> None:
        async with self._opening:
            self._closed = True
            pool, self._pool = self._pool, None
        if pool is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_CALLS):  # noqa: TID251 -- the server's time: nobody's clock moves it
                    await pool.close()
            pool.terminate()
