"""The verbs of custody, and the message queue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tq.model import Batch, Claim, Message, Place, Rearm, Receipt, Remove, Renewal, Settlement, Whereabouts
from tq.ports import Claimed, Custody, Guarantees, MessageQueue

from . import changes
from .database import Database
from .documents import new_task, whereabouts_of
from .driver import UpdateOne
from .lanes import Lanes
from .leases import HIDDEN, change_owned, renew
from .swap import swap
from .table import Document, Write

if TYPE_CHECKING:
    from .backend import MongoBackend

__all__ = ["MongoCustody", "MongoQueue", "add_messages"]


async def made_of(database: Database, lanes: Lanes, messages: Sequence[Message], place: Place) -> list[Document]:
    """Return the documents of messages that are to be added."""
    first = database.numbers(len(messages))
    made = [new_task(message, seq=seq, place=place) for seq, message in enumerate(messages, first)]
    await lanes.number(messages, made)
    return made


async def add_messages(
    database: Database, lanes: Lanes, messages: Sequence[Message], place: Place = Place.QUEUE
) -> list[str]:
    """Insert what is new; return the ids that were there."""
    if not messages:
        return []
    taken = await database.tasks.insert(await made_of(database, lanes, messages, place))
    await lanes.pass_on(message.lane for message in messages)
    database.bell.ring()
    return [messages[number].id for number in taken]


class MongoCustody(Custody):
    """What queue and store have in common: the same tasks serve both."""

    name = "mongodb"
    place: Place
    guarantees = Guarantees()

    def __init__(self, backend: MongoBackend, database: Database) -> None:
        self.backend = backend
        """The backend that this is a part of."""
        self._database = database
        self._tasks = database.tasks
        self._lanes = backend.lanes

    async def documents(self, messages: Sequence[Message]) -> list[Document]:
        """Return the documents of messages that are to be added."""
        return await made_of(self._database, self._lanes, messages, self.place)

    async def add(self, messages: Sequence[Message]) -> list[str]:
        """Insert what is new by one command.

        A server that dies in the midst of it may keep a part, of which nobody was told that it was taken.
        """
        return await add_messages(self._database, self._lanes, messages, self.place)

    async def claim(self, claim: Claim) -> Claimed:
        return await self.backend.claims.claim(claim)

    async def ack(self, receipts: Sequence[Receipt]) -> list[Receipt]:
        return await self._settle([Settlement(receipt, Remove()) for receipt in receipts])

    async def rearm(self, rearms: Sequence[tuple[Receipt, Rearm]]) -> list[Receipt]:
        return await self._settle([Settlement(receipt, again) for receipt, again in rearms])

    async def _settle(self, settlements: Sequence[Settlement]) -> list[Receipt]:
        hop = await self.backend.commit(Batch(settlements=list(settlements)))
        return hop.refused

    async def solo(self, receipts: Sequence[Receipt]) -> list[Receipt]:
        return await change_owned(self._database, receipts, {"$set": {"solo": True}}, "running") if receipts else []

    async def renew(self, receipts: Sequence[Receipt], lease: float) -> Renewal:
        return await renew(self._database, receipts, lease)

    async def cancel(self, ids: Sequence[str]) -> list[str]:
        now = await self._database.now()
        found: set[str] = set()

        def cancel(document: Document) -> Document:
            if document.get("live"):
                found.add(document["_id"])
                if not document.get("cancelled"):
                    changes.cancel(document, now)
            return document

        await swap(self._tasks, ids, cancel, fields=HIDDEN)
        self._database.bell.ring()
        return [id for id in dict.fromkeys(ids) if id in found]

    async def locate(self, ids: Sequence[str]) -> dict[str, Whereabouts]:
        rows = await self._tasks.find({"_id": {"$in": list(ids)}, "live": True}, fields=HIDDEN)
        return {row["_id"]: whereabouts_of(row) for row in rows}

    async def list(self, queue: str | None, after: str, limit: int) -> Sequence[Whereabouts]:
        query: dict[str, Any] = {"live": True, "_id": {"$gt": after}}
        if queue is not None:
            query["queue"] = queue
        rows = await self._tasks.find(query, fields=HIDDEN, order=[("_id", 1)], limit=limit) if limit > 0 else []
        return [whereabouts_of(row) for row in rows]

    async def counts(self) -> Mapping[str, Mapping[str, int]]:
        """Looks at every live task: for people and dashboards, not for the path of a task."""
        now = await self._database.now()
        key = {"queue": "$queue", "state": "$state", "delayed": {"$gt": ["$due", now]}}
        found: dict[str, dict[str, int]] = {}
        for kind, number in await self._tasks.grouped({"live": True}, key):
            counts = found.setdefault(kind["queue"], {"waiting": 0, "delayed": 0, "running": 0, "held": 0})
            if kind["state"] in {"running", "ending"}:
                counts["running"] += number
            elif kind["state"] == "held":
                counts["held"] += number
            else:
                counts["delayed" if kind["delayed"] else "waiting"] += number
        return found

    async def pause(self, queue: str, paused: bool) -> None:  # noqa: FBT001 -- as the port says it
        verb = "$addToSet" if paused else "$pull"
        change: Write = UpdateOne({"_id": "paused"}, {verb: {"queues": queue}}, upsert=True)
        await self._database.meta.write([change])
        if not paused:
            self._database.bell.ring()

    async def paused(self) -> Sequence[str]:
        found = await self._database.meta.one("paused")
        return [] if found is None else sorted(found.get("queues", ()))

    async def close(self) -> None:
        await self.backend.close()


class MongoQueue(MongoCustody, MessageQueue):
    """At-least-once; handed out in order of due time, then of adding; of a lane one at a time."""

    place = Place.QUEUE

    async def announce(self, worker: str, queues: Sequence[str], ttl: float) -> None:
        now = await self._database.now()
        served = {"queues": list(queues), "until": now + ttl}
        await self._database.workers.write([UpdateOne({"_id": worker}, {"$set": served}, upsert=True)])
        await self._database.workers.delete({"until": {"$lte": now}})

    async def announced(self) -> Sequence[str]:
        now = await self._database.now()
        found = await self._database.workers.find({"until": {"$gt": now}})
        return sorted({queue for it in found for queue in it["queues"]})
