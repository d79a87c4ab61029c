"""The backend: every part over one database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Self

from tq.clock import Clock, SystemClock
from tq.model import Batch, Claim, Delivery, Hop, Place, Receipt
from tq.ports import Backend, Claimed, Keeper

from . import changes
from .barrier import MongoBarrier
from .carry import Brought, Carrier
from .claims import Claims
from .client import Client
from .commit import Commits
from .database import Database
from .endings import Endings
from .journal import Journal
from .keeper import MongoKeeper
from .lanes import Lanes
from .leases import change_each
from .ledger import Ledger
from .marks import Marks
from .provider import MongoProjections
from .queue import MongoQueue
from .settings import MongoSettings
from .shards import MongoShardLeases
from .store import MongoStore
from .table import Document

__all__ = ["MongoBackend", "open_backend"]


class MongoBackend(Backend):
    """A commit counts whole, or not at all: what is more than one write is written down first (`journal`).

    Args:
        settings: where the server is.
        clock: tells the time.
        client: of PyMongo (`AsyncMongoClient`) or Motor, of the event loop that it is used in; absent means one of
            our own. It is not closed with the backend. Leases are renewed over connections of our own in any case.
    """

    name = "mongodb"
    atomic = True

    def __init__(self, settings: MongoSettings, clock: Clock, client: Client | None = None) -> None:
        self.settings = settings
        self.poll_interval = settings.poll_interval
        self._database = database = Database(settings, clock, client)
        self.tables = database.tables
        """The collections by name: each command passes through one of them."""
        self.lanes = Lanes(database)
        self.marks = Marks(database)
        self.ledger = Ledger(database)
        self.journal = Journal(database)
        endings = Endings(database, self.lanes)
        carrier = Carrier(
            database, journal=self.journal, lanes=self.lanes, marks=self.marks, ledger=self.ledger, endings=endings
        )
        self._commits = Commits(
            database, journal=self.journal, carrier=carrier, endings=endings, lanes=self.lanes, ledger=self.ledger
        )
        self.claims = Claims(database, carrier.redo)
        self.queue = MongoQueue(self, database)
        self.store = MongoStore(self, database)
        self.barrier = MongoBarrier(self, database)
        self.projections = MongoProjections(self, database)
        self.shards = MongoShardLeases(self, database)

    @classmethod
    def open(cls, url: str, *, clock: Clock | None = None, **options: Any) -> Self:
        """Open what `url` names; options are the fields of `MongoSettings`."""
        return cls(MongoSettings.parse(url, **options), clock or SystemClock())

    def on_change(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call back when something was written here that may fall due earlier than a worker was told."""
        return self._database.bell.on_change(callback)

    async def commit(self, batch: Batch, claim: Claim | None = None) -> Hop:
        if claim is not None:
            self.journal.lease = claim.lease
        refused, brought = await self._commits.write(batch) if batch else ([], Brought([], [], []))
        claimed = Claimed([]) if claim is None else await self.claims.claim(claim)
        return Hop(
            claimed.deliveries,
            refused,
            brought.closed,
            brought.duplicates,
            claimed.next_due,
            claimed.cancelled,
            tuple(brought.known),
        )

    async def park(self, delivery: Delivery, token: str, lease: float) -> Delivery | None:
        until = await self._database.now() + lease

        def move(document: Document, _: Receipt) -> None:
            changes.lease(document, token, until)
            document["place"] = str(Place.STORE)

        receipts = [delivery.receipt, Receipt(delivery.message.id, token)]  # the answer of an earlier call may be lost
        moved = await change_each(self._database, receipts, move)
        return delivery._replace(token=token, place=Place.STORE) if moved else None

    async def finish(self, ids: Sequence[str]) -> None: ...  # an ending that is written down is carried out first

    def keeper(self) -> AbstractAsyncContextManager[Keeper]:
        return MongoKeeper(self._database)

    async def release(self, receipts: Sequence[Receipt]) -> None:
        now = await self._database.now()
        await change_each(self._database, receipts, lambda document, _: changes.release(document, now))
        self._database.bell.ring()

    async def close(self) -> None:
        await self._database.close()


def open_backend(url: str, *, clock: Clock | None = None, **options: Any) -> MongoBackend:
    """Open `mongodb://user:password@host:27017/database`, or `mongodb+srv://`.

    The entry point of the group `tq.backends`.
    """
    return MongoBackend.open(url, clock=clock, **options)
