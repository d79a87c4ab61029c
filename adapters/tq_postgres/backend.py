"""The backend: every part over one database, moved forward by one statement per hop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Self

from tq.clock import Clock, SystemClock
from tq.model import Batch, Claim, Delivery, Hop, Place, Receipt
from tq.ports import Backend, Keeper

from . import shapes
from .barrier import PostgresBarrier
from .commit import commit
from .database import Database
from .guest import admitted
from .keeper import OwnKeeper, SharedKeeper
from .provider import PostgresProjections
from .queue import PostgresQueue
from .settings import PostgresSettings
from .shards import PostgresShardLeases
from .store import PostgresStore
from .sweeper import Sweeper

__all__ = ["PostgresBackend", "open_backend"]


class PostgresBackend(Backend):
    """Atomic: a commit is one transaction. Queue and store keep one table of messages.

    Due times and leases follow the server's clock. It connects with the first call that needs the server.
    """

    name = "postgres"
    atomic = True

    def __init__(self, settings: PostgresSettings, clock: Clock) -> None:
        self.settings = settings
        self.enlists = not clock.virtual  # a connection of the user's would have to be waited for
        self.database = Database(settings, clock)
        self.queue = PostgresQueue(self, self.database)
        self.store = PostgresStore(self, self.database)
        self.barrier = PostgresBarrier(self, self.database)
        self.projections = PostgresProjections(self, self.database)
        self.shards = PostgresShardLeases(self, self.database)
        self.poll_interval = settings.poll_interval
        self._sweeper = Sweeper(self.database)

    @classmethod
    def open(cls, url: str, *, clock: Clock | None = None, **options: Any) -> Self:
        """Name the database that `url` names; options are the fields of `PostgresSettings`."""
        return cls(PostgresSettings.parse(url, **options), clock or SystemClock())

    def on_change(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call back when something may fall due earlier than a worker was told, whichever process wrote it."""
        return self.database.on_change(callback)

    async def commit(self, batch: Batch, claim: Claim | None = None) -> Hop:
        hop = await commit(self.database, batch, claim)
        self._sweeper.settled(len(batch.settlements))
        return hop

    async def commit_within(self, connection: object, batch: Batch) -> Hop:
        await self.database.open()
        async with admitted(connection, self.database.schema) as guest:
            return await commit(guest, batch, None)

    async def park(self, delivery: Delivery, token: str, lease: float) -> Delivery | None:
        moved = await self.database.call("move", *delivery.receipt, token, lease)
        return delivery._replace(token=token, place=Place.STORE) if moved else None

    def keeper(self) -> AbstractAsyncContextManager[Keeper]:
        return SharedKeeper(self.database) if self.database.clock.virtual else OwnKeeper(self.settings)

    async def release(self, receipts: Sequence[Receipt]) -> None:
        if receipts:
            await self.database.call("release", *shapes.columns(receipts, 2), wakes=True)

    async def finish(self, ids: Sequence[str]) -> None: ...  # an ending is decided, and over, in one step

    async def close(self) -> None:
        await self._sweeper.close()
        await self.database.close()


def open_backend(url: str, *, clock: Clock | None = None, **options: Any) -> PostgresBackend:
    """Name the database of `postgresql://user:password@host:port/database?schema=…&namespace=…`.

    The entry point of the group `tq.backends`.
    """
    return PostgresBackend.open(url, clock=clock, **options)
