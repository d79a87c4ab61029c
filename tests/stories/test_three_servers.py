"""Parent, steps, join and barrier of one flow live on three servers; one of them is killed amid it, and comes back."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.crash import struck
from tq import Actions, FlowStep, Join, RoutedQueue, Task, TaskHandler, TaskQueuesManager, TaskStatus, connect
from tq.ports import Backend

pytestmark = pytest.mark.realtime

PAGES = 60
SOME = 15
"""Pages that have begun when a server is killed."""

Roles = tuple[str, str, str]
"""Who keeps parents and the barrier, who the steps, and who the joins and the store."""


@pytest.fixture(scope="module")
def servers() -> Generator[Mapping[str, struck.Server], None, None]:
    """Servers of these stories alone: they are killed."""
    with struck.redis() as redis, struck.postgres() as postgres:
        yield {"redis": redis, "postgres": postgres}


@asynccontextmanager
async def opened(servers: Mapping[str, struck.Server], folder: Path) -> AsyncGenerator[dict[str, Backend], None]:
    """A new place on each of three servers, one of which is a file."""
    name = f"tq_{uuid.uuid4().hex[:8]}"
    urls = {kind: f"{server.url}?namespace={name}" for kind, server in servers.items()}
    urls["sqlite"] = f"sqlite:///{folder / 'tq.db'}"
    async with AsyncExitStack() as stack:
        backends = {kind: connect(url) for kind, url in urls.items()}
        for backend in backends.values():
            stack.push_async_callback(backend.close)
        yield backends


def parts_of(backends: Mapping[str, Backend], roles: Roles) -> dict[str, Any]:
    """Return what a handler is given so that each server plays its role."""
    parents, steps, joins = (backends[role] for role in roles)
    queue = RoutedQueue({"albums": parents.queue, "pages": steps.queue, "*": joins.queue})
    return {"queue": queue, "store": joins.store, "barrier": parents.barrier}


class Press:
    """Prints the pages of an album, and says when some of them have begun."""

    def __init__(self) -> None:
        self.executors = TaskQueuesManager()
        self.printed: list[int] = []
        self.bound: list[dict[str, Any]] = []
        self.some = asyncio.Event()
        self.executors.executor("album", queue="albums", store_on_success=True)(self._album)
        self.executors.task("page", queue="pages")(self._page)
        self.executors.executor("bind", queue="covers", store_on_success=True)(self._bind)

    async def _album(self, task: Task[Any], actions: Actions) -> None:
        pages = [FlowStep("page", queue="pages", payload=number) for number in range(PAGES)]
        actions.success_when(actions.start_flow(pages, join=Join("bind", queue="covers")))

    async def _page(self, number: int) -> int:
        self.printed.append(number)
        if len(self.printed) == SOME:
            self.some.set()
        await asyncio.sleep(0.02)
        return number

    async def _bind(self, task: Task[Any], actions: Actions) -> None:
        self.bound.append(task.payload["flow_results"])
        actions.success(task, "bound")


@pytest.mark.spec("INV-01", "INV-05", "F-32")
@pytest.mark.parametrize("killed", ["redis", "postgres"])
@pytest.mark.parametrize(
    "roles",
    [("redis", "postgres", "sqlite"), ("postgres", "sqlite", "redis"), ("sqlite", "redis", "postgres")],
    ids=lambda roles: f"join-on-{roles[2]}",
)
async def test_a_flow_on_three_servers_joins_once_though_one_of_them_is_killed(
    servers: Mapping[str, struck.Server], tmp_path: Path, roles: Roles, killed: str
) -> None:
    press = Press()
    async with opened(servers, tmp_path) as backends:
        handler = TaskHandler(executors=press.executors, concurrency=5, lease=2.0, **parts_of(backends, roles))
        await handler.start()
        [album] = await handler.add_tasks([Task(type="album", queue_id="albums")])
        await press.some.wait()
        await asyncio.to_thread(servers[killed].strike)
        assert len(press.printed) < PAGES, "it was killed too late to matter"
        assert await handler.task(album).result(timeout=60.0) == "bound"
        await handler.close()
        [told] = press.bound
        assert told["verdict"] == "completed"
        assert [(step["step_index"], step["result"]) for step in told["steps"]] == [(n, n) for n in range(PAGES)]
        assert await handler.task(album).status() is TaskStatus.EXECUTED
        for backend in backends.values():
            kinds = [kinds for part in (backend.queue, backend.store) for kinds in (await part.counts()).values()]
            assert sum(sum(kind.values()) for kind in kinds) == 0, f"something is left on {backend.name}"
