"""What `TaskHandler`, `connect` and `on` take by keyword: an editor completes it, a checker refuses the rest."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Literal

from tq.app.resources import Lifespan
from tq.clock import Clock
from tq.manager import AsyncTaskManager
from tq.ports import EntityProjectionProvider, observer
from tq.runner.settings import WorkerOptions, WorkerSettings

__all__ = ["ConnectOptions", "HandlerOptions"]


class HandlerOptions(WorkerOptions, total=False):
    """The keywords of `TaskHandler` beside its parts, its executors and its clock; described there."""

    projections: EntityProjectionProvider | None
    async_tasks: AsyncTaskManager | None
    lifecycle: observer.TaskLifecycleProvider | None
    workers: observer.WorkerLifecycleProvider | None
    flow_lifecycle: observer.FlowLifecycleProvider | None
    queue_lifecycle: observer.QueueLifecycleProvider | None
    notifications: observer.NotificationProvider | None
    lifecycle_mode: Literal["async", "sync"]
    include_payload: bool
    lifespan: Lifespan | None
    queues: Sequence[str] | None
    settings: WorkerSettings | None
    heartbeat_interval: float | timedelta
    remember: float | timedelta


class ConnectOptions(HandlerOptions, total=False):
    """The keywords of `TaskHandler.connect`."""

    store: str | None
    barrier: str | None
    clock: Clock | None
    backend_options: dict[str, Any] | None
