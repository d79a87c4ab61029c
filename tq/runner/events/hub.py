"""The one hub through which everything is told that observers may hear.

`Events` makes a value only when some provider has the callback for it: a loop that settles tens of thousands of tasks a
second asks `wants_…` first. What a callback raises is logged, handed to `on_lifecycle_error`, and never raised here
(TLC-08, D-59).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, assert_never

from tq.clock import to_datetime
from tq.model import Delivery, FlowRequest, FlowState, Message, Verdict
from tq.model import events as told

from .notices import Notices
from .portrait import age_of, flow_request_fields, flow_state_fields
from .task_events import TaskEvents
from .worker_events import WorkerEvents

__all__ = ["Events"]


class Events(TaskEvents, WorkerEvents, Notices):
    """Tells the providers what happens: tasks and groups, worker and consumers, sums; here flows and messages.

    Every method returns quickly, except in mode "sync", where it returns once the callback has (TLC-09, D-56). In mode
    "async" each provider is told in order by a task of the spawner's; `flush` before that is closed.
    """

    # --- flows --------------------------------------------------------------------------------------------------------

    async def flow_started(self, request: FlowRequest) -> None:
        """Tell that a flow was started (FLC-01)."""
        if self._flows.wants("on_flow_started"):
            event = told.FlowStarted(
                **flow_request_fields(request, self.worker.worker_id),
                started_at=to_datetime(self._clock.now()),
                step_types=tuple(member.type for member in request.members),
            )
            await self._flows.tell("on_flow_started", event)

    async def flow_closed(self, state: FlowState) -> None:
        """Tell how a flow was decided (FLC-02 … FLC-04), and of its join; an open one is not told of."""
        if state.verdict is None:
            return
        if self.wants_flows:
            await self._verdict(state, state.verdict)
        await self.messages_added([state.flow.join])

    async def _verdict(self, state: FlowState, verdict: Verdict) -> None:
        fields = flow_state_fields(state, self.worker.worker_id)
        closed_at = self._clock.now() if state.closed_at is None else state.closed_at
        duration = max(closed_at - (state.opened_at or state.flow.started_at), 0.0)
        ended = state.succeeded + state.failed
        match verdict:
            case Verdict.COMPLETED:
                completed = told.FlowCompleted(
                    **fields, duration=duration, steps_succeeded=state.succeeded, steps_failed=state.failed
                )
                await self._flows.tell("on_flow_completed", completed)
            case Verdict.ABORTED:
                aborted = told.FlowAborted(
                    **fields, duration=duration, steps_completed=ended, trigger_step_index=state.trigger
                )
                await self._flows.tell("on_flow_aborted", aborted)
            case Verdict.TIMED_OUT:
                timed_out = told.FlowTimedOut(**fields, duration=duration, steps_completed=ended)
                await self._flows.tell("on_flow_timed_out", timed_out)
            case Verdict.CANCELLED:
                cancelled = told.FlowCancelled(**fields, duration=duration, steps_completed=ended, reason=state.reason)
                await self._flows.tell("on_flow_cancelled", cancelled)
            case _:
                assert_never(verdict)

    # --- messages and those who consume them --------------------------------------------------------------------------

    async def messages_added(self, messages: Sequence[Message]) -> None:
        """Tell of tasks that nobody handed in at the door, as if somebody had (TLC-01, QLC-02)."""
        if self.wants_added:
            await self.task_scheduled(messages)
            await self.message_published(messages)

    def _provider_of(self, queue: str) -> str:
        return self._provider if isinstance(self._provider, str) else self._provider(queue)

    async def message_published(self, messages: Sequence[Message]) -> None:
        """Tell of each message that was added (QLC-02)."""
        if self.wants_published:
            for message in messages:
                event = told.MessagePublished(
                    queue_id=message.queue,
                    provider=self._provider_of(message.queue),
                    message_type=message.type,
                    message_id=message.id,
                    size_bytes=len(message.body),
                )
                await self._queues.tell("on_message_published", event)

    async def message_consumed(self, deliveries: Sequence[Delivery]) -> None:
        """Tell of each message that was handed out, before it runs (QLC-03)."""
        if self.wants_consumed:
            now = self._clock.now()
            for delivery in deliveries:
                message = delivery.message
                event = told.MessageConsumed(
                    queue_id=message.queue,
                    provider=self._provider_of(message.queue),
                    message_type=message.type,
                    message_id=message.id,
                    size_bytes=len(message.body),
                    age=age_of(delivery, now),
                )
                await self._queues.tell("on_message_consumed", event)

    async def consumer_connected(
        self,
        queue: str,
        consumer_id: str,
        *,
        consumer_type: Literal["worker", "shard"] = "worker",
        shard_id: str | None = None,
        parent_consumer_id: str | None = None,
    ) -> None:
        """Tell that a consumer listens to a queue; once until it is disconnected (QLC-04)."""
        if (queue, consumer_id) in self._connected:
            return
        event = self._connected[queue, consumer_id] = told.ConsumerConnected(
            consumer_id=consumer_id,
            consumer_type=consumer_type,
            queue_id=queue,
            provider=self._provider_of(queue),
            shard_id=shard_id,
            parent_consumer_id=parent_consumer_id,
        )
        await self._queues.tell("on_consumer_connected", event)

    async def consumer_disconnected(self, queue: str, consumer_id: str, reason: str = "shutdown") -> None:
        """Tell that a consumer listens no more, if it did (QLC-05)."""
        connected = self._connected.pop((queue, consumer_id), None)
        if connected is not None:
            event = told.ConsumerDisconnected(
                consumer_id=consumer_id,
                consumer_type=connected.consumer_type,
                queue_id=queue,
                provider=connected.provider,
                shard_id=connected.shard_id,
                parent_consumer_id=connected.parent_consumer_id,
                reason=reason,
            )
            await self._queues.tell("on_consumer_disconnected", event)

    async def consumer_checkpoint(
        self, queue: str, consumer_id: str, shard_id: str, checkpoint: str, records_since_last: int
    ) -> None:
        """Tell that the consumer of a stream has noted its place (QLC-06)."""
        event = told.ConsumerCheckpoint(
            queue_id=queue,
            consumer_id=consumer_id,
            provider=self._provider_of(queue),
            shard_id=shard_id,
            checkpoint=checkpoint,
            records_since_last=records_since_last,
        )
        await self._queues.tell("on_consumer_checkpoint", event)
