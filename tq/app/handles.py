"""Handles: what one may ask of one task, one flow, one queue, and of the dead letters, from anywhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tq.clock import Clock, seconds, to_datetime
from tq.codec import decode_body, loads
from tq.errors import (
    FlowStateError,
    InvalidInputError,
    MissingPortError,
    ResultNotKeptError,
    TaskCancelledError,
    TaskFailedError,
    UnknownFlowError,
    UnknownTaskError,
    WireError,
)
from tq.flow import Explanation, close_flows, explain, plan_redrive, reopened_row
from tq.ids import join_id
from tq.model import Batch, Effects, FlowState, Record, State, TaskStatus, Verdict, Whereabouts
from tq.ports import Backend, FlowBarrierProvider

__all__ = ["DeadLetter", "DeadLetters", "FlowHandle", "FlowStatus", "QueueHandle", "TaskHandle"]

FIRST_LOOK, LONGEST_LOOK = 0.02, 1.0


async def locate(backend: Backend, task_id: str) -> Whereabouts | None:
    """Return where a live task is, in either custody."""
    for part in _custodies(backend):
        if found := (await part.locate([task_id])).get(task_id):
            return found
    return None


def _custodies(backend: Backend) -> Sequence[Any]:
    return [backend.queue] if backend.atomic else [backend.store, backend.queue]


class Looker:
    """Looks again, ever less often, until something is there."""

    def __init__(self, clock: Clock, timeout: float | timedelta | None) -> None:
        self._clock = clock
        self._pause = FIRST_LOOK
        limit = None if timeout is None else seconds("timeout", timeout)
        self._until = math.inf if limit is None else clock.monotonic() + limit

    async def again(self, what: str) -> None:
        """Wait a little.

        Raises:
            TimeoutError: the time is up.
        """
        left = self._until - self._clock.monotonic()
        if left <= 0:
            raise TimeoutError(f"{what} has not ended in time")
        await self._clock.sleep(min(self._pause, left))
        self._pause = min(self._pause * 1.5, LONGEST_LOOK)


class TaskHandle:
    """One task, by id."""

    def __init__(self, backend: Backend, clock: Clock, task_id: str) -> None:
        self._backend = backend
        self._clock = clock
        self.id = task_id

    async def status(self) -> TaskStatus | None:
        """Return where the task stands; None when nothing is kept of it (`unknown`)."""
        live = await locate(self._backend, self.id)
        if live is not None:
            return TaskStatus.SCHEDULED if live.state is State.WAITING else TaskStatus.PROCESSING
        record = await self.record()
        return record.status if record is not None else None

    async def record(self) -> Record | None:
        """Return what is kept of the task's ending."""
        return (await self._backend.store.records([self.id])).get(self.id)

    async def result(self, timeout: float | timedelta | None = None) -> Any:
        """Wait for the task to end and return its result, as plain JSON values.

        Raises:
            TaskFailedError: it failed, expired, or no worker knew it; the message is its last error.
            TaskCancelledError: it was cancelled.
            ResultNotKeptError: it ended without its result being kept, or nothing was ever kept under this id.
            TimeoutError: it has not ended in time.
        """
        looker = Looker(self._clock, timeout)
        while True:
            live = await locate(self._backend, self.id)
            record = await self.record()
            if record is not None and (live is None or record.generation >= live.generation):
                return self._result_of(record)
            if live is None:
                raise ResultNotKeptError(self.id, f"nothing is kept of task {self.id}: set result_ttl or store_on_success")
            await looker.again(f"task {self.id}")

    def _result_of(self, record: Record) -> Any:
        if record.status is TaskStatus.EXECUTED:
            return None if record.result is None else loads(record.result)
        if record.status is TaskStatus.CANCELLED:
            raise TaskCancelledError(self.id, f"task {self.id} was cancelled")
        raise TaskFailedError(self.id, record.error or f"task {self.id} {record.status}")

    async def cancel(self) -> bool:
        """Ask the task to end: a waiting one ends unrun, a running one is cancelled, a held one ends with its flow.

        Returns:
            False when it is not live: it has ended, or never was.
        """
        live = await locate(self._backend, self.id)
        if live is None:
            return False
        if live.held_by:
            await close_flows(self._backend, [(live.held_by, Verdict.CANCELLED, "its task was cancelled")], self._clock.now())
            return True
        for part in _custodies(self._backend):
            if await part.cancel([self.id]):
                return True
        return False

    async def retry(self) -> None:
        """Run a failed task again, in a new generation.

        Raises:
            UnknownTaskError: no ending with a body is kept under this id.
        """
        if not await self._backend.store.revive([self.id], self._clock.now()):
            raise UnknownTaskError(self.id, f"task {self.id} has no dead letter that could be run again")


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowStatus:
    """How a flow stands."""

    id: str
    total: int
    succeeded: int
    failed: int
    remaining: int
    generation: int
    verdict: Verdict | None
    reason: str
    started_at: datetime
    deadline: datetime | None
    closed_at: datetime | None

    @classmethod
    def of(cls, state: FlowState) -> FlowStatus:
        flow = state.flow
        return cls(
            id=flow.id,
            total=flow.total,
            succeeded=state.succeeded,
            failed=state.failed,
            remaining=state.remaining,
            generation=flow.generation,
            verdict=state.verdict,
            reason=state.reason,
            started_at=to_datetime(flow.started_at),
            deadline=None if flow.deadline is None else to_datetime(flow.deadline),
            closed_at=None if state.closed_at is None else to_datetime(state.closed_at),
        )


class FlowHandle:
    """One flow, by id."""

    def __init__(self, backend: Backend, clock: Clock, flow_id: str) -> None:
        self._backend = backend
        self._clock = clock
        self.id = flow_id

    def _barrier(self) -> FlowBarrierProvider:
        if self._backend.barrier is None:
            raise MissingPortError("barrier", "a flow")
        return self._backend.barrier

    async def _state(self) -> FlowState:
        state = (await self._barrier().get([self.id])).get(self.id)
        if state is None:
            raise UnknownFlowError(self.id, f"no flow {self.id} is stored: never started, or forgotten by retention")
        return state

    async def status(self) -> FlowStatus:
        """Return how the flow stands.

        Raises:
            UnknownFlowError: nothing is stored under this id.
        """
        return FlowStatus.of(await self._state())

    async def wait(self, timeout: float | timedelta | None = None) -> FlowStatus:
        """Wait until the flow is decided and its join has ended; return how it stands.

        Raises:
            UnknownFlowError: nothing is stored under this id.
            TimeoutError: it has not ended in time.
        """
        looker = Looker(self._clock, timeout)
        while True:
            state = await self._state()
            if state.verdict is not None and state.confirmed:
                join = await locate(self._backend, join_id(self.id, state.flow.generation))
                if join is None:
                    return FlowStatus.of(state)
            await looker.again(f"flow {self.id}")

    async def join(self) -> TaskHandle:
        """Return the handle of the flow's join, in its present generation."""
        state = await self._state()
        return TaskHandle(self._backend, self._clock, join_id(self.id, state.flow.generation))

    async def cancel(self, reason: str = "cancelled") -> bool:
        """Close the flow now: its join runs and is told `cancelled`; members still open are cancelled.

        Returns:
            False when the flow was decided already.
        """
        await self._state()
        return bool(await close_flows(self._backend, [(self.id, Verdict.CANCELLED, reason)], self._clock.now()))

    async def redrive(self, timeout: float | timedelta | None = None) -> int:
        """Run the members that did not succeed again, and the join once more after them; return their number.

        Raises:
            UnknownFlowError: nothing is stored under this id.
            FlowStateError: the flow is still open, or every member succeeded.
        """
        state = await self._state()
        limit = None if timeout is None else seconds("timeout", timeout, zero=False)
        now = self._clock.now()
        reopen = plan_redrive(state, now, limit)
        row = reopened_row(state, now)
        effects = Effects(reopens=(reopen,), projections=row)
        await self._backend.commit(Batch(effects=[effects]))
        after = await self._state()
        if after.flow.generation != reopen.generation:
            raise FlowStateError(self.id, f"flow {self.id} was redriven by somebody else")
        return after.remaining

    async def explain(self) -> Explanation:
        """Say in words which members are missing, where each is, since when, and what happens next."""
        return await explain(self._backend, self.id, self._clock.now())


class QueueHandle:
    """One queue, by name."""

    def __init__(self, backend: Backend, name: str) -> None:
        self._backend = backend
        self.name = name

    async def pause(self) -> None:
        """Stop handing out its tasks, for every worker, until resumed; what runs goes on."""
        for part in _custodies(self._backend):
            await part.pause(self.name, True)

    async def resume(self) -> None:
        """Hand out its tasks again."""
        for part in _custodies(self._backend):
            await part.pause(self.name, False)

    async def paused(self) -> bool:
        """Tell whether the queue is paused."""
        return self.name in await self._backend.queue.paused()

    async def counts(self) -> dict[str, int]:
        """Return how many tasks are `waiting` (due), `delayed`, `running` and `held`."""
        total = {"waiting": 0, "delayed": 0, "running": 0, "held": 0}
        for part in _custodies(self._backend):
            for kind, count in (await part.counts()).get(self.name, {}).items():
                total[kind] = total.get(kind, 0) + count
        return total


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A task that ended for good without success; its body is kept."""

    task_id: str
    type: str
    queue_id: str
    status: TaskStatus
    error: str
    at: datetime
    attempt: int
    generation: int
    payload: object
    stats: dict[str, Any]
    raw: bytes | None
    """The bytes, where they could not be read as a task."""

    @classmethod
    def of(cls, record: Record) -> DeadLetter:
        payload: object = None
        raw = None
        if record.body is not None:
            try:
                payload = loads(decode_body(record.body)["payload"])
            except WireError:
                raw = record.body
        return cls(
            task_id=record.task_id,
            type=record.type,
            queue_id=record.queue,
            status=record.status,
            error=record.error or "",
            at=to_datetime(record.at),
            attempt=record.attempt,
            generation=record.generation,
            payload=payload,
            stats=loads(record.stats) if record.stats else {},
            raw=raw,
        )


class DeadLetters:
    """Tasks that failed for good: look at them, run them again, or let them go."""

    def __init__(self, backend: Backend, clock: Clock) -> None:
        self._backend = backend
        self._clock = clock

    async def list(
        self,
        *,
        queue: str | None = None,
        type: str | None = None,
        after: tuple[float, str] | None = None,
        limit: int = 100,
    ) -> list[DeadLetter]:
        """Return dead letters, newest first; `after` is the (at, task_id) of the last one seen."""
        records = await self._records(queue, type, after, limit)
        return [DeadLetter.of(record) for record in records]

    async def _records(
        self, queue: str | None, type: str | None, after: tuple[float, str] | None, limit: int
    ) -> Sequence[Record]:
        store = self._backend.store
        return await store.list_records(dead=True, queue=queue, type=type, after=after, limit=limit)

    async def replay(
        self,
        ids: Sequence[str] | str | None = None,
        *,
        queue: str | None = None,
        type: str | None = None,
        limit: int = 100,
    ) -> list[str]:
        """Run these, or at most `limit` of those that match, again; return the ids that will run.

        A replayed task is a new generation. It never reopens a flow: for that there is `flow(id).redrive()`.
        """
        chosen = await self._chosen(ids, queue, type, limit)
        return await self._backend.store.revive(chosen, self._clock.now())

    async def purge(
        self,
        ids: Sequence[str] | str | None = None,
        *,
        queue: str | None = None,
        type: str | None = None,
        limit: int = 100,
    ) -> list[str]:
        """Forget these, or at most `limit` of those that match; return the ids that are gone."""
        chosen = await self._chosen(ids, queue, type, limit)
        return await self._backend.store.forget(chosen)

    async def _chosen(
        self, ids: Sequence[str] | str | None, queue: str | None, type: str | None, limit: int
    ) -> Sequence[str]:
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:  # pyright: ignore[reportUnnecessaryIsInstance] -- users pass anything
            raise InvalidInputError("limit", limit, "give a whole number, 1 or more")
        if ids is not None:
            return [ids] if isinstance(ids, str) else list(ids)[:limit]
        return [record.task_id for record in await self._records(queue, type, None, limit)]
