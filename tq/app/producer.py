"""The producing half of a handler: checked tasks and flows are written in one step per server."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from tq.app.intake import Intake
from tq.clock import Clock
from tq.errors import AddTasksError, BackendError, InvalidInputError
from tq.flow import plan_flow, split_wide
from tq.ids import join_id, step_id
from tq.model import Batch, Effects, FlowRequest, Hop, Message, Task
from tq.ports import Backend
from tq.projection import ProjectionFold
from tq.runner.door import listed
from tq.runner.events import Events
from tq.runner.report import warn_of_another_plan

__all__ = ["Producer"]

log = logging.getLogger("tq")

FORMER = 60.0
"""Seconds after which an ending is not one of a flow that another producer begins at this very moment."""
GENERATIONS = 20
PAGE = 1000


class Producer:
    """Writes what the door has let in."""

    def __init__(
        self,
        backend: Backend,
        *,
        clock: Clock,
        intake: Intake,
        events: Events,
        fold: ProjectionFold,
    ) -> None:
        self._backend = backend
        self._clock = clock
        self._intake = intake
        self._events = events
        self._fold = fold

    async def hear(self) -> None:
        """Learn which queues live workers serve."""
        self._intake.heard_of(await self._backend.queue.announced())

    async def accept(self, tasks: Iterable[Task[Any]]) -> list[Message]:
        """Check every task before anything is written.

        Raises:
            InvalidInputError: the only task is refused, or what was given holds no tasks at all.
            AddTasksError: one of several is.
        """
        tasks = listed("tasks", tasks, "give a list of tasks")
        if not all(map(self._intake.knows_queue, {getattr(task, "queue_id", "") for task in tasks})):
            await self.hear()
        accepted: list[Message] = []
        failed: dict[str, Exception] = {}
        for index, task in enumerate(tasks):
            try:
                accepted.append(self._intake.accept(task, f"tasks[{index}]"))
            except InvalidInputError as error:
                if len(tasks) == 1:
                    raise
                failed[getattr(task, "id", "") or f"tasks[{index}]"] = error
        if failed:
            raise AddTasksError(failed, 0)
        return accepted

    def check_connection(self, connection: object) -> None:
        """Refuse a connection that the backend could not write through.

        Raises:
            InvalidInputError: it takes none.
        """
        if connection is not None and not self._backend.enlists:
            way_out = (
                f"leave it out: {self._backend.name} cannot write within a transaction of yours; PostgreSQL and SQLite"
                " can, where queue and store are one database"
            )
            raise InvalidInputError("connection", connection, way_out)

    async def add(self, accepted: Sequence[Message], connection: object = None) -> tuple[Message, ...]:
        """Write accepted tasks with their rows; return their messages. Of several with one id the first counts.

        Raises:
            InvalidInputError: the connection is none that the backend takes.
            AddTasksError: the server refuses, or cannot be reached.
        """
        messages = tuple(accepted)
        if twice := len(messages) - len({message.id for message in messages}):
            log.warning("%d of the tasks not added: another of the same call has the id", twice)
            first: dict[str, Message] = {}
            for message in messages:
                first.setdefault(message.id, message)
            messages = tuple(first.values())
        await self._events.task_scheduled(messages)
        effects = Effects(messages=messages, projections=self._fold.scheduled_rows(messages, self._clock.now()))
        try:
            hop = await self._commit(effects, connection)
        except BackendError as error:
            raise AddTasksError({message.id: error for message in messages}, 0) from error
        if hop.duplicates:
            log.warning("not added again, the ids are taken: %s", ", ".join(hop.duplicates[:20]))
        await self._events.message_published([message for message in messages if message.id not in hop.duplicates])
        return messages

    async def start(self, request: FlowRequest, connection: object = None) -> tuple[Message, ...]:
        """Write a flow: the chunks of a wide plan first, then, in one step, what makes it real."""
        effects = plan_flow(request, now=self._clock.now(), origin=None, parent=None)
        parts, seal = split_wide(effects)
        for part in parts:
            await self._commit(part, connection)
            await self._clock.sleep(0)
        await self._events.task_scheduled(seal.messages)
        hop = await self._commit(seal, connection)
        for state in hop.known:
            warn_of_another_plan(request, state)
        if hop.known:
            return ()
        await self._events.flow_started(request)
        await self._events.message_published([it for it in seal.messages if it.id not in hop.duplicates])
        for state in hop.closed:
            await self._events.flow_closed(state)
        return seal.messages

    async def forget_former(self, request: FlowRequest) -> None:
        """Drop what is still kept of an earlier flow of the same id, if that flow itself is forgotten.

        Its members and its join bore the ids of those that begin now: their endings would stand for these.
        """
        barrier, store = self._backend.barrier, self._backend.store
        if barrier is None or request.id in await barrier.get([request.id]):
            return
        before = self._clock.now() - FORMER
        ids = [join_id(request.id, generation) for generation in range(GENERATIONS)]
        ids += [step_id(request.id, index) for index in range(len(request.members))]
        for start in range(0, len(ids), PAGE):
            kept = await store.records(ids[start : start + PAGE])
            if old := [record.task_id for record in kept.values() if record.at < before]:
                await store.forget(old)

    async def _commit(self, effects: Effects, connection: object) -> Hop:
        batch = Batch(effects=[effects])
        if connection is None:
            return await self._backend.commit(batch)
        return await self._backend.commit_within(connection, batch)
