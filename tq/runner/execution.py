"""One delivery on its way through the runner: a single value that each step reads and adds to."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from enum import Enum, auto
from typing import Any

from tq.codec import loads, task_of
from tq.errors import WireError
from tq.model import Delivery, Outcome, Task
from tq.runner.actions import Attempt
from tq.runner.registry import Registration

__all__ = ["Execution", "Interruption"]

_NOTHING: Mapping[str, Any] = {}


class Interruption(Enum):
    """Why tq, and not the executor, ends a body."""

    TIMEOUT = auto()
    HUNG = auto()
    CANCEL = auto()
    LOST = auto()
    """Its lease is somebody else's: whatever it says has no effect any more."""
    SHUTDOWN = auto()


class Execution:
    """A delivery, its decoded body, its executor, and how far it has come."""

    __slots__ = (
        "_task",
        "alone",
        "attached",
        "attempt",
        "body",
        "body_task",
        "concerns_others",
        "consumer_id",
        "delivery",
        "ended_meanwhile",
        "given",
        "handed_off",
        "id",
        "interrupted",
        "moving",
        "overdue",
        "payload",
        "registration",
        "settled",
        "shares_body",
        "slot_freed",
        "started_at",
        "unrun",
    )

    def __init__(
        self, delivery: Delivery, body: Mapping[str, Any], registration: Registration | None, consumer_id: str
    ) -> None:
        self.id = delivery[0][0]
        self.delivery = delivery
        self.body = body
        self.registration = registration
        self.consumer_id = consumer_id
        self.concerns_others = "metadata" in body or "entity" in body
        """Whether it may belong to a flow, or has a row: only then are the continuations asked."""
        self.unrun: Outcome | None = None
        """How it ends without being run: decided at the gate."""
        self.alone = False
        """Whether it is run while nothing else is: it was there when workers died."""
        self.payload: object = None
        self.given = False
        """Whether the payload was checked and given: never, where the task ends before that."""
        self.attached: object = None
        """What a join was given, as plain values: its executor may see it checked into a type of its own."""
        self.attempt: Attempt | None = None
        self.body_task: asyncio.Task[Any] | None = None
        """What the body runs in, while it does."""
        self.interrupted: Interruption | None = None
        self.handed_off = False
        self.moving = False
        """Whether its custody is on its way to the store: its token then is neither the old one nor the new."""
        self.ended_meanwhile: Outcome | None = None
        self.overdue = False
        """Whether it was settled without its body, which has not ended yet."""
        self.settled = False
        self.shares_body = False
        self.slot_freed = False
        self.started_at = 0.0
        self._task: Task[Any] | None = None

    @property
    def is_join(self) -> bool:
        """Whether it joins a flow."""
        metadata: Mapping[str, Any] = self.body.get("metadata", _NOTHING)
        meta: Mapping[str, Any] = metadata.get("flow_meta", _NOTHING)
        return bool(meta.get("is_join"))

    @property
    def log_context(self) -> Mapping[str, str]:
        """What its producer wants on every log line."""
        metadata: Mapping[str, Any] = self.body.get("metadata", _NOTHING)
        context: Mapping[str, str] = metadata.get("log_context", _NOTHING)
        return context

    @property
    def task(self) -> Task[Any]:
        """The task as executors, events and continuations see it; made when first asked for."""
        if self._task is None:
            self._task = task_of(self.body, self.delivery, self.payload)
        return self._task

    @property
    def told_task(self) -> Task[Any]:
        """The task as observers see it: one that ended before its payload was checked, with that as plain values."""
        if self.given:
            return self.task
        try:
            return task_of(self.body, self.delivery, loads(self.body["payload"]))
        except WireError:
            return self.task

    @property
    def ended_task(self) -> Task[Any]:
        """The task as continuations see it: a join with its results as plain values."""
        return self.task if self.attached is None else task_of(self.body, self.delivery, self.attached)

    def give_payload(self, payload: object) -> None:
        """Set the checked payload; a task made before it is made anew."""
        self.payload = payload
        self.given = True
        self._task = None

    def interrupt(self, why: Interruption) -> None:
        """End the body, unless it has been told to end already.

        A body that runs a whole group goes on when only one of its tasks is meant.
        """
        if self.interrupted is None:
            self.interrupted = why
            alone = self.shares_body and why in (Interruption.CANCEL, Interruption.LOST)
            if self.body_task is not None and not alone:
                self.body_task.cancel()
        elif why is Interruption.LOST:
            self.interrupted = why  # nothing of it may be written any more, whatever ended it
