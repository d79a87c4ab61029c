"""The projection provider, and the queries over what it wrote.

A row is a document of the collection `{namespace}_projections`, which anybody may read:

_id           the task, or flow, that the row is about
entity_id     with entity_type, task_type, queue_id: what it works on, and where
status        scheduled, processing, executed, failed, expired, ignored or cancelled
version       only ever grows: generation × 4 + 0 for scheduled, 1 for processing, 2 for ended
created_at    seconds since 1970-01-01T00:00Z
updated_at    as created_at
payload       JSON as bytes, or null; so is result
error         or null
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from tq.model import Projection, TaskStatus
from tq.ports import EntityProjectionProvider, ProjectionQuery

from .database import Database
from .documents import instant
from .driver import UpdateOne
from .table import Document

if TYPE_CHECKING:
    from .backend import MongoBackend

__all__ = ["MongoProjections", "upsert"]


async def upsert(database: Database, rows: Iterable[Projection]) -> None:
    """Write each row whose version is larger than the stored one's."""
    newest: dict[str, Projection] = {}
    for row in rows:
        if row.task_id not in newest or row.version > newest[row.task_id].version:
            newest[row.task_id] = row
    changes = [({"_id": id, "version": {"$lt": row.version}}, {"$set": _fields(row)}) for id, row in newest.items()]
    written = await database.projections.write([UpdateOne(older, change, upsert=True) for older, change in changes])
    # Where a row is as new, or newer, none is older, and one more under its id is refused; or somebody came first.
    again = [UpdateOne(*changes[place]) for place in written.taken]
    await database.projections.write(again)


class MongoProjections(EntityProjectionProvider, ProjectionQuery):
    """Keeps, per task id, the row with the largest version."""

    name = "mongodb"

    def __init__(self, backend: MongoBackend, database: Database) -> None:
        self.backend = backend
        self._database = database
        self._rows = database.projections

    async def upsert_projections(self, rows: Sequence[Projection]) -> None:
        await upsert(self._database, rows)

    async def get_projections(self, task_ids: Sequence[str]) -> dict[str, Projection]:
        return {it["_id"]: _row(it) for it in await self._rows.find({"_id": {"$in": list(task_ids)}})}

    async def find_projections(
        self,
        *,
        entity_type: str | None = None,
        entity_id: str | None = None,
        status: TaskStatus | None = None,
        task_type: str | None = None,
        updated_from: float | None = None,
        updated_to: float | None = None,
        after: tuple[float, str] | None = None,
        limit: int = 100,
    ) -> Sequence[Projection]:
        wanted = {
            "entity_type": entity_type,
            "entity_id": entity_id,
            "status": None if status is None else str(status),
            "task_type": task_type,
        }
        query: dict[str, Any] = {name: it for name, it in wanted.items() if it is not None}
        between = {"$gte": updated_from, "$lt": updated_to}
        if updated := {name: it for name, it in between.items() if it is not None}:
            query["updated_at"] = updated
        if after is not None:
            query["$or"] = [{"updated_at": {"$lt": after[0]}}, {"updated_at": after[0], "_id": {"$lt": after[1]}}]
        if limit <= 0:
            return []
        found = await self._rows.find(query, order=[("updated_at", -1), ("_id", -1)], limit=limit)
        return [_row(it) for it in found]

    async def close(self) -> None:
        """Close the backend that this is a part of; may be called twice."""
        await self.backend.close()


def _fields(row: Projection) -> Document:
    fields = row._asdict() | {"status": str(row.status)}
    fields |= {"created_at": instant(row.created_at), "updated_at": instant(row.updated_at)}
    del fields["task_id"]
    return fields


def _row(document: Document) -> Projection:
    fields: Document = {name: it for name, it in document.items() if name != "_id"}
    return Projection(task_id=document["_id"], **fields)._replace(status=TaskStatus(fields["status"]))
