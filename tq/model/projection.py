"""How a task becomes its projection row: pure, for every room that tells how a task stands (RFC 003)."""

from __future__ import annotations

from typing import Any

from tq.clock import to_instant
from tq.errors import InvalidInputError
from tq.model.entity import Projection, projection_version
from tq.model.outcome import Failed, Outcome, Succeeded
from tq.model.status import TaskStatus
from tq.model.task import Task

__all__ = ["build_projection", "ending_projection"]


def build_projection(
    task: Task[Any],
    status: TaskStatus,
    *,
    now: float,
    result: bytes | None = None,
    error: str | None = None,
    payload: bytes | None = None,
) -> Projection | None:
    """Return the row of a task, or None where it names no entity; `result` and `payload` are JSON.

    Raises:
        InvalidInputError: the task names an entity and has no id, so that its row would have no key (ENT-10).
    """
    entity = task.entity
    if entity is None:
        return None
    if not task.id:
        raise InvalidInputError(
            "task.id",
            task.id,
            f"the row of {entity.type} {entity.id!r} is kept under it: give the task an id, or let add_tasks make one, "
            f"as it does with force_store and store_on_failure and without",
        )
    created_at = now if task.created_at is None else to_instant("created_at", task.created_at)
    return Projection(
        task.id,
        entity.id,
        entity.type,
        task.type,
        task.queue_id,
        status,
        projection_version(task.born, task.generation, status),
        created_at,
        now,
        payload,
        result,
        error,
    )


def ending_projection(
    task: Task[Any], outcome: Outcome, *, now: float, payload: bytes | None = None, discarded: bool = False
) -> Projection | None:
    """Return the last row of a task that ended like this, or None: no entity, or an outcome that ends nothing.

    Every ending without success is `failed`, but for a cancel (D-55). `discarded`: its failure leaves no record, so
    that the row is where one reads that retries ran out (ENT-05).
    """
    if isinstance(outcome, Succeeded):
        return build_projection(task, TaskStatus.EXECUTED, now=now, result=outcome.result, payload=payload)
    if isinstance(outcome, Failed):
        status = TaskStatus.CANCELLED if outcome.status is TaskStatus.CANCELLED else TaskStatus.FAILED
        error = outcome.error or ("Task exhausted all retries" if discarded else "Task failed")
        return build_projection(task, status, now=now, error=error, payload=payload)
    return None
