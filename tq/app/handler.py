"""`TaskHandler`: joins the rooms. Producers add tasks through it, workers run them, operators ask it about both."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, nullcontext
from datetime import timedelta
from types import TracebackType
from typing import Any, Literal, Self, Unpack

from tq.app.handles import DeadLetters, FlowHandle, QueueHandle, TaskHandle
from tq.app.intake import Intake
from tq.app.options import HandlerOptions
from tq.app.parts import REMEMBER, assemble, check_kinds, check_queues, from_urls
from tq.app.producer import Producer
from tq.app.resources import Lifespan
from tq.app.signals import draining_on_signals
from tq.app.station import Station
from tq.clock import Clock, SystemClock, seconds, to_datetime
from tq.errors import ConfigurationError
from tq.flow import FlowMiddleware
from tq.ids import flow_id, new_id
from tq.lifecycle import Spawner
from tq.manager import AsyncTaskManager
from tq.model import FlowOptions, FlowStep, Join, Message, Task
from tq.model.events import WorkerInfo
from tq.ports import Backend, EntityProjectionProvider, FlowBarrierProvider, MessageQueue, TaskStore, observer
from tq.projection import Feed, ProjectionFold
from tq.runner.bodies import WITHIN
from tq.runner.door import whole
from tq.runner.events import Events
from tq.runner.registry import TaskQueuesManager
from tq.runner.request import flow_request_in_turns
from tq.runner.settings import WorkerOptions, WorkerSettings, settings_from
from tq.runner.worker import LAST_GRACE

__all__ = ["TaskHandler"]

log = logging.getLogger("tq")

INLINE_HORIZON = 120.0
"""Seconds within which an inline queue waits for what is not yet due."""


class TaskHandler:
    """Adds tasks, runs them, and answers for them. Everything it works with is given to it; nothing is global.

    `TaskHandler.connect("sqlite:///tq.db", executors)` opens what a URL names; the constructor takes parts:
    `TaskHandler(queue=…, store=…, executors=…, barrier=…, projections=…)`.

    Args:
        queue, store, barrier: the ports. Parts of one backend commit in one atomic step.
        executors: what runs here; a producer needs none.
        projections: a provider of entity rows; absent means that of the store's backend.
        async_tasks: carries tasks that outlast their `handoff_timeout`.
        lifecycle, workers, flow_lifecycle, queue_lifecycle, notifications: observers; all optional.
        lifecycle_mode: "sync" waits for callbacks, "async" does not.
        include_payload: whether task events and projection rows carry payloads.
        lifespan: an async context manager function; yields what executors ask for by type, once per worker.
        queues: which queues to serve; absent means all that have an executor.
        clock: tells the time.
        settings: durations and limits of the worker; single ones may be given by name (`concurrency=…`, `lease=…`).
        remember: seconds for which a closed flow is remembered.

    Raises:
        MissingPortError: a part is missing; names it.
        ConfigurationError: parts that do not fit together.
    """

    def __init__(
        self,
        *,
        queue: MessageQueue | None = None,
        store: TaskStore | None = None,
        executors: TaskQueuesManager | None = None,
        barrier: FlowBarrierProvider | None = None,
        projections: EntityProjectionProvider | None = None,
        async_tasks: AsyncTaskManager | None = None,
        lifecycle: observer.TaskLifecycleProvider | None = None,
        workers: observer.WorkerLifecycleProvider | None = None,
        flow_lifecycle: observer.FlowLifecycleProvider | None = None,
        queue_lifecycle: observer.QueueLifecycleProvider | None = None,
        notifications: observer.NotificationProvider | None = None,
        lifecycle_mode: Literal["async", "sync"] = "async",
        include_payload: bool = False,
        lifespan: Lifespan | None = None,
        queues: Sequence[str] | None = None,
        clock: Clock | None = None,
        settings: WorkerSettings | None = None,
        heartbeat_interval: float | timedelta = 5.0,
        remember: float | timedelta = REMEMBER,
        **worker_settings: Unpack[WorkerOptions],
    ) -> None:
        self.clock = clock or SystemClock()
        self.executors = TaskQueuesManager() if executors is None else executors
        check_kinds(self.executors, async_tasks, lifespan, queues, lifecycle_mode)
        if flow_lifecycle is not None and barrier is None:
            raise ConfigurationError("flow_lifecycle=… needs barrier=…: without one there are no flows (FLC-06)")
        kept = seconds("remember", remember, zero=False)
        self.backend, fed = assemble(
            queue=queue, store=store, barrier=barrier, projections=projections, clock=self.clock, remember=kept
        )
        self.settings = settings_from(settings, dict(worker_settings))
        self.worker_id = f"{socket.gethostname()}-{os.getpid()}-{new_id(self.clock.now())[-8:]}"
        self.dead = DeadLetters(self.backend, self.clock)
        self._spawner = Spawner()
        self._fed = fed
        self._inline = asyncio.Lock()
        """Held by whoever runs what was added on a queue that runs it at once."""
        self._intake = Intake(self.executors, self.clock, self.worker_id, self.backend.barrier)
        self._fold = ProjectionFold(include_payload=include_payload)
        self._middleware = FlowMiddleware(self.backend.barrier)
        self._serves_all = queues is None
        self._queues = tuple(self.executors.served_queues() if queues is None else queues)
        info = WorkerInfo(
            worker_id=self.worker_id,
            hostname=socket.gethostname(),
            pid=os.getpid(),
            started_at=to_datetime(self.clock.now()),
            enabled_queues=self._queues,
        )
        self._events = Events(
            clock=self.clock,
            worker=info,
            spawner=self._spawner,
            task_provider=lifecycle,
            worker_provider=workers,
            flow_provider=flow_lifecycle,
            queue_provider=queue_lifecycle,
            notifications=notifications,
            mode=lifecycle_mode,
            include_payload=include_payload,
            default_retries=self.executors.default_retries,
            provider=self.backend.queue.name,
        )
        self._manager = async_tasks or AsyncTaskManager()
        self._manager.use_clock(self.clock)
        self._lifespan = lifespan
        self._heartbeat_interval = seconds("heartbeat_interval", heartbeat_interval, zero=False)
        self._remember = kept
        self._producer = Producer(
            self.backend,
            clock=self.clock,
            intake=self._intake,
            events=self._events,
            fold=self._fold,
        )
        self._station = self._make_station()
        self._owned: list[Backend] = []

    @classmethod
    def connect(
        cls,
        queue_url: str,
        executors: TaskQueuesManager | None = None,
        *,
        store: str | None = None,
        barrier: str | None = None,
        clock: Clock | None = None,
        backend_options: dict[str, Any] | None = None,
        **options: Unpack[HandlerOptions],
    ) -> Self:
        """Return a handler on what the URLs name; use it with `async with`, which closes what was opened.

        `store` and `barrier` name other servers; absent means the first one's. `options` are the constructor's.

        Raises:
            ConfigurationError: no adapter takes such a URL.
            InvalidInputError: it is no URL.
        """
        clock = clock or SystemClock()
        parts = from_urls(queue_url, store=store, barrier=barrier, clock=clock, options=backend_options or {})
        handler = cls(executors=executors, clock=clock, **parts, **options)
        handler._owned = [handler.backend]
        return handler

    @classmethod
    def on(
        cls,
        backend: Backend,
        executors: TaskQueuesManager | None = None,
        *,
        clock: Clock | None = None,
        **options: Unpack[HandlerOptions],
    ) -> Self:
        """Return a handler on an open backend, such as `tq.connect(url)` returns; it is not closed with the handler."""
        parts: dict[str, Any] = {"queue": backend.queue, "store": backend.store, "barrier": backend.barrier}
        return cls(executors=executors, clock=clock, **parts, **options)

    def _make_station(self) -> Station:
        return Station(
            backend=self.backend,
            executors=self.executors,
            queues=self._queues,
            clock=self.clock,
            settings=self.settings,
            events=self._events,
            intake=self._intake,
            continuations=(self._fold, self._middleware),
            middleware=self._middleware,
            manager=self._manager,
            feed=None if self._fed is None else Feed(self.backend.store, self._fed, self.clock),
            lifespan=self._lifespan,
            heartbeat_interval=self._heartbeat_interval,
            remember=self._remember,
        )

    # --- adding ---------------------------------------------------------------------------------------------------

    async def add_tasks(self, tasks: Iterable[Task[Any]], *, connection: object = None) -> list[str]:
        """Add tasks; what is due goes to the queue, what is not waits in the store, in one atomic step per server.

        A task whose id is live, or whose ending is still kept, is not added a second time; a warning says so.

        Args:
            tasks: what to add.
            connection: a connection of yours to the handler's own database, with a transaction begun: the tasks are
                added if it commits, and only then. Observers are told at once.

        Returns:
            The ids, in order: given, or made.

        Raises:
            InvalidInputError: the only task, or the connection, is refused; names field, value and way out.
            AddTasksError: one of several is refused, or the server refuses; names which, and why. What the door refuses
                stops the whole call before anything is written.
        """
        self._producer.check_connection(connection)
        accepted = await self._producer.accept(tasks)
        if accepted:
            await self._added(await self._producer.add(accepted, connection))
        return [message.id for message in accepted]

    async def _added(self, messages: Sequence[Message]) -> None:
        """Tell who may wait for them, and run them where adding means running (IMM-01)."""
        if self._station.worker is not None:
            self._station.worker.notify()
        if self.backend.queue.guarantees.inline:
            await self._run_inline(messages)

    async def _run_inline(self, messages: Sequence[Message]) -> None:
        """Run what is due, retries included, and return when it has ended (IMM-01).

        What is added meanwhile joins this very loop. Whoever adds it from outside waits for the loop, too; whoever is
        run by it, a body or an observer, does not: it would wait for itself (D-86). What nobody knows is given back,
        and no more waited for than what is due much later.
        """
        horizon = self.clock.now() + INLINE_HORIZON
        if later := sum(message.run_at > horizon for message in messages):
            log.warning("%d %s due later: not run now (IMM-03)", later, "task is" if later == 1 else "tasks are")
        if WITHIN.get():
            return
        async with self._inline:
            token = WITHIN.set(True)
            try:
                await self._station.drain(horizon=INLINE_HORIZON, strangers=False)
            finally:
                WITHIN.reset(token)

    async def start_flow(
        self,
        steps: Sequence[FlowStep],
        *,
        join: Join,
        log_context: Mapping[str, str] | None = None,
        connection: object = None,
        **options: Unpack[FlowOptions],
    ) -> str:
        """Start a flow from outside executors; see `Actions.start_flow`, and `add_tasks` for `connection`.

        With `key` the flow's id is derived from it: a second start under the same key changes nothing while the flow
        is open or remembered; after that it is another flow. All handlers of one namespace share their keys: put into a
        key what tells its flow from those of others.
        """
        self._producer.check_connection(connection)
        await self._producer.hear()
        id = new_id(self.clock.now()) if (key := options.get("key")) is None else flow_id("handler", 0.0, 0, key)
        if log_context is not None:
            log_context = self._intake.log_context(log_context, "log_context", f"flow {id}")
        request = await flow_request_in_turns(
            self._intake, id, steps, join, options, log_context=log_context, turn=lambda: self.clock.sleep(0)
        )
        if key is not None:
            await self._producer.forget_former(request)
        added = await self._producer.start(request, connection)
        self._station.spread_soon()
        await self._added(added)
        return request.id

    # --- asking ---------------------------------------------------------------------------------------------------

    def task(self, task_id: str) -> TaskHandle:
        """Return a handle of one task: status, result, cancel, retry."""
        return TaskHandle(self.backend, self.clock, task_id, self._events.flow_closed)

    def flow(self, flow_id: str) -> FlowHandle:
        """Return a handle of one flow: status, wait, cancel, redrive, explain."""
        return FlowHandle(self.backend, self.clock, flow_id, self._events.flow_closed)

    def queue(self, name: str) -> QueueHandle:
        """Return a handle of one queue: pause, resume, counts."""
        return QueueHandle(self.backend, name)

    # --- running --------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to run tasks in the background (MQ-05).

        Raises:
            ConfigurationError: no executor is registered, a queue is named that has none, or an executor asks for what
                the lifespan does not yield (D-87).
        """
        self._check_queues()
        await self._station.start()

    def _check_queues(self) -> None:
        check_queues(self._queues, self.executors.served_queues(), every=self._serves_all)

    async def run(self, *, signals: bool = True) -> None:
        """Run tasks until stopped; SIGTERM and SIGINT drain, a second one ends the process at once.

        Afterwards signals are heard as before. Beside a server that listens: `signals=False`, or `start` and `stop`.

        Raises:
            BackendError: whatever else ended the worker; its tasks run elsewhere when their leases have run out.
        """
        with draining_on_signals(self._station.ask_to_stop) if signals else nullcontext():
            await self.start()
            try:
                await self._station.wait()
            finally:
                await self.stop()

    @property
    def longest_stop(self) -> float:
        """Seconds after which a stop is over, as long as the backend answers."""
        return max(self.settings.grace_period, self._manager.grace_period) + 2 * LAST_GRACE

    async def stop(self) -> None:
        """Stop claiming, give back what has not started, wait `grace_period` for the rest; may be called twice."""
        try:
            await self._station.stop()
        finally:
            await self._events.flush()
            await self._spawner.close()

    async def drain(self, within: float | timedelta = 0.0) -> None:
        """Run everything that is due now, and what it brings, until nothing is due; for tests and scripts.

        A retry due in two seconds stays where it is, unless it falls due `within` so many seconds from now: then it is
        waited for. Cancelled, it gives back what it holds. Not while the handler runs.
        """
        self._check_idle()
        self._check_queues()
        horizon = seconds("within", within)
        await self._station.drain(horizon, self.clock.now() + horizon)

    def _check_idle(self) -> None:
        if self._station.running:
            raise ConfigurationError("the handler runs already; wait for tasks by task(id).result()")

    async def process_batch(self, queue: str, limit: int = 10) -> dict[str, str] | None:
        """Run one batch of at most `limit` due tasks of one queue; return how each ended, or None if none was due.

        The values are the names of outcomes: "success", "failed", "rescheduled", "deferred", "released". Not while the
        handler runs; after a stop nothing is run.
        """
        whole("limit", limit, least=1)
        self._intake.check_queue("queue", queue)
        self._check_idle()
        return await self._station.process_batch(queue, limit)

    async def kill(self) -> None:
        """End as a crash would: nothing is given back, nothing more is written. For tests."""
        await self._station.kill()
        await self._spawner.close()

    async def close(self) -> None:
        """Stop, and close what this handler opened itself, also where something raises on the way."""
        async with AsyncExitStack() as stack:
            for backend in self._owned:
                stack.push_async_callback(backend.close)
            await self.stop()

    async def __aenter__(self) -> Self:
        try:
            await self._producer.hear()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
