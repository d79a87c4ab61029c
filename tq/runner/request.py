"""What `start_flow` was given, checked: the same door for executors and for the handler."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from tq.clock import seconds
from tq.errors import InvalidInputError
from tq.model import Entity, FailurePolicy, FlowOptions, FlowRequest, FlowStep, Join, Member
from tq.model.plan import MAX_STEPS, PART, digest_of
from tq.runner.door import listed
from tq.runner.outside import Outside

__all__ = ["flow_request", "flow_request_in_turns"]


def flow_request(
    outside: Outside,
    id: str,
    steps: Sequence[FlowStep],
    join: Join,
    options: FlowOptions,
    *,
    log_context: Mapping[str, str] | None,
    consumer_id: str = "",
) -> FlowRequest:
    """Check a flow and encode its steps.

    Raises:
        InvalidInputError: names the argument that is refused.
    """
    steps = _listed(steps)
    request = _without_members(outside, id, len(steps), join, options, log_context, consumer_id)
    return replace(request, members=tuple(_members(outside, steps, 0, len(steps))))


async def flow_request_in_turns(
    outside: Outside,
    id: str,
    steps: Sequence[FlowStep],
    join: Join,
    options: FlowOptions,
    *,
    log_context: Mapping[str, str] | None,
    turn: Callable[[], Awaitable[None]],
) -> FlowRequest:
    """Do as `flow_request` does, some steps at a time; `turn` lets others have theirs in between.

    Raises:
        InvalidInputError: names the argument that is refused.
    """
    steps = _listed(steps)
    request = _without_members(outside, id, len(steps), join, options, log_context, "")
    members: list[Member] = []
    parts: list[bytes] = []
    for start in range(0, len(steps), PART):
        some = _members(outside, steps, start, start + PART)
        members += some
        parts.append(digest_of(some))
        await turn()
    return replace(request, members=tuple(members), parts=tuple(parts))


def _listed(steps: Sequence[FlowStep]) -> Sequence[FlowStep]:
    steps = listed("steps", steps, "give a list of FlowStep")
    if len(steps) > MAX_STEPS:
        raise InvalidInputError("steps", len(steps), f"start at most {MAX_STEPS:,} steps in one flow")
    return steps


def _without_members(
    outside: Outside,
    id: str,
    total: int,
    join: Join,
    options: FlowOptions,
    log_context: Mapping[str, str] | None,
    consumer_id: str,
) -> FlowRequest:
    if unknown := set(options) - set(FlowOptions.__annotations__):
        raise TypeError(f"start_flow takes no {', '.join(sorted(unknown))}")
    _must_be(Join, "join", join, 'give Join("the.type")')
    entity, timeout = options.get("entity"), options.get("timeout")
    if entity is not None:
        _must_be(Entity, "entity", entity, "give Entity(type, id)")
    policy = FailurePolicy.compile(
        options.get("failure_policy", "continue"),
        total,
        tolerate=options.get("tolerate"),
        quorum=options.get("quorum"),
        cancel_siblings=options.get("cancel_siblings", False),
    )
    outside.check_join(join)
    return FlowRequest(
        id=id,
        members=(),
        join=join,
        policy=policy,
        timeout=None if timeout is None else seconds("timeout", timeout, zero=False),
        entity=entity,
        log_context=log_context or {},
        worker_id=outside.worker_id,
        consumer_id=consumer_id,
    )


def _members(outside: Outside, steps: Sequence[FlowStep], start: int, stop: int) -> list[Member]:
    """Check some of the steps; a refusal says which of them it is."""
    found: list[Member] = []
    member = outside.member
    try:
        for step in steps[start:stop]:
            if type(step) is not FlowStep:
                _must_be(FlowStep, "", step, 'give FlowStep("the.type", payload=…)')
            found.append(member(step))
    except InvalidInputError as error:
        field = f"steps[{start + len(found)}]"
        if error.field:
            field = f"{field}.{error.field.removeprefix('step.')}"
        raise type(error)(field, error.value, error.way_out) from error
    return found


def _must_be(kind: type, field: str, value: object, way_out: str) -> None:
    """Refuse a value of another type: what annotations promise, users do not always keep."""
    if not isinstance(value, kind):
        raise InvalidInputError(field, value, way_out)
