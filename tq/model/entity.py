"""The domain object that a task works on, and the row that tells how that work stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from tq.clock import to_datetime
from tq.errors import InvalidInputError
from tq.model.status import TaskStatus

__all__ = ["Entity", "Projection", "projection_version"]


@dataclass(frozen=True, slots=True)
class Entity:
    """A domain object: `Entity("Item", "item-123")`."""

    type: str
    id: str

    def __post_init__(self) -> None:
        for field in ("type", "id"):
            value = getattr(self, field)
            if not isinstance(value, str) or not value:
                raise InvalidInputError(f"entity.{field}", value, "give a string that is not empty")


_RANK = {TaskStatus.SCHEDULED: 0, TaskStatus.PROCESSING: 1}


def projection_version(created_at: float, generation: int, status: TaskStatus) -> int:
    """Return the version of a row: by instant of making, then generation, then scheduled < processing < any ending.

    All endings share a rank, so that the first one written wins (INV-07, design 1.5). Of two tasks that had one id
    after another, the later one has the row, once it runs: what is only scheduled for the first time may be an id that
    was added again, and replaces nothing. The number is exact as a float, too: milliseconds × 2048 + generation × 4.
    """
    stage = generation * 4 + _RANK.get(status, 2)
    if not stage:
        return 0
    made = int(to_datetime(created_at).timestamp() * 1000)  # as a datetime tells it, wherever the instant comes from
    return made * 2048 + stage


class Projection(NamedTuple):
    """One row per task or flow, `task_id` is its key; a provider writes it only over a smaller `version`.

    `payload` and `result` are JSON; instants are seconds since the epoch, UTC.
    """

    task_id: str
    entity_id: str
    entity_type: str
    task_type: str
    queue_id: str
    status: TaskStatus
    version: int
    created_at: float
    updated_at: float
    payload: bytes | None = None
    result: bytes | None = None
    error: str | None = None
