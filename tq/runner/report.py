"""Tell observers what happened, once it is true: outcomes are reported after the hop that wrote them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from tq.clock import Clock
from tq.codec import loads
from tq.model import (
    SUCCEEDED,
    Delivery,
    Failed,
    FlowRequest,
    FlowState,
    Hop,
    Outcome,
    Rearm,
    Released,
    Remove,
    Rescheduled,
    Settlement,
    Succeeded,
    TaskStatus,
)
from tq.runner.commit import Pending
from tq.runner.events import Events
from tq.runner.execution import Execution

__all__ = ["Reporter", "warn_of_another_plan"]

log = logging.getLogger("tq.worker")


class _Round:
    """The deliveries of one queue in one hop, until the last of them has ended (WLC-05)."""

    __slots__ = ("failed", "left", "size", "started_at", "succeeded")

    def __init__(self, size: int, started_at: float) -> None:
        self.size = self.left = size
        self.succeeded = self.failed = 0
        self.started_at = started_at


class Reporter:
    """Turns written settlements into events and counts."""

    def __init__(self, events: Events, clock: Clock) -> None:
        self._events = events
        self._clock = clock
        self._rounds: dict[tuple[str, str], _Round] = {}
        """By (token, queue)."""
        self._seen: set[str] = set()

    async def consumed(self, deliveries: Sequence[Delivery], consumer_id: Callable[[str], str]) -> None:
        """Deliveries have arrived."""
        events = self._events
        if events.wants_queue:
            await events.message_consumed(deliveries)
        for queue in {delivery.message.queue for delivery in deliveries} - self._seen:
            self._seen.add(queue)
            await events.consumer_seen(queue, consumer_id(queue))
        if not events.wants_batches:
            return
        by_queue: dict[str, list[Delivery]] = {}
        for delivery in deliveries:
            by_queue.setdefault(delivery.message.queue, []).append(delivery)
        for queue, group in by_queue.items():
            consumer = consumer_id(queue)
            types = list(dict.fromkeys(delivery.message.type for delivery in group))
            await events.batch_started(queue, consumer, len(group), types)
            self._rounds[group[0].token, queue] = _Round(len(group), self._clock.monotonic())

    async def handed_over(self, execution: Execution, token: str) -> None:
        """A long task leaves its slot, and with it the round that `token` brought."""
        self._events.count(execution.delivery.message.queue, execution.consumer_id, async_=1)
        await self._round_ended(execution, token)

    async def lost(self, executions: Sequence[Execution]) -> None:
        """Other workers have these now: nothing is told of them, but the rounds that brought them go on."""
        for execution in executions:
            await self._round_ended(execution, execution.delivery.token)

    async def written(self, pending: Sequence[Pending], hop: Hop) -> None:
        """These settlements are written, but for those that the hop refused."""
        refused = set(hop.refused)
        known = {state.id: state for state in hop.known}
        counts: dict[tuple[str, str], int] = {}
        queues: dict[str, str] = {}
        discarded = 0
        events = self._events
        each = events.wants_settled or events.wants_flows or events.wants_added or bool(self._rounds)
        for item in pending:
            execution, outcome = item.execution, item.outcome
            if execution is None or outcome is None:
                continue
            if refused and item.settlement.receipt in refused:
                await self.lost([execution])
                continue
            consumer = execution.consumer_id
            if consumer not in queues:
                queues[consumer] = execution.delivery.message.queue
            if outcome is SUCCEEDED:
                key = consumer, "success"
            else:
                key = consumer, _kind(outcome)
                discarded += isinstance(outcome, Failed) and _discarded(item.settlement)
            counts[key] = counts.get(key, 0) + 1
            if each:
                try:
                    await self._ended(execution, outcome, item.settlement, hop)
                except Exception:  # who is told may not end who works
                    log.exception("the ending of task %s cannot be told", execution.id)
            if execution.attempt is not None and execution.attempt.flows:
                await self._started(execution.attempt.flows, item.settlement, known)
        if hop.duplicates:  # as repeated children are, which bear derived ids; of given ids somebody may want to know
            log.info("not added again, the ids are taken: %s", ", ".join(hop.duplicates[:20]))
        if discarded:
            await events.tasks_discarded(discarded)
        for (consumer, kind), count in counts.items():
            if kind:
                events.count(queues[consumer], consumer, **{kind: count})
        for state in hop.closed:
            await events.flow_closed(state)

    async def _ended(self, execution: Execution, outcome: Outcome, settlement: Settlement, hop: Hop) -> None:
        events, ending = self._events, settlement.ending
        if events.wants_settled and not isinstance(outcome, Released | Rescheduled):
            await events.task_settled(
                execution.told_task,
                outcome,
                will_retry=isinstance(ending, Rearm),
                next_attempt_at=ending.run_at if isinstance(ending, Rearm) else None,
                started_at=execution.started_at,
                now=self._clock.now(),
            )
        if events.wants_added and settlement.effects.messages:
            added = settlement.effects.without_flows({state.id for state in hop.known}).messages
            await events.messages_added([it for it in added if it.id not in hop.duplicates])
        if self._rounds:
            success, failed = isinstance(outcome, Succeeded), isinstance(outcome, Failed)
            await self._round_ended(execution, execution.delivery.token, success=success, failed=failed)

    async def _started(
        self, asked: Mapping[str, FlowRequest], settlement: Settlement, known: Mapping[str, FlowState]
    ) -> None:
        for flow in settlement.effects.flows:  # an attempt that ends without an outcome starts nothing
            if flow.id in asked and flow.id in known:
                warn_of_another_plan(asked[flow.id], known[flow.id])
            elif flow.id in asked and self._events.wants_flows:
                await self._events.flow_started(asked[flow.id])

    async def _round_ended(
        self, execution: Execution, token: str, *, success: bool = False, failed: bool = False
    ) -> None:
        queue = execution.delivery.message.queue
        current = self._rounds.get((token, queue))
        if current is None:
            return
        current.left -= 1
        current.succeeded += success
        current.failed += failed
        if current.left <= 0:
            del self._rounds[token, queue]
            duration = self._clock.monotonic() - current.started_at
            await self._events.batch_completed(
                queue, execution.consumer_id, current.size, current.succeeded, current.failed, duration
            )


def warn_of_another_plan(request: FlowRequest, known: FlowState) -> None:
    """Say so where a flow that is there already was to be started with another plan (D-52)."""
    told = cast("Mapping[str, Any]", loads(known.flow.meta) if known.flow.meta else {})
    if told.get("digest") != request.digest:
        log.warning("flow %s was started already, with another plan; nothing changes", request.id)


def _kind(outcome: Outcome) -> str:
    """Return under which name an outcome is counted; "" for one that ends nothing."""
    if isinstance(outcome, Succeeded):
        return "success"
    if isinstance(outcome, Failed):
        return "ignored" if outcome.status is TaskStatus.IGNORED else "failed"
    return ""


def _discarded(settlement: Settlement) -> bool:
    """Tell whether nothing is kept of a task that failed for good (NTP-04)."""
    return isinstance(settlement.ending, Remove) and not settlement.effects.records
