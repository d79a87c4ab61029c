"""Renews leases in both custodies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Self

from tq.model import Delivery, Place, Receipt, Renewal
from tq.ports import Backend, Custody, Keeper

__all__ = ["BothKeeper", "home_of"]


def home_of(part: object) -> Backend | None:
    """Return the backend that a part belongs to, if it tells."""
    home: Backend | None = getattr(part, "backend", None)
    return home


class PartKeeper(Keeper):
    """Renews through the part itself, in the event loop in which the part lives.

    A part that belongs to no backend has no second connection. While that loop is blocked its leases are not renewed.
    """

    def __init__(self, part: Custody, loop: Callable[[], asyncio.AbstractEventLoop | None]) -> None:
        self._part = part
        self._loop = loop

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def renew(self, deliveries: Sequence[Delivery], lease: float) -> Renewal:
        receipts = [delivery.receipt for delivery in deliveries]
        call: Coroutine[Any, Any, Renewal] = self._part.renew(receipts, lease)
        home = self._loop()
        if home is None or home is asyncio.get_running_loop():
            return await call
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call, home))


class BothKeeper(Keeper):
    """Gives each delivery to the keeper of whoever handed it out: the store's, the queue's, or one of its brokers'."""

    def __init__(self, queue: Custody, store: Custody, loop: Callable[[], asyncio.AbstractEventLoop | None]) -> None:
        self._queue = queue
        self._store = store
        self._loop = loop
        self._keepers: dict[int, tuple[Custody, Keeper]] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        brokers: Sequence[Custody] = getattr(self._queue, "parts", (self._queue,))
        for part in (*brokers, self._store):
            home = home_of(part)
            opened: AbstractAsyncContextManager[Keeper] = (
                PartKeeper(part, self._loop) if home is None else home.keeper()
            )
            self._keepers[id(part)] = part, await self._stack.enter_async_context(opened)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def _custodian(self, delivery: Delivery) -> Custody | None:
        if delivery.place is Place.STORE:
            return self._store
        broker: Callable[[str], Custody | None] | None = getattr(self._queue, "broker", None)
        return self._queue if broker is None else broker(delivery.message.queue)

    async def renew(self, deliveries: Sequence[Delivery], lease: float) -> Renewal:
        """Ask all of them at once: one that is away, or silent, must not take the leases of the others along.

        Raises:
            BackendError: one of them could not be asked; the others have renewed what is theirs.
        """
        asked: list[Coroutine[Any, Any, Renewal]] = []
        for part, keeper in self._keepers.values():
            mine = [delivery for delivery in deliveries if self._custodian(delivery) is part]
            if mine:
                asked.append(keeper.renew(mine, lease))
        lost: list[Receipt] = []
        cancelled: list[Receipt] = []
        errors: list[BaseException] = []
        for renewal in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(renewal, BaseException):
                errors.append(renewal)
            else:
                lost += renewal.lost
                cancelled += renewal.cancelled
        if errors:
            raise errors[0]
        return Renewal(tuple(lost), tuple(cancelled))
