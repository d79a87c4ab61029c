"""Decide what an outcome brings. Pure: values in, a settlement out; nothing here waits, writes or reads the time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, assert_never

from tq.codec import dumps, stats_of
from tq.model import (
    NO_EFFECTS,
    Backoff,
    Deferred,
    Delivery,
    Effects,
    Ended,
    Ending,
    Failed,
    FlowRequest,
    Hold,
    Keep,
    Message,
    Outcome,
    Rearm,
    Receipt,
    Record,
    Released,
    Remove,
    Rescheduled,
    Settlement,
    Succeeded,
    Task,
    TaskStatus,
    attempts_left,
)
from tq.model.named import make
from tq.ports import Continuation

__all__ = ["Policy", "Said", "convicted", "done", "settle", "unknown"]

_REMOVE = Remove()
_NOTHING_ELSE = NO_EFFECTS[2:]
_RESERVED = frozenset(
    [
        "retry_count",
        "last_error",
        "last_error_stack",
        "failed_at",
        "result_dropped",
        "error",
        "ignored_reason",
        "ignored_at",
        "flow_generation",
        "flow_deadline",
    ]
)
UNKNOWN_DELAY_FIRST, UNKNOWN_DELAY_CAP = 1.0, 60.0


class Policy(NamedTuple):
    """What the executor's options, and the task's own, say about an ending."""

    retries: int = 0
    task_retries: int | None = None
    retry_after: float | None = None
    backoff: Backoff = Backoff()
    keep: Keep = Keep()


class Said(NamedTuple):
    """What the executor asked for along with its outcome."""

    children: Sequence[Message] = ()
    flows: Sequence[FlowRequest] = ()


_NOTHING_SAID = Said()


def settle(
    delivery: Delivery,
    outcome: Outcome,
    policy: Policy,
    now: float,
    task: Task[Any] | None = None,
    said: Said = _NOTHING_SAID,
    continuations: Sequence[Continuation] = (),
    noise: float = 0.0,
) -> Settlement:
    """Return how this delivery ends, and everything that is written along with it.

    `task` is given where somebody else is concerned: it carries a flow or an entity, or has started flows. Only then
    are the continuations asked, but for what children bring. `noise` in -1 … 1 spreads retries.
    """
    message = delivery.message
    ending, stats, final = _ending(delivery, outcome, policy, now, noise)
    meta = task.flow_meta if task is not None else None
    effects = NO_EFFECTS
    if final:
        record = policy.keep.record(message, delivery.fence, outcome, now, stats=stats, member=meta is not None)
        if record is not None:
            effects = Effects(records=(record,))
    if said.children:
        effects += Effects(messages=tuple(said.children))
        for continuation in continuations:
            effects += continuation.added(said.children, now)
    if task is not None and continuations:
        ended = Ended(
            task=task,
            outcome=outcome,
            final=final,
            now=now,
            keep=policy.keep,
            flows=tuple(said.flows),
            body=message.body,
            stats=stats,
        )
        for continuation in continuations:
            effects += continuation.follow(ended)
    return Settlement(Receipt(message.id, delivery.token), ending, effects, delivery.place, message)


def done(delivery: Delivery, record: Record | None) -> Settlement:
    """Return how a success ends that concerns nobody else: what `settle` says of most, without their being asked."""
    message, token, *_, place = delivery
    effects = NO_EFFECTS if record is None else make(Effects, ((), (record,), *_NOTHING_ELSE))
    return make(Settlement, (make(Receipt, (message.id, token)), _REMOVE, effects, place, message))


def _ending(
    delivery: Delivery, outcome: Outcome, policy: Policy, now: float, noise: float
) -> tuple[Ending, bytes, bool]:
    """Return how the message ends, its execution stats from now on, and whether this is the task's end."""
    message = delivery.message
    match outcome:
        case Succeeded():
            if outcome.dropped:
                return _REMOVE, dumps({**stats_of(message), "result_dropped": outcome.dropped}), True
            return _REMOVE, message.stats, True
        case Failed():
            if not outcome.final and attempts_left(message.attempt, policy.task_retries, policy.retries):
                delay = policy.backoff.delay(message.attempt, policy.retry_after, noise)
                stats = _failed_stats(message, outcome, {"retry_count": message.attempt + 1})
                return Rearm(now + delay, message.attempt + 1, stats), stats, False
            return _REMOVE, _failed_stats(message, outcome, _final_marks(message, outcome, now)), True
        case Rescheduled(delay):
            return Rearm(now + delay, message.attempt, message.stats), message.stats, False
        case Released():
            since = (delivery.unknown_since or now) if outcome.unknown else 0.0
            # Given back at once, it keeps its place. It was due when it was handed out, whatever the clock says here:
            # by one that is behind, a delay alone is over before it begins, and all is done again without a pause.
            run_at = max(now, message.run_at) + outcome.delay if outcome.delay else message.run_at
            return Rearm(run_at, message.attempt, message.stats, since), message.stats, False
        case Deferred(flow_id):
            return Hold(flow_id), message.stats, False
        case _:
            assert_never(outcome)


def _final_marks(message: Message, outcome: Failed, now: float) -> dict[str, Any]:
    marks: dict[str, Any] = {"retry_count": message.attempt, "failed_at": now}
    if outcome.status is TaskStatus.IGNORED:
        marks |= {"error": outcome.error, "ignored_reason": "unknown_executor", "ignored_at": now}
    return marks


def _failed_stats(message: Message, outcome: Failed, marks: Mapping[str, Any]) -> bytes:
    """Merge what the failure says into the stats; `meta` never touches the keys that tq keeps (D-60)."""
    stats = stats_of(message)
    stats |= {key: value for key, value in outcome.meta.items() if key not in _RESERVED}
    if outcome.error:
        stats["last_error"] = outcome.error
    if outcome.stack:
        stats["last_error_stack"] = outcome.stack
    return dumps({**stats, **marks})


def convicted(delivery: Delivery, max_crashes: int) -> bool:
    """Tell whether a task has brought down its worker too often to be run again (design 1.4).

    Only crashes while it ran alone count; with `max_crashes` 0 any crash does: the task runs at most once.
    """
    if max_crashes == 0:
        return delivery.crashes > 0
    return delivery.solo_crashes >= max_crashes


def unknown(delivery: Delivery, reason: str, now: float, grace: float) -> Released | Failed:
    """Decide about a task that this worker does not know: give it back, ever later, until `grace` is over (1.6)."""
    since = delivery.unknown_since or now
    waited = now - since
    if waited >= grace:
        text = f"{reason}; no worker knew it for {waited:.0f} s"
        return Failed(text, final=True, status=TaskStatus.IGNORED)
    delay = min(max(waited, UNKNOWN_DELAY_FIRST), UNKNOWN_DELAY_CAP)
    return Released(delay=delay, unknown=True, reason=reason)
