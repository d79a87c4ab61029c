"""The door for tasks: from what a producer wrote to messages that every worker can read.

Used by the handler, and by executors through their actions: a child passes the same checks as any other task.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, cast

from tq.clock import Clock, seconds
from tq.codec import loads, message_of
from tq.errors import InvalidInputError, MissingPortError, PayloadError
from tq.flow import stream_results
from tq.ids import child_id, is_new, names_member, new_id
from tq.logcontext import check_log_context, merge
from tq.model import FlowStep, Join, Member, Message, Task
from tq.model.named import make
from tq.model.task import amended
from tq.ports import FlowBarrierProvider
from tq.runner.door import MAX_PAYLOAD, MAX_RESULT, dump_plain
from tq.runner.registry import Registration, TaskQueuesManager

__all__ = ["Intake"]

log = logging.getLogger("tq.intake")


class Intake:
    """Checks tasks and steps against what is registered, and makes messages of them."""

    def __init__(
        self, executors: TaskQueuesManager, clock: Clock, worker_id: str, barrier: FlowBarrierProvider | None
    ) -> None:
        self._executors = executors
        self._clock = clock
        self._worker_id = worker_id
        self._barrier = barrier
        self._announced: frozenset[str] = frozenset()

    @property
    def worker_id(self) -> str:
        return self._worker_id

    def heard_of(self, queues: Iterable[str]) -> None:
        """Remember which queues live workers serve, and have served: while one is replaced its tasks are welcome."""
        self._announced |= frozenset(queues)

    def knows_queue(self, queue: str) -> bool:
        """Tell whether a queue is registered, declared or announced; a producer that knows none cannot judge."""
        known = self._executors.get_queues()
        return queue in known or queue in self._announced or not (known or self._announced)

    def check_queue(self, field: str, queue: str) -> None:
        """Refuse a queue that nobody is known to serve.

        Raises:
            InvalidInputError: names the queues that are known.
        """
        if not self.knows_queue(queue):
            known = ", ".join(sorted({*self._executors.get_queues(), *self._announced}))
            way_out = f"register an executor for it, or declare it by executors.queue({queue!r}); known are: {known}"
            raise InvalidInputError(field, queue, way_out)

    # --- tasks ----------------------------------------------------------------------------------------------------

    def accept(self, task: Task[Any], field: str = "task") -> Message:
        """Check a producer's task; return its message, with an id if it had none, and the instant of its making.

        Raises:
            InvalidInputError: a field is refused.
        """
        payload, said = self._checked(task, field)
        now = self._clock.now()
        if not task.id:
            said["id"] = new_id(now)
        return _message(task, payload, now, said)

    def _checked(self, task: Task[Any], field: str) -> tuple[bytes, dict[str, Any]]:
        """Return the JSON of a task's payload, and what its body says otherwise than the task does."""
        if not isinstance(task, Task):  # pyright: ignore[reportUnnecessaryIsInstance] -- users pass anything
            raise InvalidInputError(field, task, "give a Task")
        if "." in task.id and names_member(task.id):
            way_out = "give another id: this names a step or a join of a flow; redrive the flow, or retry that task"
            raise InvalidInputError("id", task.id, way_out)
        said: dict[str, Any] = {}
        if task.id and is_new(task.id):
            said["given"] = True
        if task.created_at is None:
            said["created_at"] = self._clock.now()
        if task.metadata:
            said["metadata"] = self._metadata(task)
        self.check_queue("queue_id", task.queue_id)
        registration = self._executors.get_executor(task.queue_id, task.type)
        payload = _payload(registration, task.payload)
        if registration is not None and registration.keyed and (key := registration.partition_key(task, payload)):
            said["partition_key"] = key
        if task.execution_stats:
            said["stats"] = _plain(task.execution_stats, "execution_stats")
        return payload, said

    def _metadata(self, task: Task[Any]) -> Mapping[str, Any]:
        """Check the metadata of a task, its log context above all (LOG-10 … LOG-12, ADD-15).

        A task that claimed to be a member of a flow would count for that flow in the member's place.
        """
        if "flow_meta" in task.metadata:
            way_out = (
                "leave it out: tq writes it for the members of flows; a task made from one needs metadata of its own"
            )
            raise InvalidInputError("metadata.flow_meta", task.metadata["flow_meta"], way_out)
        if (given := task.metadata.get("log_context")) is None:
            return _plain(task.metadata, "metadata")
        checked = self.log_context(given, "metadata.log_context", f"task {task.id or task.type}")
        rest = {key: value for key, value in task.metadata.items() if key != "log_context"}
        return _plain(rest if checked is None else {**rest, "log_context": dict(checked)}, "metadata")

    def log_context(self, given: object, field: str, whose: str) -> Mapping[str, str] | None:
        """Check a log context; warn of what is left out of it.

        Raises:
            InvalidInputError: it is no mapping of strings to strings.
        """
        checked, warnings = check_log_context(given, field)
        for warning in warnings:
            log.warning("%s: %s", whose, warning)
        return checked

    # --- what executors ask for -----------------------------------------------------------------------------------

    def child(self, task: Task[Any], parent: Task[Any], occurrences: dict[bytes, int], *, inherit: bool) -> Message:
        """Check a child; its id is derived from the parent and what it is, so that a repetition adds nothing."""
        if not isinstance(task, Task):  # pyright: ignore[reportUnnecessaryIsInstance] -- users pass anything
            raise InvalidInputError("tasks", task, "give Tasks")
        if inherit and parent.log_context:
            context = merge(parent.log_context, task.log_context)
            task = amended(task, metadata={**task.metadata, "log_context": dict(context)})
        if task.id == parent.id:
            raise InvalidInputError("id", task.id, "call actions.reschedule(delay) to run the same task again")
        payload, said = self._checked(task, "tasks")
        if not task.id:
            kind = b"%b\0%b\0%b" % (_encoded(task, "type"), _encoded(task, "queue_id"), payload)
            occurrence = occurrences.get(kind, 0)
            occurrences[kind] = occurrence + 1
            said["id"] = child_id(
                parent.id, parent.born, parent.generation, task.type, task.queue_id, payload, occurrence
            )
        return _message(task, payload, self._clock.now(), said)

    def member(self, step: FlowStep) -> Member:
        """Check a step of a flow."""
        registration = self._executors.get_executor(step.queue, step.type)
        if registration is None:
            self.check_queue("step.queue", step.queue)
        payload = _payload(registration, step.payload)
        key = step.partition_key
        if registration is not None and registration.keyed:
            as_task = Task[Any](type=step.type, queue_id=step.queue, entity=step.entity)
            key = registration.partition_key(as_task, payload) or key
        wait = None if step.retry_after is None else seconds("step.retry_after", step.retry_after)
        # orjson writes into a page that it then cuts: kept as it is, a hundred thousand of them hold 400 MB.
        payload = bytes(memoryview(payload))
        return make(Member, (step.type, step.queue, payload, step.entity, step.retries, wait, key))

    def check_join(self, join: Join) -> None:
        """Refuse a flow that could never join (D-49)."""
        if self._barrier is None:
            raise MissingPortError("barrier", "start_flow")
        self.check_queue("join.queue", join.queue)
        if join.queue in self._executors.served_queues() and not self._executors.get_executor(join.queue, join.type):
            log.warning("no executor is registered here for the join %r on queue %r", join.type, join.queue)

    def flow_results(self, task: Task[Any]) -> AsyncIterator[Mapping[str, Any]]:
        """Stream the entries of the flow that `task` joins."""
        if self._barrier is None:
            raise MissingPortError("barrier", "flow_results")
        return (entry._asdict() async for entry in stream_results(self._barrier, task))


def _plain(values: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    """Return what a consumer will see of these values: plain JSON."""
    return cast("Mapping[str, Any]", loads(dump_plain(dict(values), field, MAX_RESULT)))


def _payload(registration: Registration | None, payload: object) -> bytes:
    if registration is None:
        return dump_plain(payload, "payload", MAX_PAYLOAD)
    return registration.shape.dump(payload, "payload")


def _message(task: Task[Any], payload: bytes, now: float, said: Mapping[str, Any]) -> Message:
    try:
        return message_of(task, payload, now, **said)
    except PayloadError as error:
        written = amended(task, partition_key=said.get("partition_key", task.partition_key))
        for name in ("id", "type", "queue_id", "partition_key", "task_group", "task_hash"):
            _encoded(written, name)
        raise InvalidInputError("task", error.value, error.way_out) from error


def _encoded(task: Task[Any], name: str) -> bytes:
    """Return the text of a field as it is written; refuse what cannot be, by the name of the field."""
    text: str = getattr(task, name) or ""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(name, text, f"give text that is UTF-8: {error.reason}") from error
