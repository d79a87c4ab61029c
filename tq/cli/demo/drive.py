"""Runs the demo's worker until the run has ended, or until it is asked to stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from tq.app.handler import TaskHandler
from tq.app.handles.flow import FlowStatus
from tq.model import TaskStatus
from tq.ports import TaskStore

from .executors import make_executors
from .runs import Run, find_or_start, has_ended
from .settings import DemoSettings

__all__ = ["Driven", "drive"]

LEASE = 5.0
"""Seconds for which the files of a killed process stay with it: short, because somebody is looking on."""
LOOK_EVERY = 0.05


class Driven(NamedTuple):
    """How it went."""

    run: Run
    status: FlowStatus
    ended: bool
    """False when it was asked to stop first."""
    error: str | None
    """Why there is no report."""


async def drive(
    settings: DemoSettings, *, begun: Callable[[Run, FlowStatus], None], seen: Callable[[FlowStatus], None]
) -> Driven:
    """Find or start the folder's run and work on it.

    Args:
        settings: what to work on.
        begun: told once, which run it is and how far it had come.
        seen: told again and again, how far it is.
    """

    @asynccontextmanager
    async def lifespan() -> AsyncGenerator[dict[Any, Any]]:
        yield {TaskStore: handler.backend.store, Run: run}

    settings.database.parent.mkdir(parents=True, exist_ok=True)
    opened = TaskHandler.connect(
        settings.url,
        make_executors(settings),
        lifespan=lifespan,
        lease=LEASE,
        concurrency=settings.concurrency,
    )
    async with opened as handler:
        run = await find_or_start(handler, settings)
        begun(run, await handler.flow(run.flow).status())
        working = asyncio.create_task(handler.run())
        watching = asyncio.create_task(_watch(handler, run, seen))
        try:
            await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            watching.cancel()
            await handler.stop()
            await asyncio.wait({working, watching})
        working.result()  # raises what ended the worker, if anything did
        if not watching.cancelled():
            watching.result()
        status = await handler.flow(run.flow).status()
        seen(status)
        return Driven(run, status, await has_ended(handler, run.flow), await _error(handler, run))


async def _watch(handler: TaskHandler, run: Run, seen: Callable[[FlowStatus], None]) -> None:
    flow = handler.flow(run.flow)
    while True:
        seen(await flow.status())
        if await has_ended(handler, run.flow):
            return
        await asyncio.sleep(LOOK_EVERY)


async def _error(handler: TaskHandler, run: Run) -> str | None:
    record = await (await handler.flow(run.flow).join()).record()
    if record is None or record.status is TaskStatus.EXECUTED:
        return None
    return record.error or record.status
