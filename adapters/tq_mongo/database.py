"""Where commands are sent: the collections of one namespace, through a client of the loop that asks."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from tq.clock import Clock
from tq.errors import BackendError
from tq.inline import Inline
from tq.lifecycle import OneProcess

from .bell import Bell
from .client import Client, close, connect
from .errors import mapped
from .schema import Schema
from .settings import MongoSettings
from .table import Table

__all__ = ["Database"]

T = TypeVar("T")

LOOK_AT_CLOCK = 60.0
"""Seconds after which the server is asked again what time it is."""
RESOLUTION = 0.001
"""Seconds to which a server tells the time."""


class Database:
    """The collections, and the server's time.

    Due times and leases go by the server's clock: it is asked now and then how far it is from ours. In virtual time,
    where nothing may wait for a socket, calls are made while the loop stands still, at the virtual clock's present.
    """

    def __init__(self, settings: MongoSettings, clock: Clock, client: Client | None = None) -> None:
        self.settings = settings
        self.clock = clock
        self.place = settings.place
        self.bell = Bell()
        self._given = client
        self._inline = Inline() if clock.virtual else None
        self._client: Client | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opening: asyncio.Lock | None = None
        self._opened = False
        self._closed = False
        self._process = OneProcess(self.place)
        self._offset = 0.0
        self._looked = float("-inf")
        self._seq = 0
        self.tables: dict[str, Table] = {}
        self.meta = self._table("meta")
        self.tasks = self._table("tasks")
        self.parts = self._table("parts")
        self.flows = self._table("flows")
        self.results = self._table("results")
        self.projections = self._table("projections")
        self.outcomes = self._table("outcomes")
        self.chunks = self._table("chunks")
        self.notes = self._table("notes")
        self.workers = self._table("workers")
        self.shards = self._table("shards")
        self.schema = Schema(settings)

    def _table(self, name: str) -> Table:
        self.tables[name] = Table(self, f"{self.settings.namespace}_{name}")
        return self.tables[name]

    def beside(self) -> Database:
        """Return one more way to the same collections, with connections of its own."""
        return Database(self.settings, self.clock)

    async def run(self, work: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
        """Give the driver's database to `work`, and return what that returns.

        Raises:
            BackendError: and its branches, as `tq_mongo.errors` maps them.
        """
        if self._closed:
            raise BackendError(f"{self.place} was closed")
        self._process.check()
        if self._inline is not None:
            return self._inline.run(self._run(work))
        return await self._run(work)

    async def _run(self, work: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
        database = self._of_this_loop()[self.settings.database]
        with mapped(self.place):
            if not self._opened:
                await self._open(database)
            return await work(database)

    def _of_this_loop(self) -> Client:
        """Return a client whose connections belong to the loop that runs; those of an ended loop are of no use."""
        if self._given is not None:
            return self._given
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            self._client, self._loop, self._opening = connect(self.settings), loop, None
        return self._client

    async def _open(self, database: Any) -> None:
        """Look whether the namespace is ours, and make what is missing of it."""
        if self._opening is None:
            self._opening = asyncio.Lock()
        async with self._opening:
            if not self._opened:
                await self.schema.prepare(database)
                self._opened = True

    async def pause(self, delay: float) -> None:
        """Wait a little, so that others come first."""
        await self.clock.sleep(delay)

    async def now(self) -> float:
        """Return the server's present, as nearly as it can be known here."""
        if self.clock.virtual:
            return self.clock.now()
        if self.clock.monotonic() - self._looked > LOOK_AT_CLOCK:
            await self._look_at_clock()
        return self.clock.now() + self._offset

    async def _look_at_clock(self) -> None:
        before = self.clock.now()
        hello: dict[str, Any] = await self.run(lambda database: awaited(database.command("hello")))
        after = self.clock.now()
        told = hello.get("localTime")
        if told is not None:
            offset = told.timestamp() + RESOLUTION / 2 - (before + after) / 2
            # What cannot be told from the way there and back is no difference.
            self._offset = offset if abs(offset) > (after - before) / 2 + RESOLUTION else 0.0
        self._looked = self.clock.monotonic()

    def numbers(self, many: int) -> int:
        """Return the first of so many numbers that order what is added; between processes, by the clock."""
        first = max(self._seq + 1, int((self.clock.now() + self._offset) * 1e6))
        self._seq = first + many - 1
        return first

    async def close(self) -> None:
        """Close the connections; may be called twice."""
        if self._closed or not self._process.here:
            return
        self._closed = True
        self.bell.close()
        if self._inline is not None:
            self._inline.run(self._close())
            self._inline.close()
        else:
            await self._close()

    async def _close(self) -> None:
        client, self._client = self._client, None
        if client is not None and self._loop is asyncio.get_running_loop():
            await close(client)


async def awaited(answer: Awaitable[T] | T) -> T:
    """Return what a driver answers, at once or later: Motor and PyMongo differ in that."""
    if inspect.isawaitable(answer):
        return await answer
    return answer
