"""Renewal of leases, from a thread and an event loop of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Self

from tq.clock import Clock
from tq.model import Delivery, Renewal
from tq.ports import Keeper

from . import leases
from .connection import Connection, connect, transact
from .database import Database
from .errors import mapped
from .settings import SqliteSettings

__all__ = ["OwnKeeper", "SharedKeeper"]


class OwnKeeper(Keeper):
    """Has a connection of its own: neither a stalled event loop nor a long transaction of the worker's stops it."""

    def __init__(self, settings: SqliteSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._db: Connection | None = None

    async def __aenter__(self) -> Self:
        self._db = connect(self._settings)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._db is not None:
            self._db.close()

    async def renew(self, deliveries: Sequence[Delivery], lease: float) -> Renewal:
        assert self._db is not None, "enter the keeper first"  # noqa: S101
        receipts = [delivery.receipt for delivery in deliveries]
        # It may wait here for other writers: this loop has nothing else to do.
        with mapped(self._settings.path):
            return transact(self._db, self._clock.now, lambda db: leases.renew(db, receipts, lease))


class SharedKeeper(Keeper):
    """Goes through the backend's writer: a private database has no second connection, and virtual time no thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def renew(self, deliveries: Sequence[Delivery], lease: float) -> Renewal:
        receipts = [delivery.receipt for delivery in deliveries]
        return await asyncio.wrap_future(
            self._database.write_from_elsewhere(lambda db: leases.renew(db, receipts, lease))
        )
