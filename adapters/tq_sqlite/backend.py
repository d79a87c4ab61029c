"""The backend: every part over one file, moved forward by one transaction per hop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Self

from tq.clock import Clock, SystemClock
from tq.model import Batch, Claim, Delivery, Hop, Place, Receipt
from tq.ports import Backend, Keeper

from . import leases
from .barrier import SqliteBarrier
from .claims import claim_messages
from .commit import Written, write_batch
from .connection import Connection
from .database import Database
from .guest import admitted
from .keeper import OwnKeeper, SharedKeeper
from .provider import SqliteProjections
from .queue import SqliteQueue
from .settings import SqliteSettings
from .shards import SqliteShardLeases
from .store import SqliteStore

__all__ = ["SqliteBackend", "open_backend"]

_NOTHING = Written([], [], [], [])


class SqliteBackend(Backend):
    """Atomic: a commit is one transaction. Queue and store keep one table of messages."""

    name = "sqlite"
    atomic = True

    def __init__(self, settings: SqliteSettings, clock: Clock) -> None:
        """Open the file and bring its schema forward.

        Raises:
            ConfigurationError: SQLite is older than 3.35.
            ForeignDatabaseError: the file is another program's, or a newer tq's; it was not touched.
            BackendError: and its branches, when it cannot be opened.
        """
        self.settings = settings
        self.enlists = not settings.private
        self.database = Database(settings, clock)
        """Runs transactions of your own beside tq's, in the same file."""
        self.queue = SqliteQueue(self, self.database)
        self.store = SqliteStore(self, self.database)
        self.barrier = SqliteBarrier(self, self.database)
        self.projections = SqliteProjections(self, self.database)
        self.shards = SqliteShardLeases(self, self.database)
        self.poll_interval = settings.poll_interval
        """Seconds after which a worker without work should ask `changed`, or simply claim."""

    @classmethod
    def open(cls, url: str, *, clock: Clock | None = None, **options: Any) -> Self:
        """Open the database that `url` names; options are the fields of `SqliteSettings`."""
        return cls(SqliteSettings.parse(url, **options), clock or SystemClock())

    def on_change(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call back when something may fall due earlier than a worker was told; return what takes the wish back.

        Tells of this backend's own commits; for those of other processes there is `changed`.
        """
        return self.database.on_change(callback)

    async def changed(self) -> bool:
        """Tell whether other processes have committed since this was last asked; costs next to nothing."""
        return await self.database.changed()

    async def commit(self, batch: Batch, claim: Claim | None = None) -> Hop:
        def hop(db: Connection) -> Hop:
            refused, closed, duplicates, known = write_batch(db, batch) if batch else _NOTHING
            if claim is None:
                return Hop([], [*refused], [*closed], [*duplicates], known=tuple(known))
            deliveries, next_due, cancelled = claim_messages(db, claim, Place.QUEUE)
            return Hop(deliveries, [*refused], [*closed], [*duplicates], next_due, cancelled, tuple(known))

        return await self.database.write(hop)

    async def commit_within(self, connection: object, batch: Batch) -> Hop:
        """Write in the caller's thread: the connection is theirs, and so is the wait for its locks."""
        with admitted(connection, self.settings, self.database.clock.now()) as db:
            refused, closed, duplicates, known = write_batch(db, batch)
            return Hop([], [*refused], [*closed], [*duplicates], known=tuple(known))

    async def park(self, delivery: Delivery, token: str, lease: float) -> Delivery | None:
        moved = await self.database.write(lambda db: leases.move(db, delivery.receipt, token, lease))
        return delivery._replace(token=token, place=Place.STORE) if moved else None

    def keeper(self) -> AbstractAsyncContextManager[Keeper]:
        if self.settings.private or self.database.clock.virtual:
            return SharedKeeper(self.database)
        return OwnKeeper(self.settings, self.database.clock)

    async def release(self, receipts: Sequence[Receipt]) -> None:
        await self.database.write(lambda db: leases.release(db, receipts))

    async def finish(self, ids: Sequence[str]) -> None: ...  # an ending is decided, and over, in one step

    async def close(self) -> None:
        self.database.close()


def open_backend(url: str, *, clock: Clock | None = None, **options: Any) -> SqliteBackend:
    """Open `sqlite:///relative.db`, `sqlite:////absolute.db`, or `sqlite://` for a private database in memory.

    The entry point of the group `tq.backends`.
    """
    return SqliteBackend.open(url, clock=clock, **options)
