"""The projection provider, and the queries over what it wrote.

A row is a hash under `{namespace}:row:<task id>`, which anybody may read:

task_id       the task, or flow, that the row is about; its key
entity_id     with entity_type, task_type, queue_id: what it works on, and where
status        scheduled, processing, executed, failed, expired, ignored or cancelled
version       only ever grows: ms of created_at × 2048 + generation × 4 + 0 scheduled, 1 processing, 2 ended
created_at    seconds since 1970-01-01T00:00Z
updated_at    as created_at
payload       JSON, or absent; so is result
error         or absent

The sorted sets `{namespace}:rows`, `…:rows:<length>:<entity type>` and `…:rows:<length>:<entity type>:<entity id>` hold
task ids by `updated_at`; the length is that of the entity's type.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tq.model import Projection, TaskStatus
from tq.ports import Backend, EntityProjectionProvider, ProjectionQuery

from .arguments import counted, projection_arguments, read_projection
from .server import Argument, Server

__all__ = ["RedisProjections"]

_LEAST_PAGE = 100


class RedisProjections(EntityProjectionProvider, ProjectionQuery):
    """Keeps, per task id, the row with the largest version, as a hash of its own."""

    name = "redis"

    def __init__(self, backend: Backend, server: Server) -> None:
        self.backend = backend
        self._server = server

    async def upsert_projections(self, rows: Sequence[Projection]) -> None:
        def arguments() -> Iterator[Argument]:
            yield len(rows)
            for row in rows:
                yield from projection_arguments(row)

        await self._server.write("write_rows", arguments())

    async def get_projections(self, task_ids: Sequence[str]) -> dict[str, Projection]:
        found = await self._server.look("rows", counted(task_ids))
        rows = [read_projection(fields) for fields in found if fields[0] is not None]
        return {row.task_id: row for row in rows}

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
        found: list[Projection] = []
        page = max(limit, _LEAST_PAGE)
        if updated_to is not None and (after is None or (updated_to, "") < after):
            after = (updated_to, "")
        one_entity = entity_id if entity_type is not None else None
        while len(found) < limit:
            at, id = ("", "") if after is None else (repr(after[0]), after[1])
            fields = await self._server.look("find_rows", (entity_type or "", one_entity or "", at, id, page))
            rows = [read_projection(row) for row in fields if row[0] is not None]
            found += [
                row
                for row in rows
                if (entity_id is None or row.entity_id == entity_id)
                and (status is None or row.status is status)
                and (task_type is None or row.task_type == task_type)
                and (updated_from is None or row.updated_at >= updated_from)
            ]
            if len(fields) < page or (updated_from is not None and rows[-1].updated_at < updated_from):
                break
            after = (rows[-1].updated_at, rows[-1].task_id)
        return found[:limit]

    async def close(self) -> None:
        """Close the backend that this is a part of; may be called twice."""
        await self.backend.close()
