"""Turns the life of a task into rows: scheduled, processing, and its ending."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, cast

from tq.codec import decode_body, dumps, entity_tasks
from tq.errors import InvalidInputError, PayloadError, WireError
from tq.model import (
    NO_EFFECTS,
    Effects,
    Ended,
    Message,
    Projection,
    Task,
    TaskStatus,
    build_projection,
    ending_projection,
)
from tq.ports import Continuation

__all__ = ["ProjectionFold"]

log = logging.getLogger("tq")


class ProjectionFold(Continuation):
    """Writes nothing; the rows ride in the commit of the change they tell of.

    A row that cannot be built is left out, with a warning, and disturbs neither its task nor its neighbours (D-55).
    """

    def __init__(self, *, include_payload: bool = False) -> None:
        self._include_payload = include_payload

    def scheduled_rows(self, messages: Iterable[Message], now: float) -> tuple[Projection, ...]:
        """Return the rows of those messages that name an entity (ENT-01)."""
        rows: list[Projection] = []
        for task, payload in entity_tasks(messages):
            shown = payload if self._include_payload else None
            rows += _guarded(task, partial(build_projection, task, TaskStatus.SCHEDULED, now=now, payload=shown))
        return tuple(rows)

    def processing_row(self, task: Task[Any], now: float) -> tuple[Projection, ...]:
        """Return the row of a task whose body is about to run: in the first attempt only (ENT-03)."""
        if task.entity is None or task.attempt > 0:
            return ()
        payload = _plain(task.payload) if self._include_payload else None
        return _guarded(task, partial(build_projection, task, TaskStatus.PROCESSING, now=now, payload=payload))

    def added(self, messages: Sequence[Message], now: float) -> Effects:
        rows = self.scheduled_rows(messages, now)
        return Effects(projections=rows) if rows else NO_EFFECTS

    def begin(self, task: Task[Any], now: float) -> Effects:
        rows = self.processing_row(task, now)
        return Effects(projections=rows) if rows else NO_EFFECTS

    def follow(self, ended: Ended) -> Effects:
        """Return the last row of a task; none where a retry follows (ENT-06), or where its flow is to end it."""
        task = ended.task
        if not ended.final or task.entity is None:
            return NO_EFFECTS
        discarded = not ended.keep.on_failure
        build = partial(ending_projection, task, ended.outcome, now=ended.now, discarded=discarded)
        rows = _guarded(task, lambda: build(payload=self._payload(ended)))
        return Effects(projections=rows) if rows else NO_EFFECTS

    def _payload(self, ended: Ended) -> bytes | None:
        """Return the payload as its producer wrote it: the executor may have seen it as a type of its own."""
        if not self._include_payload:
            return None
        if ended.body:
            return cast("bytes", decode_body(ended.body)["payload"])
        return _plain(ended.task.payload)


def _guarded(task: Task[Any], build: Callable[[], Projection | None]) -> tuple[Projection, ...]:
    try:
        row = build()
    except (InvalidInputError, WireError) as error:
        log.warning("task %s of type %s gets no projection row: %s", task.id or "without id", task.type, error)
        return ()
    return () if row is None else (row,)


def _plain(payload: object) -> bytes | None:
    """Return a payload as JSON, or None where it has become something that JSON does not know."""
    if isinstance(payload, bytes):
        return payload
    try:
        return dumps(payload)
    except PayloadError:
        return None
