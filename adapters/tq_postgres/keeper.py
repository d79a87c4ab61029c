"""Renewal of leases, from a thread, an event loop and a connection of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from tq.model import Delivery, Renewal
from tq.ports import Keeper

from .connection import Connection, connect
from .database import Database
from .errors import mapped
from .queue import Renewing
from .schema import Schema
from .settings import PostgresSettings

__all__ = ["OwnKeeper", "SharedKeeper"]


class OwnKeeper(Keeper):
    """Shares nothing with the backend: neither a stalled event loop nor a full pool stops it."""

    def __init__(self, settings: PostgresSettings) -> None:
        self._settings = settings
        self._schema = Schema(settings)
        self._connection: Connection | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._leave()

    def _leave(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def renew(self, deliveries: Sequence[Delivery], lease: float) -> Renewal:
        renewing = Renewing([delivery.receipt for delivery in deliveries], lease)
        sql, args = self._schema.sql(renewing.statement.text), renewing.statement.args
        try:
            with mapped(self._settings.place):
                if self._connection is None or self._connection.is_closed():
                    self._connection = await connect(self._settings)
                # As `Database` does: the last plan was made long ago.
                await self._connection.execute("DISCARD PLANS")
                [row] = await self._connection.fetch(sql, *args)
        except BaseException:  # given up, too: the next call goes over another connection
            self._leave()
            raise
        return renewing.answer(row)


class SharedKeeper(Keeper):
    """Goes the backend's own way: virtual time knows no second thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def renew(self, deliveries: Sequence[Delivery], lease: float) -> Renewal:
        renewing = Renewing([delivery.receipt for delivery in deliveries], lease)
        [row] = await self._database.run(renewing.statement)
        return renewing.answer(row)
