"""Opens a closed flow once more for the members that did not succeed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, cast

from tq.codec import amend_body, decode_body
from tq.errors import FlowStateError
from tq.ids import join_id, step_id
from tq.model import Effects, FlowState, Mark, Message, Record, Reopen, StepResult, StepStatus
from tq.ports import Backend

from .close import barrier_of
from .membership import generation_stats
from .plan import WIDTH
from .results import entries
from .rows import again_rows, reopened_row
from .spread import locate

__all__ = ["plan_redrive", "redriven"]


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


async def redriven(backend: Backend, state: FlowState, reopen: Reopen, now: float) -> Effects:
    """Return what a redrive writes: the next generation, and the rows of the flow and of the members that run again.

    A member of which nothing is left to run counts at once as it had ended; it would be waited for in vain.

    Raises:
        FlowStateError: nothing is left of any of them.
    """
    rows, marks, again = list(reopened_row(state, now)), list[Mark](), 0
    async with aclosing(_pages(backend, state)) as pages:
        async for page in pages:
            records = await backend.store.records([step_id(state.id, step.index) for step in page])
            rows += again_rows(records.values(), now)
            gone = await _gone(backend, state, page, records)
            marks += [_as_it_ended(state, step, reopen.generation) for step in gone]
            again += len(page) - sum(step.status is StepStatus.FAIL for step in gone)  # others may have succeeded late
    if not again:
        raise FlowStateError(
            state.id,
            f"nothing is kept of the {len(marks)} members of flow {state.id} that did not succeed: their dead letters "
            "were purged, they cannot run again",
        )
    return Effects(reopens=(reopen,), marks=tuple(marks), projections=tuple(rows))


async def _pages(backend: Backend, state: FlowState) -> AsyncGenerator[list[StepResult]]:
    """Yield the members that did not succeed, as many at a time as one call takes."""
    page = list[StepResult]()
    async with aclosing(entries(barrier_of(backend), state)) as every:
        async for step in every:
            if step.status is not StepStatus.SUCCESS:
                page.append(step)
                if len(page) >= WIDTH:
                    yield page
                    page = []
    if page:
        yield page


async def _gone(
    backend: Backend, state: FlowState, page: Sequence[StepResult], records: Mapping[str, Record]
) -> list[StepResult]:
    """Return the members that are neither recorded nor alive; those of a plan can always be written again from it.

    Records are asked for once more: what was alive may have ended meanwhile.
    """
    sees_all = backend.queue.guarantees.locates and backend.store.guarantees.locates
    left = [step for step in page if step_id(state.id, step.index) not in records]
    if state.flow.chunks or not sees_all or not left:
        return []
    ids = [step_id(state.id, step.index) for step in left]
    there = {*await locate(backend, ids), *await backend.store.records(ids)}
    return [step for step, id in zip(left, ids, strict=True) if id not in there]


def _as_it_ended(state: FlowState, step: StepResult, generation: int) -> Mark:
    status = StepStatus.CANCELLED if step.status is StepStatus.CANCELLED else StepStatus.FAIL
    return Mark(
        state.id, step.index, status, generation, None, step.error or "nothing is kept of it: it cannot run again"
    )


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
