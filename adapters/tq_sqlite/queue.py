"""The verbs of custody, and the message queue: each is one transaction of the functions beside this file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tq.model import Claim, Message, Place, Rearm, Receipt, Renewal, Whereabouts
from tq.ports import Backend, Claimed, Custody, Guarantees, MessageQueue

from . import leases
from .claims import claim_messages
from .database import Database
from .messages import cancel, counts, insert, list_messages, locate, pause, read_paused
from .workers import announce, read_announced

__all__ = ["SqliteCustody", "SqliteQueue"]


class SqliteCustody(Custody):
    """What queue and store have in common: one table of messages serves both."""

    name = "sqlite"
    place: Place

    def __init__(self, backend: Backend, database: Database) -> None:
        self.backend = backend
        """The server that this is a part of: parts of one backend are written in one transaction."""
        self.guarantees = Guarantees(durable=not database.settings.private, shared=not database.settings.private)
        self._database = database

    async def add(self, messages: Sequence[Message]) -> list[str]:
        return await self._database.write(lambda db: insert(db, messages))

    async def claim(self, claim: Claim) -> Claimed:
        return await self._database.write(lambda db: claim_messages(db, claim, self.place))

    async def ack(self, receipts: Sequence[Receipt]) -> list[Receipt]:
        return await self._database.write(lambda db: leases.remove(db, receipts))

    async def rearm(self, rearms: Sequence[tuple[Receipt, Rearm]]) -> list[Receipt]:
        return await self._database.write(lambda db: leases.rearm(db, rearms))

    async def solo(self, receipts: Sequence[Receipt]) -> list[Receipt]:
        return await self._database.write(lambda db: leases.solo(db, receipts))

    async def renew(self, receipts: Sequence[Receipt], lease: float) -> Renewal:
        return await self._database.write(lambda db: leases.renew(db, receipts, lease))

    async def cancel(self, ids: Sequence[str]) -> list[str]:
        return await self._database.write(lambda db: cancel(db, ids))

    async def locate(self, ids: Sequence[str]) -> dict[str, Whereabouts]:
        return await self._database.read(lambda db: locate(db, ids, self.place))

    async def list(self, queue: str | None, after: str, limit: int) -> Sequence[Whereabouts]:
        return await self._database.read(lambda db: list_messages(db, queue, after, limit, self.place))

    async def counts(self) -> Mapping[str, Mapping[str, int]]:
        return await self._database.read(counts)

    async def pause(self, queue: str, paused: bool) -> None:  # noqa: FBT001 -- as the port says it
        await self._database.write(lambda db: pause(db, queue, paused))

    async def paused(self) -> Sequence[str]:
        return await self._database.read(read_paused)

    async def close(self) -> None:
        await self.backend.close()


class SqliteQueue(SqliteCustody, MessageQueue):
    """At-least-once; handed out in order of due time, then of adding; of a lane one at a time."""

    place = Place.QUEUE

    async def announce(self, worker: str, queues: Sequence[str], ttl: float) -> None:
        await self._database.write(lambda db: announce(db, worker, queues, ttl))

    async def announced(self) -> Sequence[str]:
        return await self._database.read(read_announced)
