"""The projection provider, and the queries over what it wrote."""

from __future__ import annotations

from collections.abc import Sequence

from tq.model import Projection, TaskStatus
from tq.ports import Backend, EntityProjectionProvider, ProjectionQuery

from .database import Database
from .projections import find_projections, read_projections, write_projections

__all__ = ["SqliteProjections"]


class SqliteProjections(EntityProjectionProvider, ProjectionQuery):
    """Keeps, per task id, the row with the largest version, in the table `tq_projections` (see `projections`)."""

    name = "sqlite"

    def __init__(self, backend: Backend, database: Database) -> None:
        self.backend = backend
        self._database = database

    async def upsert_projections(self, rows: Sequence[Projection]) -> None:
        await self._database.write(lambda db: write_projections(db, rows))

    async def get_projections(self, task_ids: Sequence[str]) -> dict[str, Projection]:
        return await self._database.read(lambda db: read_projections(db, task_ids))

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
        return await self._database.read(
            lambda db: find_projections(
                db,
                entity_type=entity_type,
                entity_id=entity_id,
                status=status,
                task_type=task_type,
                updated_from=updated_from,
                updated_to=updated_to,
                after=after,
                limit=limit,
            )
        )

    async def close(self) -> None:
        """Close the backend that this is a part of; may be called twice."""
        await self.backend.close()
