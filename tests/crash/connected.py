"""How each process of a run under fire gets at its servers, named by what can be written down: URLs."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from tq import RoutedQueue, TaskHandler, TaskQueuesManager, connect
from tq.ports import Backend

__all__ = ["connected"]


@asynccontextmanager
async def connected(
    parts: dict[str, Any], executors: TaskQueuesManager | None = None, **options: Any
) -> AsyncGenerator[TaskHandler, None]:
    """Give a handler of `TaskHandler.connect`; with `routes` in place of `queue_url`, each queue has a server."""
    if "routes" not in parts:
        async with TaskHandler.connect(**parts, executors=executors, **options) as handler:
            yield handler
        return
    async with AsyncExitStack() as stack:
        opened: dict[str, Backend] = {}
        for url in [*parts["routes"].values(), parts["store"], parts["barrier"]]:
            if url not in opened:
                opened[url] = connect(url)
                stack.push_async_callback(opened[url].close)
        queue = RoutedQueue({name: opened[url].queue for name, url in parts["routes"].items()})
        store, barrier = opened[parts["store"]].store, opened[parts["barrier"]].barrier
        yield await stack.enter_async_context(
            TaskHandler(queue=queue, store=store, barrier=barrier, executors=executors, **options)
        )
