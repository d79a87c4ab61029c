"""Projection rows: written to a provider at hand, or left in the outbox; never a reason to fail."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from tq.codec import decode_projection, encode_projection
from tq.model import Outgoing, Projection
from tq.ports import EntityProjectionProvider, TaskStore

__all__ = ["Rows"]

log = logging.getLogger("tq.commit")

TOPIC = "projection"
PAGE = 500


class Rows:
    """Brings rows to the provider.

    Rows that it does not take go to the outbox and are tried again along with later ones. Their order does not matter:
    the provider keeps the row with the largest version.
    """

    def __init__(self, provider: EntityProjectionProvider | None, store: TaskStore) -> None:
        self._provider = provider
        self._store = store
        self._behind = provider is not None
        """Whether rows may wait in the outbox; some may have been left there by a process that is gone."""

    async def write(self, rows: Sequence[Projection]) -> None:
        """Write the rows, now or later."""
        if self._provider is not None:
            try:
                await self._provider.upsert_projections(rows)
                if self._behind:
                    await self._catch_up(self._provider)
            except Exception as error:  # noqa: BLE001 -- whatever a provider raises, a task never hears of it
                log.warning("%d projection rows wait in the outbox: %r", len(rows), error)
                self._behind = True
            else:
                return
        await self._store.put_outgoing(
            [Outgoing(TOPIC, f"{row.task_id}:{row.version}", encode_projection(row)) for row in rows]
        )

    async def _catch_up(self, provider: EntityProjectionProvider) -> None:
        while notes := await self._store.outgoing(TOPIC, PAGE):
            await provider.upsert_projections([decode_projection(note.body) for note in notes])
            await self._store.sent(notes)
        self._behind = False
