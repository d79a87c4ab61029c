"""What to do with a delivery before anything runs: pure deciding, in one place (D-35, design 1.4 and 1.6)."""

from __future__ import annotations

from typing import Any, NamedTuple

from tq.codec import decode_body
from tq.errors import CrashedError, UnknownFormatError, WireError
from tq.model import Delivery, Failed, Outcome, TaskStatus
from tq.runner.execution import Execution
from tq.runner.registry import TaskQueuesManager
from tq.runner.settle import Policy, convicted, unknown

__all__ = ["SUSPECT_FROM", "Verdict", "inspect", "policy_of", "stand_in"]

SUSPECT_FROM = 2
"""Crashes from which on a delivery runs alone."""


class Verdict(NamedTuple):
    """An execution to run (outcome None), alone or not, or one that ends here and now."""

    execution: Execution
    outcome: Outcome | None = None
    alone: bool = False


def inspect(
    delivery: Delivery, executors: TaskQueuesManager, now: float, unknown_grace: float, consumer_id: str
) -> Verdict:
    """Decide whether a delivery is run, given back, or ended unrun."""
    message = delivery.message
    registration = executors.get_executor(message.queue, message.type)
    try:
        body = decode_body(message.body)
    except UnknownFormatError as error:
        execution = Execution(delivery, stand_in(delivery), registration, consumer_id)
        return Verdict(execution, unknown(delivery, str(error), now, unknown_grace))
    except WireError as error:
        execution = Execution(delivery, stand_in(delivery), registration, consumer_id)
        return Verdict(execution, Failed(str(error), final=True, exception=error))
    execution = Execution(delivery, body, registration, consumer_id)
    if delivery.cancelled:
        return Verdict(execution, Failed("cancelled", final=True, status=TaskStatus.CANCELLED))
    expires_at = body.get("expires_at")
    if expires_at is not None and expires_at <= now:
        return Verdict(execution, Failed("expired before it could run", final=True, status=TaskStatus.EXPIRED))
    if registration is None:
        reason = f"no executor is registered for {message.type!r} on queue {message.queue!r}"
        return Verdict(execution, unknown(delivery, reason, now, unknown_grace))
    if convicted(delivery, registration.options.max_crashes):
        crash = CrashedError(f"the worker died {delivery.crashes} times with this task, {delivery.solo_crashes} alone")
        return Verdict(execution, Failed(str(crash), final=True, exception=crash))
    return Verdict(execution, alone=delivery.crashes >= SUSPECT_FROM)


def stand_in(delivery: Delivery) -> dict[str, Any]:
    """Return a body for bytes that are none, so that their ending is settled like any other."""
    message = delivery.message
    return {"id": message.id, "type": message.type or "unreadable", "queue": message.queue, "payload": b"null"}


def policy_of(execution: Execution) -> Policy:
    """Return what the executor's options and the task's own say about its ending."""
    body, registration = execution.body, execution.registration
    if registration is None:
        return _UNKNOWN
    if "retries" not in body and "retry_after" not in body:
        return registration.policy
    return registration.policy._replace(task_retries=body.get("retries"), retry_after=body.get("retry_after"))


_UNKNOWN = Policy(task_retries=0)
