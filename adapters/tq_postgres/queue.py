"""The verbs of custody, and the message queue: each is one statement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tq.model import Claim, Message, Place, Rearm, Receipt, Renewal, Whereabouts
from tq.ports import Backend, Claimed, Custody, Guarantees, MessageQueue

from . import shapes
from .commit import claim_args
from .connection import Row
from .database import Database
from .statement import Statement

__all__ = ["PostgresCustody", "PostgresQueue", "Renewing"]

_COUNTS = """
    SELECT queue, CASE WHEN due <= tq_now() THEN 'waiting' ELSE 'delayed' END, count(*)
    FROM tq_messages WHERE ready GROUP BY 1, 2
    UNION ALL
    -- Messages behind another one of their lane wait, too.
    SELECT queue, CASE WHEN due <= tq_now() THEN 'waiting' ELSE 'delayed' END, count(*)
    FROM tq_messages WHERE lane <> '' AND NOT ready AND token = '' AND held = '' GROUP BY 1, 2
    UNION ALL
    SELECT queue, 'running', count(*) FROM tq_messages WHERE token <> '' GROUP BY 1
    UNION ALL
    SELECT queue, 'held', count(*) FROM tq_messages WHERE held <> '' GROUP BY 1"""


class PostgresCustody(Custody):
    """What queue and store have in common: one table of messages serves both."""

    name = "postgres"
    place: Place

    def __init__(self, backend: Backend, database: Database) -> None:
        self.backend = backend
        """The server that this is a part of: parts of one backend are written in one transaction."""
        self.guarantees = Guarantees()
        self._database = database

    async def add(self, messages: Sequence[Message]) -> list[str]:
        if not messages:
            return []
        taken = await self._database.call("add", *shapes.message_columns(messages), wakes=True)
        return [message.id for message in shapes.named(taken, messages)]

    async def claim(self, claim: Claim) -> Claimed:
        statement = Statement()
        statement.rows("claim", *claim_args(claim))
        return shapes.claimed(await self._database.run(statement), claim, self.place)

    async def ack(self, receipts: Sequence[Receipt]) -> list[Receipt]:
        return await self._fenced("remove", receipts, receipts, 2)

    async def rearm(self, rearms: Sequence[tuple[Receipt, Rearm]]) -> list[Receipt]:
        first: dict[Receipt, Rearm] = {}
        for receipt, rearm in rearms:
            first.setdefault(receipt, rearm)
        given = [(*receipt, *rearm) for receipt, rearm in first.items()]
        held = set(first) - set(await self._fenced("rearm", list(first), given, 6))
        lost: list[Receipt] = []
        for receipt, _ in rearms:
            if receipt in held:
                held.remove(receipt)  # named twice, it is lost the second time
            else:
                lost.append(receipt)
        return lost

    async def solo(self, receipts: Sequence[Receipt]) -> list[Receipt]:
        distinct = list(dict.fromkeys(receipts))
        lost = set(await self._fenced("solo", distinct, distinct, 2))
        return [receipt for receipt in receipts if receipt in lost]

    async def _fenced(
        self, function: str, receipts: Sequence[Receipt], given: Sequence[Sequence[object]], width: int
    ) -> list[Receipt]:
        """Call a function that returns the places of receipts that were lost; return those."""
        if not receipts:
            return []
        lost = await self._database.call(function, *shapes.columns(given, width), wakes=function == "rearm")
        return shapes.named(lost, receipts)

    async def renew(self, receipts: Sequence[Receipt], lease: float) -> Renewal:
        renewing = Renewing(receipts, lease)
        [row] = await self._database.run(renewing.statement)
        return renewing.answer(row)

    async def cancel(self, ids: Sequence[str]) -> list[str]:
        found: set[str] = set(await self._database.call("cancel", list(ids), wakes=True) or ())
        return [id for id in dict.fromkeys(ids) if id in found]

    async def locate(self, ids: Sequence[str]) -> dict[str, Whereabouts]:
        sql = f"SELECT {shapes.WHEREABOUTS} FROM tq_messages WHERE id = ANY ($1::text[])"
        return {row[0]: shapes.whereabouts(row, self.place) for row in await self._database.fetch(sql, list(ids))}

    async def list(self, queue: str | None, after: str, limit: int) -> Sequence[Whereabouts]:
        sql = (
            f"SELECT {shapes.WHEREABOUTS} FROM tq_messages WHERE id > $2 AND ($1::text IS NULL OR queue = $1)"
            " ORDER BY id LIMIT $3"
        )
        return [shapes.whereabouts(row, self.place) for row in await self._database.fetch(sql, queue, after, limit)]

    async def counts(self) -> Mapping[str, Mapping[str, int]]:
        found: dict[str, dict[str, int]] = {}
        for queue, state, number in await self._database.fetch(_COUNTS):
            row = found.setdefault(queue, {"waiting": 0, "delayed": 0, "running": 0, "held": 0})
            row[state] += number
        return found

    async def pause(self, queue: str, paused: bool) -> None:  # noqa: FBT001 -- as the port says it
        await self._database.call("pause", queue, paused, wakes=True)

    async def paused(self) -> Sequence[str]:
        return [row[0] for row in await self._database.fetch("SELECT queue FROM tq_paused ORDER BY queue")]

    async def close(self) -> None:
        await self.backend.close()


class PostgresQueue(PostgresCustody, MessageQueue):
    """At-least-once; handed out in order of due time, then of adding; of a lane one at a time."""

    place = Place.QUEUE

    async def announce(self, worker: str, queues: Sequence[str], ttl: float) -> None:
        await self._database.call("announce", worker, list(queues), ttl)

    async def announced(self) -> Sequence[str]:
        sql = "SELECT DISTINCT queue FROM tq_workers WHERE until > tq_now() ORDER BY queue"
        return [row[0] for row in await self._database.fetch(sql)]


class Renewing:
    """A renewal: the statement that makes it, and what its one row says."""

    def __init__(self, receipts: Sequence[Receipt], lease: float) -> None:
        self._receipts = receipts
        self._distinct = list(dict.fromkeys(receipts))
        self.statement = Statement()
        self.statement.rows("renew", *shapes.columns(self._distinct, 2), lease)

    def answer(self, row: Row) -> Renewal:
        """Return what was lost, and what is to be cancelled."""
        lost = set(shapes.named(row["lost"], self._distinct))
        cancelled: list[Receipt] = shapes.named(row["cancelled"], self._distinct)
        return Renewal(tuple([receipt for receipt in self._receipts if receipt in lost]), tuple(cancelled))
