"""One task."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal

from tq.clock import Clock
from tq.codec import loads
from tq.errors import ResultNotKeptError, TaskCancelledError, TaskFailedError, UnknownTaskError
from tq.flow import close_flows
from tq.model import Record, State, TaskStatus, Verdict
from tq.ports import Backend

from .looking import Looker, Told, custodies, locate
from .reviving import revive

__all__ = ["TaskHandle"]


class TaskHandle:
    """One task, by id."""

    def __init__(self, backend: Backend, clock: Clock, task_id: str, told: Told) -> None:
        self._backend = backend
        self._clock = clock
        self._told = told
        self.id = task_id

    async def status(self) -> TaskStatus | Literal["unknown"]:
        """Return where the task stands; "unknown" when it is not live and nothing is kept of it."""
        live = await locate(self._backend, self.id)
        if live is not None:
            return TaskStatus.SCHEDULED if live.state is State.WAITING else TaskStatus.PROCESSING
        record = await self.record()
        return record.status if record is not None else "unknown"

    async def record(self) -> Record | None:
        """Return what is kept of the task's ending."""
        return (await self._backend.store.records([self.id])).get(self.id)

    async def result(self, timeout: float | timedelta | None = None) -> Any:
        """Wait for the task to end and return its result, as plain JSON values.

        Raises:
            TaskFailedError: it failed, expired, or no worker knew it; the message is its last error.
            TaskCancelledError: it was cancelled.
            ResultNotKeptError: it ended without its result being kept, its result could not be written or was too
                large, or nothing was ever kept under this id.
            TimeoutError: it has not ended in time.
        """
        looker = Looker(self._clock, timeout)
        while True:
            live = await locate(self._backend, self.id)
            record = await self.record()
            if record is not None and (live is None or record.generation >= live.generation):
                return self._result_of(record)
            if live is None:
                raise ResultNotKeptError(
                    self.id, f"nothing is kept of task {self.id}: set result_ttl or store_on_success"
                )
            await looker.again(f"task {self.id}")

    def _result_of(self, record: Record) -> Any:
        if record.status is TaskStatus.EXECUTED:
            if record.result is not None:
                return loads(record.result)
            dropped = loads(record.stats).get("result_dropped") if record.stats else None
            if dropped:
                raise ResultNotKeptError(self.id, f"task {self.id} succeeded, its result was dropped: {dropped}")
            return None
        if record.status is TaskStatus.CANCELLED:
            raise TaskCancelledError(self.id, f"task {self.id} was cancelled")
        raise TaskFailedError(self.id, record.error or f"task {self.id} {record.status}")

    async def cancel(self) -> bool:
        """Ask the task to end: a waiting one ends unrun, a running one is cancelled, a held one with its flow.

        It ends when a worker takes it in hand: where no worker serves its queue, or the queue is paused, not before
        one does, and it is resumed.

        Returns:
            False when it is too late: it has ended, or never was, or its flow is decided and about to end it.
        """
        live = await locate(self._backend, self.id)
        if live is None:
            return False
        if live.held_by:
            verdict = (live.held_by, Verdict.CANCELLED, "its task was cancelled")
            for state in await close_flows(self._backend, [verdict], self._clock.now()):
                await self._told(state)
            return await self._is_cancelled(live.held_by)
        for part in custodies(self._backend):
            if await part.cancel([self.id]):
                return True
        return False

    async def _is_cancelled(self, flow_id: str) -> bool:
        barrier = self._backend.barrier
        state = None if barrier is None else (await barrier.get([flow_id])).get(flow_id)
        return state is not None and state.verdict is Verdict.CANCELLED

    async def retry(self) -> None:
        """Run a failed task again, in a new generation.

        Raises:
            UnknownTaskError: no ending with a body is kept under this id.
        """
        if not await revive(self._backend, [self.id], self._clock.now()):
            raise UnknownTaskError(self.id, f"task {self.id} has no dead letter that could be run again")
