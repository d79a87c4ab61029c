"""What a join is told: an entry for every member, inline while it is small, streamed however large it is."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, NamedTuple, cast

from tq.codec import loads
from tq.errors import InvalidInputError, UnknownFlowError
from tq.model import FlowState, StepResult, StepStatus, Task, Verdict
from tq.ports import FlowBarrierProvider

from .membership import Membership, membership_of

__all__ = [
    "INLINE",
    "StepEntry",
    "attach_results",
    "entries",
    "missing",
    "stream_results",
    "verdict_of",
    "verdict_word",
]

INLINE = 256 << 10
"""Bytes of results and errors that are attached to a join; beyond, it is given a manifest."""
INLINE_STEPS = 10_000
"""Entries that are attached to a join, however small they are."""

_FLAGS = {Verdict.ABORTED: "aborted", Verdict.TIMED_OUT: "timed_out", Verdict.CANCELLED: "cancelled"}


class StepEntry(NamedTuple):
    """How one member ended, or that it had not ended when the flow did."""

    step_index: int
    status: StepStatus
    result: Any = None
    """What the step returned, as plain JSON values."""
    error: str | None = None


# --- in a join's payload ----------------------------------------------------------------------------------------------


def verdict_of(task: Task[Any]) -> Verdict | None:
    """Return the verdict that was attached to a join, or None where it ended before anything was attached."""
    word = verdict_word(task)
    return Verdict(word) if word in set(Verdict) else None


def verdict_word(task: Task[Any]) -> str:
    """Return the verdict that was attached to a join, or an empty string."""
    word = _flow_results(task).get("verdict") or (task.flow_meta or {}).get("verdict")
    return word if isinstance(word, str) else ""


def _flow_results(task: Task[Any]) -> Mapping[str, Any]:
    payload: object = task.payload
    if isinstance(payload, bytes):
        payload = loads(payload)
    found = cast("Mapping[str, Any]", payload).get("flow_results") if isinstance(payload, Mapping) else None
    return cast("Mapping[str, Any]", found) if isinstance(found, Mapping) else {}


# --- from the barrier -------------------------------------------------------------------------------------------------


async def attach_results(
    barrier: FlowBarrierProvider, membership: Membership, *, inline: int = INLINE
) -> dict[str, Any]:
    """Return the payload of a join; a manifest has no `steps`: who reads them there is stopped, not told of none.

    Raises:
        UnknownFlowError: nothing is stored about the flow any more.
        BackendUnavailableError: trying again may help.
    """
    state = await _state(barrier, membership.flow_id)
    told: dict[str, Any] = {
        "flow_id": state.id,
        "generation": state.flow.generation,
        "total": state.flow.total,
        "verdict": state.verdict,
    }
    if state.verdict is not None and state.verdict in _FLAGS:
        told[_FLAGS[state.verdict]] = True
    if state.reason:
        told["reason"] = state.reason
    steps = await _inline(barrier, state, inline)
    if steps is not None:
        return {"flow_results": {**told, "steps": steps}}
    # Of many results the barrier's own counts are told: to count statuses one by one would be to read them all.
    counts = {"success": state.succeeded, "fail": state.failed, _absent(state).value: state.remaining}
    return {"flow_results": {**told, "manifest": True, "counts": counts}}


async def _inline(barrier: FlowBarrierProvider, state: FlowState, inline: int) -> list[dict[str, Any]] | None:
    if state.flow.total > INLINE_STEPS:
        return None
    steps: list[dict[str, Any]] = []
    size = 0
    async with aclosing(entries(barrier, state)) as every:
        async for step in every:
            size += len(step.result or b"") + len(step.error or "")
            if size > inline:
                return None
            steps.append(_words(step))
    return steps


def _words(step: StepResult) -> dict[str, Any]:
    words: dict[str, Any] = {"step_index": step.index, "status": step.status.value}
    if step.result is not None:
        words["result"] = loads(step.result)
    if step.error is not None:
        words["error"] = step.error
    return words


async def stream_results(barrier: FlowBarrierProvider, task: Task[Any]) -> AsyncGenerator[StepEntry]:
    """Yield an entry for every member of the flow that `task` joins, by index; serves inline results and manifests.

    Raises:
        InvalidInputError: the task is no join.
        UnknownFlowError: nothing is stored about the flow any more.
    """
    membership = membership_of(task)
    if membership is None or not membership.is_join:
        raise InvalidInputError("task", task.id, "give the task that a join's executor received")
    told = _flow_results(task)
    if told and not told.get("manifest"):
        for step in cast("Sequence[Mapping[str, Any]]", told["steps"]):
            yield StepEntry(step["step_index"], StepStatus(step["status"]), step.get("result"), step.get("error"))
        return
    async with aclosing(entries(barrier, await _state(barrier, membership.flow_id))) as every:
        async for member in every:
            result = None if member.result is None else loads(member.result)
            yield StepEntry(member.index, member.status, result, member.error)


async def _state(barrier: FlowBarrierProvider, flow_id: str) -> FlowState:
    state = (await barrier.get([flow_id])).get(flow_id)
    if state is None:
        raise UnknownFlowError(flow_id, f"nothing is stored about flow {flow_id} (any more): raise `remember`")
    return state


def _absent(state: FlowState) -> StepStatus:
    """What is said of members that had not ended: with the verdict they were cancelled, or they run on."""
    cancels = state.verdict is Verdict.CANCELLED or (state.verdict is not None and state.flow.cancel_siblings)
    return StepStatus.CANCELLED if cancels else StepStatus.OPEN


async def entries(barrier: FlowBarrierProvider, state: FlowState) -> AsyncGenerator[StepResult]:
    """Yield one result for every member, by index, those that are not recorded included."""
    absent, expected, last = _absent(state), 0, state.flow.total - 1
    async with aclosing(_recorded(barrier, state.id, -1, last)) as recorded:
        async for step in recorded:
            for index in range(expected, step.index):
                yield StepResult(index, absent)
            yield step
            expected = step.index + 1
    for index in range(expected, last + 1):
        yield StepResult(index, absent)


async def missing(barrier: FlowBarrierProvider, state: FlowState, after: int, count: int) -> list[int]:
    """Return which of the `count` members that follow index `after` are not recorded."""
    last = min(after + count, state.flow.total - 1)
    async with aclosing(_recorded(barrier, state.id, after, last)) as recorded:
        seen = {step.index async for step in recorded}
    return [index for index in range(after + 1, last + 1) if index not in seen]


async def _recorded(barrier: FlowBarrierProvider, flow_id: str, after: int, last: int) -> AsyncGenerator[StepResult]:
    """Yield recorded members up to `last`, in pages that grow while results are small: each may be 256 KiB."""
    limit = 64
    while after < last:
        asked = min(limit, last - after)
        page = await barrier.get_step_results(flow_id, after, asked)
        size = 0
        for step in page:
            if step.index > last:
                return
            size += len(step.result or b"")
            yield step
        if len(page) < asked:
            return
        after = page[-1].index
        if size < 64 << 10:
            limit = min(limit * 4, 2000)
        elif size > 4 << 20:
            limit = max(limit // 4, 8)
