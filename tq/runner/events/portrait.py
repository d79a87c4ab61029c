"""How tasks, flows and messages look in events: values made from values."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, TypedDict, cast

from tq.clock import to_datetime
from tq.codec import decode_body, loads
from tq.errors import ExecutionError, InvalidInputError, WireError
from tq.model import Delivery, Entity, Failed, FlowRequest, FlowState, Join, Message, Task
from tq.model.events import TaskTiming, WorkerInfo

__all__ = [
    "FlowFields",
    "TaskFields",
    "WorkerFields",
    "age_of",
    "error_of",
    "flow_request_fields",
    "flow_state_fields",
    "memory_usage_mb",
    "task_fields",
    "timing",
    "utc",
    "worker_fields",
]

_NOTHING: Mapping[str, Any] = {}


class TaskFields(TypedDict):
    """The fields of a `TaskContext`."""

    task_id: str
    task_type: str
    queue_id: str
    task_hash: str | None
    payload: Any
    attempt: int
    max_retries: int
    generation: int
    scheduled_at: datetime | None
    worker_id: str
    consumer_id: str
    log_context: Mapping[str, str]


def task_fields(
    task: Task[Any], *, worker_id: str, consumer_id: str, default_retries: int, include_payload: bool
) -> TaskFields:
    """Return the context of a task; `task_hash` and `log_context` are the task's own (D-57, TLC-10)."""
    return {
        "task_id": task.id,
        "task_type": task.type,
        "queue_id": task.queue_id,
        "task_hash": task.task_hash,
        "payload": task.payload if include_payload else {},
        "attempt": task.attempt + 1,
        "max_retries": default_retries if task.retries is None else task.retries,
        "generation": task.generation,
        "scheduled_at": task.created_at,
        "worker_id": worker_id,
        "consumer_id": consumer_id,
        "log_context": task.log_context,
    }


def timing(task: Task[Any], started_at: float, now: float) -> TaskTiming:
    """Return where the time went; clocks of two machines may disagree, durations are never negative."""
    made = started_at if task.created_at is None else task.created_at.timestamp()
    return TaskTiming(
        queued_duration=max(started_at - made, 0.0),
        processing_duration=max(now - started_at, 0.0),
        total_duration=max(now - made, 0.0),
    )


def error_of(outcome: Failed) -> BaseException:
    """Return what was raised, or an error with the words that were given (D-57)."""
    return outcome.exception or ExecutionError(outcome.error or "the task failed without saying why")


class WorkerFields(TypedDict):
    """The fields of a `WorkerInfo`."""

    worker_id: str
    hostname: str
    pid: int
    started_at: datetime
    enabled_queues: tuple[str, ...]


def worker_fields(worker: WorkerInfo) -> WorkerFields:
    """Return the fields of a worker, to make an event of them."""
    return {
        "worker_id": worker.worker_id,
        "hostname": worker.hostname,
        "pid": worker.pid,
        "started_at": worker.started_at,
        "enabled_queues": worker.enabled_queues,
    }


class FlowFields(TypedDict):
    """The fields of a `FlowContext`."""

    flow_id: str
    total_steps: int
    join: Join
    failure_policy: str
    entity: Entity | None
    worker_id: str
    consumer_id: str


def flow_request_fields(request: FlowRequest, worker_id: str) -> FlowFields:
    """Return the context of a flow that was asked for."""
    return {
        "flow_id": request.id,
        "total_steps": len(request.members),
        "join": request.join,
        "failure_policy": request.policy.words,
        "entity": request.entity,
        "worker_id": request.worker_id or worker_id,
        "consumer_id": request.consumer_id,
    }


def flow_state_fields(state: FlowState, worker_id: str) -> FlowFields:
    """Return the context of a stored flow; who started it, and why, stands in the `meta` that was written with it."""
    flow = state.flow
    try:
        meta: Mapping[str, Any] = cast("Mapping[str, Any]", loads(flow.meta)) if flow.meta else _NOTHING
    except WireError:
        meta = _NOTHING
    return {
        "flow_id": flow.id,
        "total_steps": flow.total,
        "join": Join(flow.join.type, queue=flow.join.queue),
        "failure_policy": str(meta.get("policy") or policy_words(flow.total, flow.allowed, flow.needed)),
        "entity": _entity(meta.get("entity")),
        "worker_id": worker_id,
        "consumer_id": str(meta.get("consumer_id", "")),
    }


def _entity(words: Any) -> Entity | None:
    try:
        return Entity(words["type"], words["id"])
    except (TypeError, KeyError, InvalidInputError):
        return None


def policy_words(total: int, allowed: int, needed: int) -> str:
    """Return the words of a policy of which only the two compiled numbers are known."""
    if needed < total:
        return f"quorum={needed}"
    if allowed >= total:
        return "continue"
    return f"tolerate={allowed}" if allowed else "abort"


def age_of(delivery: Delivery, now: float) -> float:
    """Return the seconds since a delivered task was made; since it was due, where its body does not tell (QLC-03)."""
    message: Message = delivery.message
    try:
        made = float(decode_body(message.body).get("created_at", message.run_at))
    except WireError:
        made = message.run_at
    return max(now - made, 0.0)


def utc(instant: float | None) -> datetime | None:
    """Return an instant as events show it."""
    return None if instant is None else to_datetime(instant)


def memory_usage_mb() -> float | None:
    """Return the resident memory of this process in MiB, or None where the system does not tell (WLC-02)."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    sizes = [int(line.split()[1]) for line in lines if line.startswith("VmRSS:")]
    return sizes[0] / 1024 if sizes else None
