"""Entity projections: rows that dashboards read."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Protocol

from tq.model import Projection, TaskStatus

__all__ = ["EntityProjectionProvider", "ProjectionQuery"]


class EntityProjectionProvider(Protocol):
    """Keeps, per task id, the row with the largest version; the first of equal versions stays."""

    @abstractmethod
    async def upsert_projections(self, rows: Sequence[Projection]) -> None:
        """Write each row whose version is larger than the stored one's; repeating changes nothing.

        An exception means that none is known to be written; all of them come again, in the same order.
        """


class ProjectionQuery(Protocol):
    """The query side of the providers that tq ships."""

    @abstractmethod
    async def get_projections(self, task_ids: Sequence[str]) -> dict[str, Projection]:
        """Return rows by task id."""

    @abstractmethod
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
        """Return rows, newest first by (updated_at, task_id); `after` is that pair of the last row seen.

        `updated_from` is inclusive, `updated_to` is not.
        """
