"""Endings that are kept: each in the document of its task, so that no id is taken twice."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from tq.model import Place, Record, TaskStatus

from . import changes
from .database import Database
from .documents import expiry_of, new_task, record_fields, record_of
from .leases import HIDDEN
from .swap import swap
from .table import Document

__all__ = ["drop_expired", "find", "forget", "keep", "page", "revive"]

_KEPT = {"record": {"$exists": True}}
_RECORD = {"record": 1}


async def keep(database: Database, records: Sequence[Record]) -> None:
    """Insert; over a record of the same id only if the generation is larger."""
    if not records:
        return
    documents: list[Document] = []
    for record in records:
        fields = record_fields(record)
        head = {"_id": record.task_id, "version": 1, "state": "ended"}
        documents.append({**head, "record": fields, "expires": expiry_of(fields)})
    taken = await database.tasks.insert(documents)
    others: defaultdict[str, list[Record]] = defaultdict(list)
    for place in taken:
        others[records[place].task_id].append(records[place])

    def change(document: Document) -> Document:
        for record in others[document["_id"]]:
            changes.keep(document, record)
        return document

    if others:
        await swap(database.tasks, others, change, fields=HIDDEN)


async def find(database: Database, ids: Sequence[str]) -> dict[str, Record]:
    """Return what is recorded for these ids."""
    found = await database.tasks.find({"_id": {"$in": list(ids)}, **_KEPT}, fields=_RECORD)
    return {it["_id"]: record_of(it) for it in found}


async def page(
    database: Database,
    *,
    dead: bool | None,
    status: TaskStatus | None,
    queue: str | None,
    type: str | None,
    after: tuple[float, str] | None,
    limit: int,
) -> list[Record]:
    """Return records, newest first."""
    wanted = {"dead": dead, "status": None if status is None else str(status), "queue": queue, "type": type}
    query: dict[str, Any] = {**_KEPT, **{f"record.{name}": it for name, it in wanted.items() if it is not None}}
    if after is not None:
        query["$or"] = [{"record.at": {"$lt": after[0]}}, {"record.at": after[0], "_id": {"$lt": after[1]}}]
    if limit <= 0:
        return []
    order = [("record.at", -1), ("_id", -1)]
    return [record_of(it) for it in await database.tasks.find(query, fields=_RECORD, order=order, limit=limit)]


async def revive(database: Database, ids: Sequence[str], at: float, stats: bytes, place: Place) -> list[str]:
    """Turn records that kept a body back into messages; return the ids revived."""
    seq = database.numbers(len(ids))
    revived: set[str] = set()

    def change(document: Document) -> Document:
        revived.discard(document["_id"])
        message = changes.revived(document, at, stats)
        if message is None:
            return document
        revived.add(message.id)
        return changes.reborn(document, new_task(message, seq=seq, place=place))

    await swap(database.tasks, ids, change)
    return [id for id in dict.fromkeys(ids) if id in revived]


async def forget(database: Database, ids: Sequence[str]) -> list[str]:
    """Remove records; return the ids removed."""
    return await _drop(database, ids, math.inf)


async def drop_expired(database: Database, now: float, limit: int) -> int:
    """Remove records whose time has come; return how many."""
    expired = {**_KEPT, "record.expires_at": {"$lte": now}}
    found = await database.tasks.find(expired, fields={"version": 1}, limit=limit)
    return len(await _drop(database, [it["_id"] for it in found], now))


async def _drop(database: Database, ids: Sequence[str], now: float) -> list[str]:
    dropped: set[str] = set()

    def change(document: Document) -> Document | None:
        dropped.discard(document["_id"])
        if "record" not in document or document["record"]["expires_at"] > now:
            return document
        dropped.add(document["_id"])
        if document["state"] == "ended":
            return None
        del document["record"]
        return document

    await swap(database.tasks, ids, change, fields=HIDDEN)
    return [id for id in dict.fromkeys(ids) if id in dropped]
