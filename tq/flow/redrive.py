"""Opens a closed flow once more for the members that did not succeed."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any, cast

from tq.codec import amend_body, decode_body
from tq.errors import FlowStateError
from tq.ids import join_id, step_id
from tq.model import FlowState, Message, Projection, Reopen, StepStatus
from tq.ports import Backend

from .close import barrier_of
from .membership import generation_stats
from .plan import WIDTH
from .results import entries
from .rows import again_rows, reopened_row

__all__ = ["plan_redrive", "redriven_rows"]


def plan_redrive(state: FlowState, now: float, timeout: float | None = None) -> Reopen:
    """Return what opens the next generation: its join, its deadline `timeout` seconds from now, its members' stats.

    Only one caller succeeds with it: a flow that is not exactly one generation behind stays as it is. The task that
    waited for the flow was ended by the first verdict; the new join knows of it, too, and finds it held no more.

    Raises:
        FlowStateError: the flow is open, its join is not on its way yet, or every member succeeded.
    """
    flow = state.flow
    if state.verdict is None:
        raise FlowStateError(flow.id, f"flow {flow.id} is open, {state.remaining} members are missing: cancel it first")
    if not state.confirmed:
        raise FlowStateError(flow.id, f"the join of flow {flow.id} is about to be sent: redrive it a moment later")
    if state.succeeded >= flow.total:
        words = f"all {flow.total} members of flow {flow.id} succeeded, and its join did not fail"
        raise FlowStateError(flow.id, f"{words}: nothing is left to redrive")
    generation = flow.generation + 1
    deadline = None if timeout is None else now + timeout
    return Reopen(
        flow_id=flow.id,
        generation=generation,
        join=_join(state, generation, now, deadline),
        at=now,
        deadline=deadline,
        stats=generation_stats(generation, deadline),
    )


async def redriven_rows(backend: Backend, state: FlowState, now: float) -> tuple[Projection, ...]:
    """Return the rows that a redrive begins anew: the flow's, and those of the members that run again."""
    rows, ids = list(reopened_row(state, now)), list[str]()
    async with aclosing(entries(barrier_of(backend), state)) as every:
        async for step in every:
            if step.status is not StepStatus.SUCCESS:
                ids.append(step_id(state.id, step.index))
    for start in range(0, len(ids), WIDTH):
        records = await backend.store.records(ids[start : start + WIDTH])
        rows += again_rows(records.values(), now)
    return tuple(rows)


def _join(state: FlowState, generation: int, now: float, deadline: float | None) -> Message:
    held = state.flow.join
    metadata = cast("dict[str, Any]", decode_body(held.body)["metadata"])
    words = {name: value for name, value in metadata["flow_meta"].items() if name != "deadline"}
    words["generation"] = generation
    if deadline is not None:
        words["deadline"] = deadline
    task_id = join_id(state.id, generation)
    body = amend_body(held.body, id=task_id, metadata={**metadata, "flow_meta": words})
    return held._replace(id=task_id, body=body, run_at=now)
