"""Projection rows: written to a provider at hand, or left in the outbox; never a reason to fail."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from tq.codec import encode_projection
from tq.model import Outgoing, Projection
from tq.ports import EntityProjectionProvider, TaskStore

__all__ = ["Rows"]

log = logging.getLogger("tq.commit")

TOPIC = "projection"


class Rows:
    """Brings rows to the provider; those that it does not take wait in the outbox, for whoever feeds from there.

    Their order does not matter: the provider keeps the row with the largest version.
    """

    def __init__(self, provider: EntityProjectionProvider | None, store: TaskStore) -> None:
        self._provider = provider
        self._store = store

    async def write(self, rows: Sequence[Projection]) -> None:
        """Write the rows, now or later."""
        if self._provider is not None:
            try:
                await self._provider.upsert_projections(rows)
            except Exception as error:  # noqa: BLE001 -- whatever a provider raises, a task never hears of it
                log.warning("%d projection rows wait in the outbox: %r", len(rows), error)
            else:
                return
        await self._store.put_outgoing(
            [Outgoing(TOPIC, f"{row.task_id}:{row.version}", encode_projection(row)) for row in rows]
        )
