"""What a receipt entitles to: renewal, running alone, giving back."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tq.model import Receipt, Renewal

from . import changes
from .database import Database
from .driver import UpdateMany
from .swap import swap
from .table import Document

__all__ = ["HIDDEN", "by_token", "change_each", "change_owned", "renew"]

HIDDEN = {"body": 0, "ending": 0}
"""What nobody looks at who moves a task, or asks where it is."""


def by_token(receipts: Sequence[Receipt]) -> dict[str, list[str]]:
    """Return the ids of each token; a receipt named twice is there once."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for id, token in dict.fromkeys(receipts):
        if token:
            found[token].append(id)
    return found


async def change_owned(
    database: Database, receipts: Sequence[Receipt], change: Mapping[str, Any], *states: str
) -> list[Receipt]:
    """Change what these receipts entitle to, all alike; return those that entitle to nothing."""
    queries: list[dict[str, Any]] = [
        {"_id": {"$in": ids}, "token": token, "state": {"$in": states}} for token, ids in by_token(receipts).items()
    ]
    written = await database.tasks.write([UpdateMany(it, {**change, "$inc": {"version": 1}}) for it in queries])
    if written.matched == len(dict.fromkeys(receipts)):
        return []
    found = await asyncio.gather(*[database.tasks.find(it, fields={"token": 1}) for it in queries])
    held = {Receipt(it["_id"], it["token"]) for part in found for it in part}
    return [receipt for receipt in receipts if receipt not in held]


async def change_each(
    database: Database, receipts: Sequence[Receipt], change: Callable[[Document, Receipt], object]
) -> set[Receipt]:
    """Change what each of these receipts entitles to; return those that entitled to something."""
    mine = set(receipts)
    held: dict[str, Receipt] = {}

    def apply(document: Document) -> Document:
        receipt = Receipt(document["_id"], document.get("token", ""))
        held.pop(receipt.id, None)
        if receipt in mine and changes.owns(document, receipt.token):
            held[receipt.id] = receipt
            change(document, receipt)
        return document

    await swap(database.tasks, [receipt.id for receipt in receipts], apply, fields=HIDDEN)
    return set(held.values())


async def renew(database: Database, receipts: Sequence[Receipt], lease: float) -> Renewal:
    """Let leases run on from now; tell which were lost and which are to be cancelled."""
    if not receipts:
        return Renewal()
    until = await database.now() + lease
    ids = [receipt.id for receipt in receipts]
    lost, asked = await asyncio.gather(
        change_owned(database, receipts, {"$set": {"until": until}}, "running", "ending"),
        database.tasks.find({"_id": {"$in": ids}, "cancelled": True, "state": "running"}, fields={"token": 1}),
    )
    cancelled = {Receipt(it["_id"], it["token"]) for it in asked}
    return Renewal(tuple(lost), tuple(receipt for receipt in receipts if receipt in cancelled))
