"""The claim: take back what dead workers left, choose what is due, hand it out under a lease.

Of a batch the candidates are read, marked with the claim's token where they still wait, and read by that token. Whoever
finds that others have taken some of them looks at four times as many as it needs and takes some by chance, so that
workers do not go after the same ones for ever.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from tq.errors import BackendError
from tq.model import Claim, Delivery, Receipt
from tq.ports import Claimed

from . import changes
from .database import Database
from .documents import delivery_of
from .swap import swap
from .table import Document

__all__ = ["Claims"]

log = logging.getLogger("tq.mongo")

_ORDER = (("due", 1), ("seq", 1))
_HEAD = {"due": 1, "seq": 1}
_MOST_TAKEN_BACK = 500
_WIDER = 4

Mend = Callable[[Sequence[str]], Awaitable[object]]
"""Carries out endings whose worker died in the midst of it."""


class Claims:
    """Hands out tasks."""

    def __init__(self, database: Database, mend: Mend) -> None:
        self._database = database
        self._tasks = database.tasks
        self._mend = mend
        self._unanswered: set[str] = set()
        """Tokens of claims of which it is not known whether they took effect."""

    async def claim(self, claim: Claim) -> Claimed:
        """Hand out up to `claim.limit` due tasks."""
        again = claim.token in self._unanswered
        self._unanswered.add(claim.token)  # until it is answered
        claimed = await self._claim(claim, again=again)
        self._unanswered.discard(claim.token)
        return claimed

    async def _claim(self, claim: Claim, *, again: bool) -> Claimed:
        now = await self._database.now()
        worker = claim.worker
        paused, left, told = await asyncio.gather(
            self._database.meta.one("paused"),
            self._tasks.find(
                {"queue": {"$in": [*claim.queues, ""]}, "until": {"$lte": now}},
                fields={"state": 1},
                limit=_MOST_TAKEN_BACK,
            ),
            self._tasks.find(
                {"token": {"$gte": f"{worker}:", "$lt": f"{worker};"}, "cancelled": True, "until": {"$gt": now}},
                fields={"token": 1, "state": 1},
            ),
        )
        if left:
            await self._take_back(left, now)
        stopped = () if paused is None else paused.get("queues", ())
        queues = [queue for queue in dict.fromkeys(claim.queues) if queue not in stopped]
        found = await self._tasks.find({"queue": {"$in": queues}, "token": claim.token}) if again else []
        found += await self._hand_out(claim.after([delivery_of(it) for it in found]), queues, now)
        deliveries = [delivery_of(it) for it in sorted(found, key=lambda it: (it["due"], it["seq"]))]
        cancelled = [Receipt(it["_id"], it["token"]) for it in told if it["state"] == "running"]
        cancelled += [it.receipt for it in deliveries if it.cancelled and it.receipt not in cancelled]
        short = len(deliveries) < claim.limit
        next_due = await self._next_due(claim, queues, deliveries) if short else None
        return Claimed(deliveries, next_due, tuple(cancelled))

    async def _take_back(self, left: Sequence[Document], now: float) -> None:
        """Make due again what was left under leases that have run out; finish what had been decided."""

        def expire(document: Document) -> Document:
            if document["state"] == "running" and document["until"] <= now:
                changes.expire(document, now)
            return document

        await swap(self._tasks, [it["_id"] for it in left if it["state"] == "running"], expire, fields={"body": 0})
        ending = [it["_id"] for it in left if it["state"] == "ending"]
        if ending:
            try:
                await self._mend(ending)
            except BackendError as error:  # they come again when their lease is over; meanwhile others are served
                log.warning("endings of a worker that died are not carried out yet: %s", error)

    # --- choosing -------------------------------------------------------------------------------------------------

    async def _hand_out(self, claim: Claim, queues: Sequence[str], now: float) -> list[Document]:
        found: list[Document] = []
        crowded = False
        while claim.limit > 0 and queues:
            candidates = await self._candidates(claim, queues, now, claim.limit * (_WIDER if crowded else 1))
            if not candidates:
                break
            chosen = candidates
            if len(candidates) > claim.limit:
                chosen = random.sample(candidates, claim.limit)
            ids = [it["_id"] for it in chosen]
            lease = {"state": "running", "token": claim.token, "until": now + claim.lease}
            marked = await self._tasks.update(
                {"_id": {"$in": ids}, "state": "waiting", "due": {"$lte": now}},
                {"$set": lease, "$inc": {"fence": 1, "version": 1}},
            )
            if marked:
                taken = await self._tasks.find({"_id": {"$in": ids}, "token": claim.token})
                found += taken
                claim = claim.after([delivery_of(it) for it in taken])
            if marked == len(ids) < claim.limit and not crowded:
                break  # there were no more
            crowded = marked < len(ids)
        return found

    async def _candidates(self, claim: Claim, queues: Sequence[str], now: float, many: int) -> list[Document]:
        """Return what is due, in order, without bodies."""
        kinds = await self._kinds(claim, queues)
        found = await asyncio.gather(
            *[
                self._tasks.find(
                    {"state": "waiting", **kind, "due": {"$lte": now}},
                    fields=_HEAD,
                    order=_ORDER,
                    limit=many if cap is None else min(many, cap),
                )
                for kind, cap in kinds
            ]
        )
        heads = [head for part in found for head in part]
        return sorted(heads, key=lambda it: (it["due"], it["seq"]))[:many]

    async def _kinds(self, claim: Claim, queues: Sequence[str]) -> list[tuple[dict[str, Any], int | None]]:
        """Return what is to be looked at: queues, and apart from them each type that has a cap, unless it is 0."""
        capped = {queue: {type: cap for (of, type), cap in claim.caps.items() if of == queue} for queue in queues}
        free = [queue for queue in queues if not capped[queue]]
        kinds: list[tuple[dict[str, Any], int | None]] = [({"queue": {"$in": free}}, None)] if free else []
        some = [queue for queue in queues if capped[queue]]
        types = await asyncio.gather(
            *[self._tasks.distinct("type", {"state": "waiting", "queue": queue}) for queue in some]
        )
        for queue, there in zip(some, types, strict=True):
            caps = capped[queue]
            others = [type for type in there if type not in caps]
            if others:
                kinds.append(({"queue": queue, "type": {"$in": others}}, None))
            kinds += [({"queue": queue, "type": type}, caps[type]) for type in there if caps.get(type, 0) > 0]
        return kinds

    async def _next_due(self, claim: Claim, queues: Sequence[str], deliveries: Sequence[Delivery]) -> float | None:
        """Return when something will fall due: the next that waits, or the first lease to run out."""
        kinds = await self._kinds(claim.after(deliveries), queues)
        waiting = [
            self._tasks.find({"state": "waiting", **kind}, fields=_HEAD, order=_ORDER, limit=1) for kind, _ in kinds
        ]
        leases = self._tasks.find(
            {"queue": {"$in": [*queues, ""]}, "until": {"$gt": 0.0}}, fields={"until": 1}, order=[("until", 1)], limit=1
        )
        *heads, ends = await asyncio.gather(*waiting, leases)
        instants = [head["due"] for found in heads for head in found] + [it["until"] for it in ends]
        return min(instants, default=None)
