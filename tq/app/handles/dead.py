"""The dead letters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tq.clock import Clock, to_datetime
from tq.codec import decode_body, loads
from tq.errors import WireError
from tq.model import Record, TaskStatus
from tq.ports import Backend
from tq.runner.door import whole

from .reviving import revive

__all__ = ["DeadLetter", "DeadLetters"]

TOGETHER = 500
"""Dead letters of one call to the store."""


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
    cursor: tuple[float, str]
    """Give it as `after` to `list` what follows."""

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
            cursor=(record.at, record.task_id),
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
    ) -> Sequence[DeadLetter]:
        """Return dead letters, newest first; `after` is the `cursor` of the last one seen."""
        records = await self._records(queue, type, after, limit)
        return [DeadLetter.of(record) for record in records]

    async def _records(
        self, queue: str | None, type: str | None, after: tuple[float, str] | None, limit: int
    ) -> Sequence[Record]:
        store, limit = self._backend.store, whole("limit", limit, least=1)
        return await store.list_records(dead=True, queue=queue, type=type, after=after, limit=limit)

    async def replay(
        self,
        ids: Sequence[str] | str | None = None,
        *,
        queue: str | None = None,
        type: str | None = None,
        limit: int = 100,
    ) -> Sequence[str]:
        """Run these again, or at most `limit` of those that match where none are named; return the ids that will run.

        A replayed task is a new generation. It never reopens a flow: for that there is `flow(id).redrive()`.
        """
        done = list[str]()
        for page in await self._chosen(ids, queue, type, limit):
            done += await revive(self._backend, page, self._clock.now())
        return done

    async def purge(
        self,
        ids: Sequence[str] | str | None = None,
        *,
        queue: str | None = None,
        type: str | None = None,
        limit: int = 100,
    ) -> Sequence[str]:
        """Forget these, or at most `limit` of those that match where none are named; return the ids that are gone.

        A step of a flow that is gone cannot run again: a redrive lets it count as it had ended.
        """
        done = list[str]()
        for page in await self._chosen(ids, queue, type, limit):
            done += await self._backend.store.forget(page)
        return done

    async def _chosen(
        self, ids: Sequence[str] | str | None, queue: str | None, type: str | None, limit: int
    ) -> Sequence[Sequence[str]]:
        """Return ids in pages, each the work of one call: all that are named, or as many that match as are allowed."""
        if isinstance(ids, str):
            chosen: Sequence[str] = [ids]
        elif ids is not None:
            chosen = list(dict.fromkeys(ids))
        else:
            chosen = [record.task_id for record in await self._records(queue, type, None, limit)]
        return [chosen[start : start + TOGETHER] for start in range(0, len(chosen), TOGETHER)]
