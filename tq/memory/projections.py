"""Projections in memory: one row per task or flow, only ever replaced by a newer one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import nlargest

from tq.clock import Clock
from tq.model import Effects, Projection, TaskStatus
from tq.ports import Backend, EntityProjectionProvider, ProjectionQuery

from .content import check_effects
from .server import Part, Server

__all__ = ["MemoryProjections", "ProjectionRows"]


class ProjectionRows:
    """The table. Whoever calls holds the server's lock."""

    def __init__(self) -> None:
        self.rows: dict[str, Projection] = {}

    def upsert(self, rows: Iterable[Projection]) -> None:
        """Write each row whose version is larger than the stored one's."""
        for row in rows:
            old = self.rows.get(row.task_id)
            if old is None or row.version > old.version:
                self.rows[row.task_id] = row


class MemoryProjections(Part, EntityProjectionProvider, ProjectionQuery):
    """Rows and queries in one process."""

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        server: Server | None = None,
        rows: ProjectionRows | None = None,
        backend: Backend | None = None,
    ) -> None:
        super().__init__(server or Server(clock))
        self._table = rows or ProjectionRows()
        self.backend = backend
        """The backend that this is a part of, or None."""

    async def upsert_projections(self, rows: Sequence[Projection]) -> None:
        with self._enter():
            check_effects(Effects(projections=tuple(rows)))
            self._table.upsert(rows)

    async def get_projections(self, task_ids: Sequence[str]) -> dict[str, Projection]:
        with self._enter():
            rows = self._table.rows
            return {task_id: rows[task_id] for task_id in task_ids if task_id in rows}

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
        with self._enter():
            fitting = (
                row
                for row in self._table.rows.values()
                if (entity_type is None or row.entity_type == entity_type)
                and (entity_id is None or row.entity_id == entity_id)
                and (status is None or row.status is status)
                and (task_type is None or row.task_type == task_type)
                and (updated_from is None or row.updated_at >= updated_from)
                and (updated_to is None or row.updated_at < updated_to)
                and (after is None or (row.updated_at, row.task_id) < after)
            )
            return nlargest(limit, fitting, key=lambda row: (row.updated_at, row.task_id))
