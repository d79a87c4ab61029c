"""What `start_flow` was given, checked: the same door for executors and for the handler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tq.clock import seconds
from tq.errors import InvalidInputError
from tq.model import Entity, FailurePolicy, FlowOptions, FlowRequest, FlowStep, Join, Member
from tq.model.plan import MAX_STEPS
from tq.runner.door import listed
from tq.runner.outside import Outside

__all__ = ["flow_request"]


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
    if unknown := set(options) - set(FlowOptions.__annotations__):
        raise TypeError(f"start_flow takes no {', '.join(sorted(unknown))}")
    steps = listed("steps", steps, "give a list of FlowStep")
    if len(steps) > MAX_STEPS:
        raise InvalidInputError("steps", len(steps), f"start at most {MAX_STEPS:,} steps in one flow")
    _must_be(Join, "join", join, 'give Join("the.type")')
    entity, timeout = options.get("entity"), options.get("timeout")
    if entity is not None:
        _must_be(Entity, "entity", entity, "give Entity(type, id)")
    for index, step in enumerate(steps):
        _must_be(FlowStep, f"steps[{index}]", step, 'give FlowStep("the.type", payload=…)')
    policy = FailurePolicy.compile(
        options.get("failure_policy", "continue"),
        len(steps),
        tolerate=options.get("tolerate"),
        quorum=options.get("quorum"),
        cancel_siblings=options.get("cancel_siblings", False),
    )
    outside.check_join(join)
    return FlowRequest(
        id=id,
        members=tuple([_member(outside, index, step) for index, step in enumerate(steps)]),
        join=join,
        policy=policy,
        timeout=None if timeout is None else seconds("timeout", timeout, zero=False),
        entity=entity,
        log_context=log_context or {},
        worker_id=outside.worker_id,
        consumer_id=consumer_id,
    )


def _member(outside: Outside, index: int, step: FlowStep) -> Member:
    """Check a step; a refusal says which of them it is."""
    try:
        return outside.member(step)
    except InvalidInputError as error:
        field = f"steps[{index}].{error.field.removeprefix('step.')}"
        raise type(error)(field, error.value, error.way_out) from error


def _must_be(kind: type, field: str, value: object, way_out: str) -> None:
    """Refuse a value of another type: what annotations promise, users do not always keep."""
    if not isinstance(value, kind):
        raise InvalidInputError(field, value, way_out)
