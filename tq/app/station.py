"""A worker's station: the worker, and all that has to go on around it while it runs.

lifespan ─▶ manager ─▶ worker ─▶ upkeep (announce, deadlines, repairs, retention) and feed
and back in the other order when it stops
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace

from tq.app.intake import Intake
from tq.app.longruns import ManagedRuns
from tq.app.resources import Lifespan, resolve
from tq.app.shards import ShardTales, listen
from tq.app.upkeep import Round, Upkeep
from tq.clock import Clock, to_datetime
from tq.errors import BackendError
from tq.flow import FlowMiddleware, Reconciler
from tq.lifecycle import Service
from tq.manager import AsyncTaskManager
from tq.model import Deferred, Failed, Released, Rescheduled, Succeeded
from tq.ports import Backend, Continuation
from tq.projection import Feed
from tq.runner.composite import Leftovers
from tq.runner.events import Events
from tq.runner.execution import Execution, Interruption
from tq.runner.registry import TaskQueuesManager
from tq.runner.settings import WorkerSettings
from tq.runner.worker import Worker

__all__ = ["Station"]

DUE = "deadlines and joins"
DUE_EVERY = 1.0
QUIET_EVERY = 10.0
PURGE_EVERY = 60.0
ANNOUNCED_FOR = 6.0
"""Heartbeats for which a queue counts as served after a worker's last word, and no shorter than its leases."""
LAST_WORD = 5.0
"""Seconds for which a stop tries to say that it serves nothing any more."""
PURGE_AT_ONCE = 1_000


class Station(Service):
    """Opens, runs and closes everything that one worker needs."""

    def __init__(
        self,
        *,
        backend: Backend,
        executors: TaskQueuesManager,
        queues: Sequence[str],
        clock: Clock,
        settings: WorkerSettings,
        events: Events,
        intake: Intake,
        continuations: Sequence[Continuation],
        middleware: FlowMiddleware,
        manager: AsyncTaskManager,
        feed: Feed | None,
        lifespan: Lifespan | None,
        heartbeat_interval: float,
        remember: float,
    ) -> None:
        super().__init__()
        self._backend = backend
        self._executors = executors
        self._queues = tuple(queues)
        self._clock = clock
        self._settings = settings
        self._events = events
        self._intake = intake
        self._continuations = continuations
        self._middleware = middleware
        self._manager = manager
        self._feed = feed
        self._lifespan = lifespan
        self._heartbeat_interval = heartbeat_interval
        self._remember = remember
        self._stack = AsyncExitStack()
        self._reconciler = Reconciler(backend, clock) if backend.barrier is not None else None
        self._leftovers = None if backend.atomic else Leftovers(backend, remember)
        self._upkeep = Upkeep(clock, self._rounds(), events.trouble)
        self.worker: Worker | None = None
        self._tales: list[ShardTales] = []
        self._changing = asyncio.Lock()
        """Held by whoever starts or stops: a stop in the midst of a start waits, and then stops what was started."""
        self._closed = False
        self._stirred = False
        self._behind = False

    # --- opening and closing --------------------------------------------------------------------------------------

    async def open(self) -> Worker:
        """Enter the lifespan and make the worker; nothing runs yet.

        Raises:
            ConfigurationError: an executor asks for a resource that the lifespan does not yield.
        """
        if self.worker is not None:
            return self.worker
        yielded = None
        async with AsyncExitStack() as stack:  # what is refused here has entered, and leaves at once
            if self._lifespan is not None:
                yielded = await stack.enter_async_context(self._lifespan())
            resources = resolve(yielded, self._executors.registrations())
            self._stack = stack.pop_all()
        self.worker = worker = Worker(
            worker_id=self._intake.worker_id,
            backend=self._backend,
            executors=self._executors,
            queues=self._queues,
            clock=self._clock,
            settings=self._settings,
            events=self._events,
            outside=self._intake,
            continuations=self._continuations,
            attachment=self._middleware,
            resources=resources,
            long_runs=ManagedRuns(self._manager, self._interrupt),
            sealed=self.spread_soon,
        )
        self._stack.callback(self._backend.on_change(worker.notify))
        return worker

    def _interrupt(self, execution: Execution, why: Interruption) -> None:
        if self.worker is not None:
            self.worker.interrupt(execution, why)

    async def start(self) -> None:
        async with self._changing:
            if not self._stopping.is_set() and self._main_task is None:  # a stop that came first holds (MQ-09)
                await self._start()

    async def _start(self) -> None:
        worker = await self.open()
        await self._announce()
        self._events.worker = replace(self._events.worker, started_at=to_datetime(self._clock.now()))
        await self._events.worker_started()
        for queue in self._queues:
            await self._events.consumer_connected(queue, f"{self._backend.queue.name}-{worker.worker_id}")
        self._tales = listen(self._backend.queue, self._queues, worker.worker_id, self._events, self._spawner)
        await self._manager.start()
        await worker.start()
        await self._upkeep.start()
        if self._feed is not None:
            await self._feed.start()
        await super().start()

    async def _main(self) -> None:
        """Run until stopped, or until the worker ends by itself, which only an error can bring about."""
        if self.worker is None:
            return
        ended = self._spawner.spawn(self.worker.ended(), "worker")
        stopped = self._spawner.spawn(self._stopping.wait(), "stop")
        await asyncio.wait([ended, stopped], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()

    async def wait(self) -> None:
        """Return when it has stopped; raise what ended it."""
        if self._main_task is not None:
            await asyncio.shield(self._main_task)
        if self.worker is not None and (error := self.worker.failure()) is not None:
            raise error

    async def stop(self) -> None:
        self._stopping.set()
        async with self._changing:  # a second stop waits for the first, and has nothing left to do
            if not self._closed:
                await self._stop()  # cancelled here, a second one goes on where this one was
                self._closed = True
                await self._stack.aclose()

    async def _stop(self) -> None:
        reason = "shutdown"
        if self.worker is not None:
            if (error := self.worker.failure()) is not None:
                reason = "error"
                await self._events.trouble(error, "running tasks")
            shutdown = self._spawner.spawn(self._manager.stop(), "manager")
            await self.worker.stop()
            await asyncio.wait([shutdown])
            for tales in self._tales:
                await tales.end(reason)
            for queue in self._queues:
                await self._events.consumer_disconnected(
                    queue, f"{self._backend.queue.name}-{self.worker.worker_id}", reason
                )
        await self._upkeep.stop()
        await self._serve_no_more()
        if self._feed is not None:
            await self._feed.stop()
        if self._main_task is not None:
            await self._events.worker_stopped(reason)
            await self._events.final_stats()
        await super().stop()

    # --- rounds ---------------------------------------------------------------------------------------------------

    def _rounds(self) -> list[Round]:
        rounds = [
            Round("heartbeat", self._heartbeat_interval, self._heartbeat),
            Round("announcing", self._heartbeat_interval, self._announce),
            Round("retention", PURGE_EVERY, self._purge),
        ]
        if self._reconciler is not None:
            rounds.insert(0, Round(DUE, DUE_EVERY, self._due))
            rounds.append(Round("looking over open flows", QUIET_EVERY, self._quiet))
        return rounds

    async def _due(self) -> bool:
        if self._reconciler is None:
            return False
        tick = await self._reconciler.tick_due()
        for state in tick.closed:
            await self._events.flow_closed(state)
        if tick.closed or tick.dispatched or tick.spread or tick.cancelled or tick.woken:
            self._stir()
        self._behind = tick.more
        return tick.more

    def spread_soon(self) -> None:
        """A flow was sealed: its members are to be written at once, not at the next round."""
        self._upkeep.hurry(DUE)

    async def _quiet(self) -> bool:
        if self._reconciler is None:
            return False
        tick = await self._reconciler.tick_quiet()
        for state in tick.closed:
            await self._events.flow_closed(state)
        if tick.repairs:
            self._stir()
        return tick.more

    def _stir(self) -> None:
        """A round has written something that may be due."""
        self._stirred = True
        if self.worker is not None:
            self.worker.notify()

    async def _heartbeat(self) -> bool:
        await self._events.worker_heartbeat(0 if self.worker is None else self.worker.active)
        return False

    async def _announce(self) -> bool:
        if self._queues:
            await self._say(self._queues)
        self._intake.heard_of(await self._backend.queue.announced())
        return False

    async def _say(self, queues: Sequence[str]) -> None:
        alive = max(ANNOUNCED_FOR * self._heartbeat_interval, self._settings.lease)
        await self._backend.queue.announce(self._intake.worker_id, queues, alive)

    async def _serve_no_more(self) -> None:
        """Take back what was announced; where that cannot be written it is forgotten a little later."""
        if self.worker is None:
            return
        with suppress(BackendError, TimeoutError):
            async with self._clock.timeout(LAST_WORD):
                await self._say(())

    async def _purge(self) -> bool:
        """Let go what retention allows; not while plans are being spread, whose chunks may be as old as that."""
        if self._behind:
            return False
        now = self._clock.now()
        more = self._leftovers is not None and await self._leftovers.look(now)
        dropped = await self._backend.store.purge(now, self._remember, PURGE_AT_ONCE)
        if self._backend.barrier is not None:
            dropped += await self._backend.barrier.purge(now - self._remember, PURGE_AT_ONCE)
        return more or dropped >= PURGE_AT_ONCE

    # --- by hand --------------------------------------------------------------------------------------------------

    async def drain(self, horizon: float = 0.0, until: float = math.inf, *, strangers: bool = True) -> None:
        """Run what is due, and what that brings, until nothing is due and nothing runs; nothing once stopped.

        What falls due within `horizon` seconds, counted anew each time, and by the instant `until`, is waited for; what
        was given back because it is not known here only with `strangers`.
        """
        if self._stopping.is_set():
            return
        worker = await self.open()
        while True:
            await worker.drain(horizon, until, strangers=strangers)
            more = await self._upkeep.go(all_of_them=True)
            if self._feed is not None:
                await self._feed.drain()
            if not more and not self._stirred:
                return
            self._stirred = False

    async def process_batch(self, queue: str, limit: int) -> dict[str, str] | None:
        """Run one batch of one queue; return the outcomes by task id, or None if none was due or it is stopping."""
        if self._stopping.is_set():
            return None
        worker = await self.open()
        ended = await worker.process_batch(queue, limit)
        return {task_id: _NAMES[type(outcome)] for task_id, outcome in ended} or None

    async def kill(self) -> None:
        services = (self.worker, self._upkeep, self._manager, self._feed)
        for service in services:
            if service is not None:
                await service.kill()
        await super().kill()

    def ask_to_stop(self) -> None:
        """Let `wait` return: the first step of a stop, for signal handlers."""
        self._stopping.set()


_NAMES = {
    Succeeded: "success",
    Failed: "failed",
    Rescheduled: "rescheduled",
    Deferred: "deferred",
    Released: "released",
}
