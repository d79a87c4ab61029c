"""`tq tasks`: what waits, runs and has ended."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Annotated

import typer

from tq.app.handles.looking import custodies
from tq.clock import to_datetime
from tq.errors import InvalidInputError
from tq.model import Record, State, TaskStatus, Whereabouts
from tq.ports import Backend

from .command import Common, command
from .cursor import read_pair, write_pair
from .opening import opened
from .options import After, Limit, Queue, Type
from .output import document, note, table
from .text import instant, shortened

__all__ = ["TaskRow", "tasks"]

PAGE = 500
LIVE = (TaskStatus.SCHEDULED, TaskStatus.PROCESSING)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRow:
    """A task as it is listed; the names are those of the JSON."""

    id: str
    type: str
    queue: str
    status: TaskStatus
    state: str
    """waiting, running, held, or ended."""
    attempt: int
    generation: int
    at: datetime
    """When it falls, or fell, due; of an ended one when it ended."""
    worker: str | None = None
    lease_until: datetime | None = None
    held_by: str | None = None
    dead: bool = False
    error: str | None = None

    @classmethod
    def live(cls, place: Whereabouts) -> TaskRow:
        running = place.state is State.RUNNING
        return cls(
            id=place.id,
            type=place.type,
            queue=place.queue,
            status=TaskStatus.SCHEDULED if place.state is State.WAITING else TaskStatus.PROCESSING,
            state=place.state.value,
            attempt=place.attempt,
            generation=place.generation,
            at=to_datetime(place.run_at),
            worker=place.token.partition(":")[0] if running else None,
            lease_until=to_datetime(place.lease_until) if running else None,
            held_by=place.held_by or None,
        )

    @classmethod
    def ended(cls, record: Record) -> TaskRow:
        return cls(
            id=record.task_id,
            type=record.type,
            queue=record.queue,
            status=record.status,
            state="ended",
            attempt=record.attempt,
            generation=record.generation,
            at=to_datetime(record.at),
            dead=record.dead,
            error=record.error,
        )

    @property
    def detail(self) -> str:
        """What else is worth a column."""
        if self.state == "running":
            return f"at {self.worker}, lease until {instant(self.lease_until)}"
        if self.state == "held":
            return f"waits for flow {self.held_by}"
        return shortened(self.error or "")


@command()
async def tasks(
    common: Common,
    *,
    queue: Queue = None,
    type: Type = None,
    status: Annotated[list[TaskStatus] | None, typer.Option(help="Only tasks of this status; may be repeated.")] = None,
    limit: Limit = 50,
    after: After = None,
) -> None:
    """List tasks: first those that wait or run, by id, then those that have ended, newest first.

    Of a task that succeeded nothing is listed unless its result, or its success, is kept. The first attempt is number
    0, as in task.attempt and in the JSON.

    --json prints {"tasks": [...], "next": ...}; `next` is what --after takes for the next page, or null. Each task has
    id, type, queue, status, state, attempt, generation, at, worker, lease_until, held_by, dead, error.
    """
    wanted = frozenset(status or TaskStatus)
    rows: list[TaskRow] = []
    reached, following = "", None
    async with opened(common.url) as handler, aclosing(_rows(handler.backend, wanted, queue, type, after)) as found:
        async for row, place in found:
            if len(rows) == limit:
                following = reached
                break
            rows.append(row)
            reached = place
    if common.json:
        document({"tasks": [asdict(row) for row in rows], "next": following})
        return
    table(
        ("ID", "STATUS", "TYPE", "QUEUE", "ATTEMPT", "AT", "DETAIL"),
        [(row.id, row.status, row.type, row.queue, row.attempt, instant(row.at), row.detail) for row in rows],
        empty="no such tasks",
    )
    if following:
        note(f"more: --after '{following}'")


async def _rows(
    backend: Backend, wanted: frozenset[TaskStatus], queue: str | None, type: str | None, after: str | None
) -> AsyncGenerator[tuple[TaskRow, str]]:
    """Yield rows, each with what `--after` takes to go on behind it: instants there are exact, in rows they are not."""
    part, id, at = _read(after)
    if part == "live" and not wanted.isdisjoint(LIVE):
        async for place in _live(backend, queue, id):
            row = TaskRow.live(place)
            if row.status in wanted and type in (None, row.type):
                yield row, f"live:{row.id}"
    last = (at, id) if part == "ended" else None
    statuses = [status for status in TaskStatus if status in wanted and status.terminal]
    asked = statuses[0] if len(statuses) == 1 else None
    while statuses:
        page = await backend.store.list_records(status=asked, queue=queue, type=type, after=last, limit=PAGE)
        for record in page:
            if record.status in wanted:
                yield TaskRow.ended(record), f"ended:{write_pair(record.at, record.task_id)}"
        if len(page) < PAGE:
            return
        last = page[-1].at, page[-1].task_id


async def _live(backend: Backend, queue: str | None, after: str) -> AsyncGenerator[Whereabouts]:
    """Yield live messages by id, each once: one on its way from queue to store may be in both for an instant."""
    while True:
        pages: Sequence[Sequence[Whereabouts]] = [await part.list(queue, after, PAGE) for part in custodies(backend)]
        found = {place.id: place for page in pages for place in page}
        # Beyond the end of a full page its custodian may hold ids that belong before those of the other one.
        end = min((page[-1].id for page in pages if len(page) == PAGE), default=None)
        for id in sorted(found):
            if end is None or id <= end:
                yield found[id]
        if end is None:
            return
        after = end


def _read(after: str | None) -> tuple[str, str, float]:
    if after is None:
        return "live", "", 0.0
    part, _, rest = after.partition(":")
    if part == "live":
        return part, rest, 0.0
    if part != "ended":
        raise InvalidInputError("after", after, "give what the page before named")
    at, id = read_pair(rest)
    return part, id, at
