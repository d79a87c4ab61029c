"""Changes that depend on what is there: read, change here, write where nobody else has written meanwhile.

Each document has a version, which every write raises. Of many documents that are written together the server tells
only how many fitted; so each change leaves a stamp, and where some did not fit, the stamps tell which.
"""

from __future__ import annotations

import os
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from .driver import DeleteOne, UpdateOne
from .table import Document, Table, Write

__all__ = ["Change", "swap"]

Change = Callable[[Document], Document | None]
"""Given a copy of a document, returns what is to be there: the same, another, or None for nothing."""

MOST_PATIENCE = 20
STAMPS = 8
"""Stamps kept: more than as many changes of one document in the time of a round trip do not happen."""


async def swap(
    table: Table,
    ids: Iterable[str],
    change: Change,
    *,
    fields: Mapping[str, Any] | None = None,
    prepare: Callable[[Sequence[Document]], Awaitable[object]] | None = None,
) -> dict[str, Document | None]:
    """Change documents; return, by id, each that was there as it has become.

    `fields` leaves out what no change looks at. `prepare` is shown what was found, before it is changed. Both it and
    `change` may be called several times for a document: the last call counts.
    """
    pending = list(dict.fromkeys(ids))
    done: dict[str, Document | None] = {}
    races = 0
    while pending:
        if races:
            await table.pause(random.random() * 0.002 * races)
        races = min(races + 1, MOST_PATIENCE)
        found = await table.find({"_id": {"$in": pending}}, fields=fields)
        if prepare is not None:
            await prepare(found)
        stamp = os.urandom(6)
        writes: list[Write] = []
        tried: dict[str, Document | None] = {}
        for old in found:
            new = change(dict(old))
            if new == old:
                done[old["_id"]] = old
            else:
                tried[old["_id"]] = new
                writes.append(_write(old, new, stamp))
        if not tried:
            break
        written = await table.write(writes)
        if written.matched + written.deleted == len(writes):
            return done | tried
        pending.clear()
        left = await table.find({"_id": {"$in": list(tried)}}, fields={"stamps": 1})
        stamped = {it["_id"]: stamp in it.get("stamps", ()) for it in left}
        for id, new in tried.items():
            if stamped.get(id, new is None):  # gone: by us, or by somebody who ended it just as well
                done[id] = new
            elif id in stamped:
                pending.append(id)
    return done


def _write(old: Document, new: Document | None, stamp: bytes) -> Write:
    unchanged = {"_id": old["_id"], "version": old["version"]}
    if new is None:
        return DeleteOne(unchanged)
    stamps = [*old.get("stamps", ()), stamp][-STAMPS:]
    change: dict[str, Any] = {
        "$set": {name: value for name, value in new.items() if name not in old or old[name] != value}
        | {"version": old["version"] + 1, "stamps": stamps}
    }
    gone = {name: "" for name in old if name not in new}
    if gone:
        change["$unset"] = gone
    return UpdateOne(unchanged, change)
