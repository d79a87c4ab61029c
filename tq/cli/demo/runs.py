"""Which run a folder is at: found in the database, so that it makes no difference when the process was killed.

A run is a flow, and a flow has one projection row from the commit that makes it real: the folder's rows are its runs,
and how many they are is the number of the last one. Nothing else is kept about runs, so nothing else can disagree.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import NamedTuple, cast

from tq.app.handler import TaskHandler
from tq.errors import UnknownFlowError
from tq.model import Entity, FlowStep, Join, Projection, TaskStatus
from tq.ports import ProjectionQuery

from .files import find_files
from .settings import DemoSettings

__all__ = ["JOIN", "STEP", "Begun", "Run", "find_or_start", "has_ended"]

STEP, JOIN = "demo.measure", "demo.report"
ENTITY = "demo.folder"
PAGE = 500


class Begun(Enum):
    """How a run came to be the present one."""

    FIRST = auto()
    AGAIN = auto()
    """The run before has ended: this is a new one."""
    RESUMED = auto()
    REPORT_ONLY = auto()
    """All files are measured; only the report could not be written."""


class Run(NamedTuple):
    """One flow over a folder."""

    number: int
    flow: str
    begun: Begun


async def find_or_start(handler: TaskHandler, settings: DemoSettings) -> Run:
    """Return the folder's unfinished run, or a new one, which is then stored.

    Raises:
        InvalidInputError: the folder has more files than a flow takes.
    """
    rows = await _rows(handler, settings)
    if rows:
        last = max(rows, key=lambda row: (row.created_at, row.task_id)).task_id
        try:
            join = await handler.flow(last).join()
        except UnknownFlowError:  # forgotten by retention: it ended long ago
            pass
        else:
            if not await has_ended(handler, last):
                return Run(len(rows), last, Begun.RESUMED)
            if await join.status() is TaskStatus.FAILED:
                await join.retry()
                return Run(len(rows), last, Begun.REPORT_ONLY)
    number = len(rows) + 1
    files = find_files(settings.folder, everything=settings.everything, but=settings.own_files)
    flow = await handler.start_flow(
        [FlowStep(STEP, queue=settings.queue, payload=file) for file in files],
        join=Join(JOIN, queue=settings.queue),
        entity=Entity(ENTITY, str(settings.folder)),
        key=f"{settings.queue}:{number}",  # two processes that both find no run start the same one
    )
    return Run(number, flow, Begun.AGAIN if rows else Begun.FIRST)


async def has_ended(handler: TaskHandler, flow: str) -> bool:
    """Tell whether the flow is decided and its join has ended: only then is the report written, or given up."""
    handle = handler.flow(flow)
    if (await handle.status()).verdict is None:
        return False
    status = await (await handle.join()).status()
    return status == "unknown" or status.terminal


async def _rows(handler: TaskHandler, settings: DemoSettings) -> Sequence[Projection]:
    """Return the rows of the folder's runs; steps name no entity, so each row is a flow's."""
    query = cast("ProjectionQuery", handler.backend.projections)  # the providers that tq ships answer questions, too
    rows: list[Projection] = []
    after: tuple[float, str] | None = None
    while True:
        page = await query.find_projections(entity_type=ENTITY, entity_id=str(settings.folder), after=after, limit=PAGE)
        rows += page
        if len(page) < PAGE:
            return rows
        after = page[-1].updated_at, page[-1].task_id
