"""tq: tasks, flows and projections that survive whatever is killed, in asyncio.

executors = TaskQueuesManager()

@executors.task("images.resize")
async def resize(image: Image) -> Thumbnail: ...

async with TaskHandler.connect("sqlite:///tq.db", executors) as handler:
    await handler.add_tasks([resize.task(Image(...))])
    await handler.run()
"""

from tq.app.connect import connect
from tq.app.handler import TaskHandler
from tq.app.routed import RoutedQueue
from tq.app.sync import SyncClient
from tq.errors import NonRetryableError, TqError
from tq.manager import AsyncTaskManager
from tq.model import MISSING, Backoff, Entity, FlowStep, Join, Task, TaskStatus, quorum, tolerate
from tq.runner.actions import Actions
from tq.runner.events import ConsoleHealthProvider
from tq.runner.registry import TaskQueuesManager

__all__ = [
    "MISSING",
    "Actions",
    "AsyncTaskManager",
    "Backoff",
    "ConsoleHealthProvider",
    "Entity",
    "FlowStep",
    "Join",
    "NonRetryableError",
    "RoutedQueue",
    "SyncClient",
    "Task",
    "TaskHandler",
    "TaskQueuesManager",
    "TaskStatus",
    "TqError",
    "connect",
    "quorum",
    "tolerate",
]
