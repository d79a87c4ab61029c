"""Sweeps up behind the hops: every task leaves dead rows and index entries, which claims must step over.

The server's own vacuum comes once a minute at most, by default. In a minute a busy worker leaves a million dead entries
at the very place where the next claim begins to read.
"""

from __future__ import annotations

import logging

from tq.errors import BackendError
from tq.lifecycle import Spawner

from .database import Database

__all__ = ["Sweeper"]

log = logging.getLogger("tq.postgres")

EVERY = 50_000
"""Tasks settled by this process after which it sweeps: to step over so many dead entries is still nothing."""


class Sweeper:
    """Counts what was settled, and has the table vacuumed in the background; of several workers one does it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._spawner = Spawner()
        self._settled = 0

    def settled(self, count: int) -> None:
        """Count tasks that are gone."""
        self._settled += count
        if self._settled >= EVERY and not len(self._spawner):
            self._settled = 0
            self._spawner.spawn(self._sweep(), "tq-sweeper")

    async def _sweep(self) -> None:
        try:
            # Who does not own the table is told so by a warning, and the server's own vacuum has to do.
            await self._database.fetch("VACUUM (SKIP_LOCKED, TRUNCATE false) tq_messages")
        except BackendError as error:
            log.info("not swept: %s", error)

    async def close(self) -> None:
        """Leave the rest to others."""
        await self._spawner.close()
