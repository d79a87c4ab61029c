"""Renewal of leases, from a thread and an event loop of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from tq.model import Delivery, Renewal
from tq.ports import Keeper

from .queue import renew
from .server import Server

__all__ = ["RedisKeeper"]


class RedisKeeper(Keeper):
    """Has connections of its own: neither a stalled event loop nor a full pool of the worker's stops it."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._own: Server | None = None

    async def __aenter__(self) -> Self:
        self._own = self._server.beside()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._own is not None:
            await self._own.close()

    async def renew(self, deliveries: Sequence[Delivery], lease: float) -> Renewal:
        assert self._own is not None, "enter the keeper first"  # noqa: S101
        return await renew(self._own, [delivery.receipt for delivery in deliveries], lease)
