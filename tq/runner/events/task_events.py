"""What is told of tasks, and of the groups that multi executors take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict, assert_never

from tq.clock import to_datetime
from tq.codec import decode_body, loads, task_of
from tq.errors import WireError
from tq.model import MISSING, Deferred, Failed, Message, Outcome, Released, Rescheduled, Succeeded, Task, TaskStatus
from tq.model import events as told
from tq.model.task import amended

from .observers import Observers
from .portrait import TaskFields, error_of, task_fields, timing, utc

__all__ = ["TaskEvents"]


class GroupFields(TypedDict):
    """What the two events of a group have in common."""

    task_type: str
    queue_id: str
    tasks: tuple[told.TaskContext, ...]
    worker_id: str
    consumer_id: str


class TaskEvents(Observers):
    """Tells the task provider."""

    def _context(self, task: Task[Any]) -> TaskFields:
        return task_fields(
            task,
            worker_id=self.worker.worker_id,
            consumer_id=self._consumer_of.get(task.queue_id, ""),
            default_retries=self._default_retries(task.queue_id, task.type) if self._default_retries else 0,
            include_payload=self._include_payload,
        )

    async def task_scheduled(self, messages: Sequence[Message]) -> None:
        """Tell that tasks were accepted, children, steps and joins too (TLC-01, AAC-10).

        A producer's are told before they are handed to a queue that runs them at once (D-39).
        """
        if self.wants_scheduled:
            for message in messages:
                await self._tasks.tell("on_task_scheduled", told.TaskScheduled(**self._context(self._task_of(message))))

    def _task_of(self, message: Message) -> Task[Any]:
        body = decode_body(message.body)
        try:
            payload = loads(body["payload"]) if self._include_payload else None
        except WireError:
            payload = None
        task: Task[Any] = task_of(body, None, payload)
        return amended(task, id=message.id, generation=message.generation, attempt=message.attempt)

    async def task_started(self, task: Task[Any], started_at: float) -> None:
        """Tell that an attempt is about to run (TLC-02)."""
        if self.wants_started:
            queued = timing(task, started_at, started_at).queued_duration
            event = told.TaskStarted(**self._context(task), started_at=to_datetime(started_at), queued_duration=queued)
            await self._tasks.tell("on_task_started", event)

    async def task_settled(
        self,
        task: Task[Any],
        outcome: Outcome,
        *,
        will_retry: bool,
        next_attempt_at: float | None,
        started_at: float,
        now: float,
    ) -> None:
        """Tell how an attempt ended; what was rescheduled, deferred or released has not ended (TLC-03 … TLC-06, D-57).

        A final failure is told twice: as failed, then as exhausted. A cancelled task is cancelled and nothing else.
        """
        if not self.wants_settled:
            return
        match outcome:
            case Succeeded(result):
                if self._tasks.wants("on_task_completed"):
                    value = MISSING if result is None else loads(result)
                    event = told.TaskCompleted(
                        **self._context(task), timing=timing(task, started_at, now), result=value
                    )
                    await self._tasks.tell("on_task_completed", event)
            case Failed(status=TaskStatus.CANCELLED):
                cancelled = told.TaskCancelled(
                    **self._context(task), timing=timing(task, started_at, now), reason=outcome.error
                )
                await self._tasks.tell("on_task_cancelled", cancelled)
            case Failed():
                context, times, error = self._context(task), timing(task, started_at, now), error_of(outcome)
                failed = told.TaskFailed(
                    **context,
                    timing=times,
                    error=error,
                    will_retry=will_retry,
                    next_attempt_at=utc(next_attempt_at) if will_retry else None,
                )
                await self._tasks.tell("on_task_failed", failed)
                if not will_retry:
                    attempts = task.attempt + 1
                    exhausted = told.TaskExhausted(**context, timing=times, error=error, total_attempts=attempts)
                    await self._tasks.tell("on_task_exhausted", exhausted)
            case Rescheduled() | Deferred() | Released():
                pass
            case _:
                assert_never(outcome)

    async def task_batch_started(
        self, task_type: str, queue_id: str, tasks: Sequence[Task[Any]], started_at: float
    ) -> None:
        """Tell that a multi executor is about to run (BLC-01)."""
        if self.wants_groups:
            event = told.TaskBatchStarted(**self._group(task_type, queue_id, tasks), started_at=to_datetime(started_at))
            await self._tasks.tell("on_task_batch_started", event)

    async def task_batch_completed(
        self,
        task_type: str,
        queue_id: str,
        tasks: Sequence[Task[Any]],
        succeeded: Sequence[str],
        failed: Sequence[str],
        duration: float,
    ) -> None:
        """Tell that a multi executor has run; `succeeded` and `failed` are ids (BLC-02)."""
        if self.wants_groups:
            group = self._group(task_type, queue_id, tasks)
            event = told.TaskBatchCompleted(
                **group, succeeded=tuple(succeeded), failed=tuple(failed), duration=duration
            )
            await self._tasks.tell("on_task_batch_completed", event)

    def _group(self, task_type: str, queue_id: str, tasks: Sequence[Task[Any]]) -> GroupFields:
        return {
            "task_type": task_type,
            "queue_id": queue_id,
            "tasks": tuple(told.TaskContext(**self._context(task)) for task in tasks),
            "worker_id": self.worker.worker_id,
            "consumer_id": self._consumer_of.get(queue_id, ""),
        }
