"""What to do with a delivery before anything runs: pure deciding, in one place (D-35, design 1.4 and 1.6)."""

from __future__ import annotations

from typing import Any

from tq.codec import decode_body
from tq.errors import CrashedError, UnknownFormatError, WireError
from tq.model import Delivery, Failed, TaskStatus
from tq.runner.actions import words_of
from tq.runner.execution import Execution
from tq.runner.registry import TaskQueuesManager
from tq.runner.settle import Policy, convicted, unknown

__all__ = ["SUSPECT_FROM", "inspect", "policy_of", "stand_in", "unfit"]

SUSPECT_FROM = 2
"""Crashes from which on a delivery runs alone."""


def inspect(
    delivery: Delivery, executors: TaskQueuesManager, now: float, unknown_grace: float, consumer_id: str
) -> Execution:
    """Return the execution of a delivery: to be run, alone or not, or with how it ends unrun."""
    message, _, _, crashes, _, _, cancelled, _ = delivery
    registration = executors.get_executor(message.queue, message.type)
    try:
        body = decode_body(message.body)
    except WireError as error:
        execution = Execution(delivery, stand_in(delivery), registration, consumer_id)
        if isinstance(error, UnknownFormatError):
            execution.unrun = unknown(delivery, str(error), now, unknown_grace)
        else:
            execution.unrun = Failed(str(error), final=True, exception=error)
        return execution
    execution = Execution(delivery, body, registration, consumer_id)
    expires_at = body.get("expires_at")
    if cancelled:
        execution.unrun = Failed("cancelled", final=True, status=TaskStatus.CANCELLED)
    elif expires_at is not None and expires_at <= now:
        execution.unrun = Failed("expired before it could run", final=True, status=TaskStatus.EXPIRED)
    elif registration is None:
        reason = f"no executor is registered for {message.type!r} on queue {message.queue!r}"
        execution.unrun = unknown(delivery, reason, now, unknown_grace)
    elif crashes:
        if convicted(delivery, registration.options.max_crashes):
            crash = CrashedError(f"the worker died {crashes} times with this task, {delivery.solo_crashes} alone")
            execution.unrun = Failed(str(crash), final=True, exception=crash)
        execution.alone = crashes >= SUSPECT_FROM
    return execution


def unfit(delivery: Delivery, error: Exception, consumer_id: str) -> Execution:
    """Return the execution of a delivery that `inspect` stumbled over: it ends unrun, and brings down nobody else."""
    execution = Execution(delivery, stand_in(delivery), None, consumer_id)
    execution.unrun = Failed(f"it could not be looked at: {words_of(error)}", final=True, exception=error)
    return execution


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
