"""The projection provider, and the queries over what it wrote."""

from __future__ import annotations

from collections.abc import Sequence

from tq.model import Projection, TaskStatus
from tq.ports import Backend, EntityProjectionProvider, ProjectionQuery

from . import shapes
from .database import Database

__all__ = ["PostgresProjections"]


class PostgresProjections(EntityProjectionProvider, ProjectionQuery):
    """Keeps, per task id, the row with the largest version, in the table `tq_projections` (see `sql/tables.sql`)."""

    name = "postgres"

    def __init__(self, backend: Backend, database: Database) -> None:
        self.backend = backend
        self._database = database

    async def upsert_projections(self, rows: Sequence[Projection]) -> None:
        if rows:
            await self._database.call("project", *shapes.projection_columns(rows))

    async def get_projections(self, task_ids: Sequence[str]) -> dict[str, Projection]:
        sql = "SELECT * FROM tq_projections WHERE task_id = ANY ($1::text[])"
        return {row[0]: shapes.projection(row) for row in await self._database.fetch(sql, list(task_ids))}

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
        where: list[str] = []
        values: list[object] = [limit]
        for words, value in (
            ("entity_type =", entity_type),
            ("entity_id =", entity_id),
            ("status =", status and str(status)),
            ("task_type =", task_type),
            ("updated_at >=", updated_from),
            ("updated_at <", updated_to),
        ):
            if value is not None:
                values.append(value)
                where.append(f"{words} ${len(values)}")
        if after is not None:
            values += after
            where.append(f"(updated_at, task_id) < (${len(values) - 1}, ${len(values)})")
        sql = (
            f"SELECT * FROM tq_projections WHERE {' AND '.join(where) or 'true'}"
            " ORDER BY updated_at DESC, task_id DESC LIMIT $1"
        )
        return [shapes.projection(row) for row in await self._database.fetch(sql, *values)]

    async def close(self) -> None:
        """Close the backend that this is a part of; may be called twice."""
        await self.backend.close()
