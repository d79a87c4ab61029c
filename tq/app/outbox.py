"""Rows for a user's own projection provider leave by the outbox: written with the commit, fed in order afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager

from tq.codec import encode_projection
from tq.model import Batch, Claim, Delivery, Effects, Hop, Outgoing, Projection, Receipt, Resolve
from tq.ports import Backend, EntityProjectionProvider, Keeper

__all__ = ["TOPIC", "NoRows", "OutboxBackend", "as_notes"]

TOPIC = "projection"


def as_notes(effects: Effects) -> Effects:
    """Return the effects with every projection row turned into a note of the outbox."""
    if not effects.projections and not effects.resolves:
        return effects
    resolves = tuple([Resolve(item.task_id, item.flow_id, as_notes(item.effects)) for item in effects.resolves])
    notes = tuple(
        [Outgoing(TOPIC, f"{row.task_id}:{row.version}", encode_projection(row)) for row in effects.projections]
    )
    return effects._replace(projections=(), outgoing=effects.outgoing + notes, resolves=resolves)


class NoRows(EntityProjectionProvider):
    """Keeps nothing: for parts of which none has a place for rows."""

    async def upsert_projections(self, rows: Sequence[Projection]) -> None: ...


class OutboxBackend(Backend):
    """A backend whose rows become notes, whoever commits them: worker, producer, handles and repairs alike."""

    def __init__(self, inner: Backend) -> None:
        self._inner = inner
        self.name = inner.name
        self.queue = inner.queue
        self.store = inner.store
        self.barrier = inner.barrier
        self.projections = None
        self.atomic = inner.atomic
        self.enlists = inner.enlists
        self.poll_interval = inner.poll_interval

    async def commit(self, batch: Batch, claim: Claim | None = None) -> Hop:
        return await self._inner.commit(_noted(batch), claim)

    async def commit_within(self, connection: object, batch: Batch) -> Hop:
        return await self._inner.commit_within(connection, _noted(batch))

    def on_change(self, callback: Callable[[], object]) -> Callable[[], None]:
        return self._inner.on_change(callback)

    async def park(self, delivery: Delivery, token: str, lease: float) -> Delivery | None:
        return await self._inner.park(delivery, token, lease)

    def keeper(self) -> AbstractAsyncContextManager[Keeper]:
        return self._inner.keeper()

    async def release(self, receipts: Sequence[Receipt]) -> None:
        await self._inner.release(receipts)

    async def finish(self, ids: Sequence[str]) -> None:
        await self._inner.finish(ids)

    async def close(self) -> None:
        await self._inner.close()


def _noted(batch: Batch) -> Batch:
    return Batch(
        settlements=[item._replace(effects=as_notes(item.effects)) for item in batch.settlements],
        effects=[as_notes(effects) for effects in batch.effects],
        solo=batch.solo,
    )
