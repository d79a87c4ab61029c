"""How the ending of a step counts, and what the ending of a join brings: every way to end passes here (F16)."""

from __future__ import annotations

from typing import Any

from tq.clock import to_instant
from tq.codec import dumps
from tq.model import (
    NO_EFFECTS,
    Effects,
    Failed,
    Join,
    Mark,
    Outcome,
    Resolve,
    StepStatus,
    Succeeded,
    Task,
    TaskStatus,
    Verdict,
    ending_projection,
)

from .membership import Membership, entity_of, membership_of
from .parent import Parent, parent_of
from .results import verdict_of
from .rows import ended_row

__all__ = ["ending_effects", "parent_ended"]


def ending_effects(task: Task[Any], outcome: Outcome, now: float) -> Effects:
    """Return what a final ending means to the task's flow: a mark, or all that hangs on a join."""
    if not isinstance(outcome, Succeeded | Failed):
        return NO_EFFECTS
    membership = membership_of(task)
    if membership is None:
        return NO_EFFECTS
    if membership.is_join:
        return _join_ended(task, membership, outcome, now)
    return Effects(marks=(_mark(membership, outcome),))


def _mark(membership: Membership, outcome: Succeeded | Failed) -> Mark:
    flow_id, index, generation = membership.flow_id, membership.index, membership.generation
    if isinstance(outcome, Succeeded):
        return Mark(flow_id, index, StepStatus.SUCCESS, generation, outcome.result)
    status = StepStatus.CANCELLED if outcome.status is TaskStatus.CANCELLED else StepStatus.FAIL
    return Mark(flow_id, index, status, generation, None, outcome.error or "Step failed")


def _join_ended(task: Task[Any], membership: Membership, outcome: Succeeded | Failed, now: float) -> Effects:
    """The flow's row, the parent's end, and the word that this join needs no dispatching any more.

    That word stands here at the latest: a join whose task is gone without a trace would otherwise be sent once more.
    """
    projections = ended_row(
        membership.flow_id,
        entity_of(membership.meta.get("entity")),
        Join(task.type, queue=task.queue_id),
        verdict_of(task),
        outcome,
        generation=membership.generation,
        replays=task.generation,
        created_at=now if task.created_at is None else to_instant("created_at", task.created_at),
        now=now,
    )
    confirms = ((membership.flow_id, membership.generation),)
    parent = parent_of(membership.meta)
    resolves = () if parent is None else (parent_ended(parent, membership.flow_id, verdict_of(task), outcome, now),)
    return Effects(projections=projections, confirms=confirms, resolves=resolves)


def parent_ended(
    parent: Parent, flow_id: str, verdict: Verdict | None, outcome: Succeeded | Failed, now: float
) -> Resolve:
    """End the held task as the join ended: its executor has the last word, but for a cancel, which ends both.

    What was cancelled has not been done, whatever its join made of the rest: a redrive runs it again. It is not tried
    again where it failed: its flow, of the same id, has ended for good.
    """
    if verdict is Verdict.CANCELLED:
        outcome = Failed("cancelled", final=True, status=TaskStatus.CANCELLED)
    task, told = parent.task, dict(parent.task.execution_stats)
    if isinstance(outcome, Failed):
        told["last_error"] = outcome.error
    member, stats = membership_of(task) is not None, dumps(told) if told else b""
    record = parent.keep.record(parent.message, task.fence, outcome, now, stats=stats, member=member)
    row = ending_projection(task, outcome, now=now, discarded=not parent.keep.on_failure)
    effects = Effects(records=(record,) if record else (), projections=(row,) if row else ())
    return Resolve(task.id, flow_id, effects + ending_effects(task, outcome, now))
