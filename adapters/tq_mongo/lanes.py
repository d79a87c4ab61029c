"""Lanes: of each, one task has the turn; the others stand behind it, in the order in which they were added.

The server keeps the turn by a unique index: two workers that both pass it on give it to one. Whoever adds to a lane,
or ends one of its tasks, passes the turn on afterwards; so does whoever finds that nobody has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from tq.model import Message

from .database import Database
from .driver import UpdateOne
from .table import Document, Write

__all__ = ["Lanes"]

_IN_LINE = {"$in": ["waiting", "running", "held", "behind", "ending"]}


class Lanes:
    """Gives numbers and turns."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def number(self, messages: Sequence[Message], documents: Sequence[Document]) -> None:
        """Let those that are in a lane stand behind all that were added to it before."""
        inside = [document for message, document in zip(messages, documents, strict=True) if message.lane]
        if inside:
            first = await self._database.meta.reserve("lanes", len(inside))
            for number, document in enumerate(inside, first):
                document["number"] = number
                if document["state"] == "waiting":
                    document["state"] = "behind"

    async def there(self, lane: str) -> bool:
        """Tell whether a lane has any task."""
        return bool(lane) and await self._first(lane) is not None

    async def _first(self, lane: str) -> Document | None:
        found = await self._database.tasks.find(
            {"lane": lane, "state": _IN_LINE, "ending.stage": {"$ne": "leaving"}},
            fields={"state": 1, "turn": 1},
            order=[("number", 1)],
            limit=1,
        )
        return found[0] if found else None

    async def pass_on(self, lanes: Iterable[str]) -> None:
        """Give the turn to the first of each lane, unless somebody has it."""
        names = [lane for lane in dict.fromkeys(lanes) if lane]
        firsts = await asyncio.gather(*[self._first(lane) for lane in names])
        writes: list[Write] = []
        for lane, first in zip(names, firsts, strict=True):
            if first is not None and "turn" not in first:
                state = first["state"]
                change = {"turn": lane, "state": "waiting" if state == "behind" else state}
                writes.append(
                    UpdateOne({"_id": first["_id"], "state": state}, {"$set": change, "$inc": {"version": 1}})
                )
        await self._database.tasks.write(writes)

    async def mend(self, limit: int) -> None:
        """Pass on the turns of lanes in which somebody stands behind: a process may have died before it did."""
        found = await self._database.tasks.find({"state": "behind"}, fields={"lane": 1}, limit=limit)
        await self.pass_on(it["lane"] for it in found)
