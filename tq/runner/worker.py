"""The worker: claims what is free, runs it, commits what is ready, in one hop after the other.

    hop ─▶ deliveries ─▶ gate ─▶ slots ─▶ bodies ─▶ settle ─▶ pending ─▶ hop

A hop starts at once when something is ready or may be claimed, and gathers only while another is in flight.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import count
from typing import Any

from tq.clock import Clock
from tq.lifecycle import Service
from tq.model import NO_EFFECTS, Claim, Delivery, Effects, FlowState, Hop, Outcome, Released
from tq.ports import Attachment, Backend, Continuation
from tq.runner.alarms import Alarms
from tq.runner.bodies import Bodies
from tq.runner.byhand import ByHand
from tq.runner.commit import Committer, Note
from tq.runner.endings import Endings
from tq.runner.events import Events
from tq.runner.execution import Execution, Interruption
from tq.runner.gate import inspect, unfit
from tq.runner.handover import HandOver
from tq.runner.invoke import Resources, interrupted_outcome
from tq.runner.keeper import LeaseKeeper
from tq.runner.longruns import LongRuns
from tq.runner.outside import Outside
from tq.runner.pace import Pace
from tq.runner.registry import TaskQueuesManager
from tq.runner.report import Reporter
from tq.runner.revoke import Revoker
from tq.runner.settings import WorkerSettings
from tq.runner.slots import Slots
from tq.runner.strangers import Strangers
from tq.runner.suspects import Suspects
from tq.threads import Threads

__all__ = ["LAST_GRACE", "Worker"]

log = logging.getLogger("tq.worker")

LAST_GRACE = 10.0
"""Seconds for which a stop waits, after its grace period, for what was told to end."""


class Worker(Service):
    """Runs the tasks of some queues until it is stopped."""

    def __init__(
        self,
        *,
        worker_id: str,
        backend: Backend,
        executors: TaskQueuesManager,
        queues: Sequence[str],
        clock: Clock,
        settings: WorkerSettings,
        events: Events,
        outside: Outside,
        continuations: Sequence[Continuation] = (),
        attachment: Attachment | None = None,
        resources: Resources | None = None,
        long_runs: LongRuns | None = None,
        sealed: Callable[[], None] = lambda: None,
    ) -> None:
        """Make a worker; `sealed` is called when a wide plan became a flow, whose members are still to be written."""
        super().__init__()
        self.worker_id = worker_id
        self.queues = tuple(queues)
        self._consumer_id = cache(partial("{}:{}".format, backend.queue.name))
        self.settings = settings
        self._backend = backend
        self._executors = executors
        self._clock = clock
        self._continuations = tuple(continuations)
        self._endings = Endings(clock, continuations)
        self._committer = Committer(backend, clock, self._endings.refused, sealed)
        self._slots = Slots(settings.concurrency, executors.registrations())
        self._strangers = Strangers(clock)
        self._pace = Pace(clock, settings.concurrency, backend.poll_interval)
        self._report = Reporter(events, clock)
        self._alarms = Alarms(clock, self._spawner)
        self._threads = Threads(settings.thread_count or settings.concurrency, "tq-executor")
        self._notes: list[Note] = []
        self._suspects = Suspects()
        self._revoker = Revoker(self._endings, self.interrupt)
        self._by_hand = ByHand(self._spawner, self._give_back)
        self._tokens = count()
        self._claiming = True
        self._awaits_strangers = True
        self._bodies = Bodies(
            clock=clock,
            slots=self._slots,
            spawner=self._spawner,
            alarms=self._alarms,
            events=events,
            outside=outside,
            threads=self._threads,
            resources=resources or {},
            continuations=continuations,
            attachment=attachment,
            finish=self._finish,
            write=self.write,
            hand_over=HandOver(
                backend=backend,
                clock=clock,
                lease=settings.lease,
                long_runs=long_runs,
                endings=self._endings,
                report=self._report,
                finish=self._finish,
            ),
            look=self._pace.notify,
        )

    # --- the loop -------------------------------------------------------------------------------------------------

    async def _main(self) -> None:
        async with self._keeper():
            while not (self._stopping.is_set() and self.idle):
                await self._cycle()

    def _keeper(self) -> LeaseKeeper:
        return LeaseKeeper(
            self._backend,
            self._clock,
            lease=self.settings.lease,
            stall_limit=self.settings.stall_limit,
            held=self._endings.deliveries,
            renewed=self._revoker.renewed,
        )

    def _token(self) -> str:
        return f"{self.worker_id}:{next(self._tokens)}"

    async def _cycle(self) -> None:
        """Make one hop, or wait until there is a reason for one."""
        self._next_suspect()
        claim = self._claim()
        if claim is None and not self._endings.pending and not self._notes:
            await self._report.lost(self._endings.take_lost())
            await self._pace.sleep(until_due=self._may_claim)
            return
        await self._hop(claim)

    async def _hop(self, claim: Claim | None) -> Hop:
        pending = self._endings.take()
        notes, self._notes = self._notes, []
        begun = self._clock.monotonic()
        try:
            hop = await self._committer.hop(pending, notes, claim)
        except BaseException as error:
            self._endings.pending[:0] = pending  # still leased, still ours to write
            for note in notes:
                note.failed(error)
            raise
        self._endings.written(pending)
        self._pace.made(hop, claim, len(pending), self._clock.monotonic() - begun)
        if self._awaits_strangers:
            self._pace.look_by(self._strangers.until)
        await self._report.written(pending, hop)
        pending.clear()  # what has ended is not to be there while what comes is made: the collector would keep it
        await self._report.lost(self._endings.take_lost())
        if hop.closed:
            self._decided(hop.closed)
        if hop.deliveries:
            await self._admit(hop.deliveries)
        for receipt in hop.cancelled:
            self._revoker.cancelled(receipt)
        await self._clock.sleep(0)  # a commit that never waits must not starve the bodies
        return hop

    def _decided(self, states: Sequence[FlowState]) -> None:
        """Write, with the next hop, what flows that were just decided bring; their joins bring it once more."""
        effects, now = NO_EFFECTS, self._clock.now()
        for continuation in self._continuations:
            effects += continuation.decided(states, now)
        if effects:
            self._notes.append(Note(effects))

    @property
    def _may_claim(self) -> bool:
        """Whether there is room for more; never while a suspect waits for the worker to be empty."""
        if not self._claiming or self._leaving or self._suspects:
            return False
        return bool(self.queues) and self._pace.wanted(self._in_line) > 0

    @property
    def _in_line(self) -> int:
        """Tasks that hold, or wait for, one of the handler's slots."""
        return self._endings.in_line + self._slots.overdue - self._slots.in_limited_lines - self._slots.beside

    def _claim(self) -> Claim | None:
        """Return what to claim with the next hop, if anything may be due; a hop that writes claims along with it."""
        if not self._may_claim or not (self._pace.due or self._endings.pending):
            return None
        self._pace.asks()
        limit, caps = self._slots.claimable(self._pace.wanted(self._in_line))
        return Claim(self.queues, limit, self._token(), self.settings.lease, {**caps, **self._strangers.caps()})

    async def _admit(self, deliveries: Sequence[Delivery]) -> None:
        """Give every delivery its way: to a body, to a body of its own, or to its end."""
        now, held, consumer_id = self._clock.now(), self._endings.held, self._consumer_id
        await self._report.consumed([it for it in deliveries if it.message.id not in held], consumer_id)
        for delivery in deliveries:
            if (before := held.get(delivery.message.id)) is not None:
                self.interrupt(before, Interruption.LOST)
                self._endings.give_back(delivery)
                continue
            consumer = consumer_id(delivery.message.queue)
            try:
                execution = inspect(delivery, self._executors, now, self.settings.unknown_grace, consumer)
            except Exception as error:  # noqa: BLE001 -- bytes may hold anything, a later version's mistakes too
                execution = unfit(delivery, error, consumer)
            execution.started_at = now
            held[execution.id] = execution
            if execution.unrun is not None:
                self._end_unrun(execution, execution.unrun)
            elif self._leaving:
                self._finish(execution, Released(reason="shutdown"))
            elif execution.alone:
                self._suspects.add(execution)
            elif execution.registration is not None:
                self._slots.offer(execution, execution.registration)
        self._bodies.start_ready()

    def _end_unrun(self, execution: Execution, outcome: Outcome) -> None:
        if isinstance(outcome, Released):
            self._strangers.given_back(execution, outcome.delay)
            log.warning("task %s is given back for %g s: %s", execution.id, outcome.delay, outcome.reason)
        self._finish(execution, outcome)

    # --- endings --------------------------------------------------------------------------------------------------

    def _finish(self, execution: Execution, outcome: Outcome) -> None:
        self._pace.wake()  # settled before or not: where a body has ended there is a slot, too
        if execution.moving:
            execution.ended_meanwhile = execution.ended_meanwhile or outcome
            return
        if not self._endings.finish(execution, outcome):
            return
        if execution.alone:
            self._suspects.ended(execution)

    async def write(self, effects: Effects) -> bool:
        """Write effects that stand behind no lease with the next hop; return when they are written."""
        return await self._noted(Note(effects))

    async def _noted(self, note: Note) -> bool:
        self._notes.append(note)
        self._pace.wake()
        return await note.done

    # --- suspects -------------------------------------------------------------------------------------------------

    def _next_suspect(self) -> None:
        """Run a suspect once no slot is taken; it is marked as alone before it starts (design 1.4).

        Not before what has ended is written: under its lease, the last suspect's for one, it would be blamed, too.
        Beside long runs that were handed over it is not marked: should the worker die, it may have been they.
        """
        if self._slots.running or self._slots.waiting or self._endings.pending:
            return
        if (suspect := self._suspects.next()) is None:
            return

        async def alone(execution: Execution) -> None:
            if not self._endings.handed_off and not await self._noted(Note(solo=execution.delivery.receipt)):
                execution.interrupt(Interruption.LOST)
                self._finish(execution, Released())
            elif self._leaving:
                self._finish(execution, Released(reason="shutdown"))
            elif execution.registration is not None and not execution.settled:
                self._slots.offer(execution, execution.registration)
                self._bodies.start_ready()

        self._spawner.spawn(alone(suspect), "suspect")

    # --- stopping -------------------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether nothing is held and nothing waits to be written."""
        return not self._endings.held and not self._endings.pending and not self._notes

    @property
    def active(self) -> int:
        """Tasks that are held here: running, waiting for a slot, or waiting to be written."""
        return len(self._endings.held)

    def interrupt(self, execution: Execution, why: Interruption) -> None:
        """End a body; after its grace it is settled without it. What has none yet is settled at once."""
        execution.interrupt(why)
        if self._slots.withdraw(execution):
            self._finish(execution, interrupted_outcome(execution, None))
        else:
            self._bodies.settle_after_grace(execution)

    def notify(self) -> None:
        """Something may have fallen due."""
        self._pace.notify()

    async def drain(self, horizon: float = 0.0, until: float = math.inf, *, strangers: bool = True) -> None:
        """Run everything that is due, and what it brings, until nothing is; not while started.

        What falls due within `horizon` seconds, counted anew each time, and by the instant `until`, is waited for; what
        was given back because it is not known here only with `strangers`. Cancelled, it gives back what it holds.
        """
        self._awaits_strangers = strangers
        await self._by_hand.go(self._drain(horizon, until))

    async def _drain(self, horizon: float, until: float) -> None:
        async with self._keeper():
            self._pace.notify()
            while True:
                self._next_suspect()
                claim = self._claim()
                if claim is not None or self._endings.pending or self._notes:
                    await self._hop(claim)
                elif not self.idle or (self._slots.overdue and not self._may_claim and not self._leaving):
                    await self._pace.sleep(until_due=self._may_claim)
                elif self._leaving or (wait := self._pace.due_in) > horizon or self._clock.now() + wait > until:
                    return
                else:
                    await self._pace.sleep(until_due=True)

    async def process_batch(self, queue: str, limit: int) -> list[tuple[str, Outcome]]:
        """Run one claim of at most `limit` tasks to their ends; not while started. Cancelled, it gives them back."""
        return await self._by_hand.go(self._process_batch(queue, limit)) or []

    async def _process_batch(self, queue: str, limit: int) -> list[tuple[str, Outcome]]:
        told: list[tuple[str, Outcome]] = []
        self._endings.told = told
        try:
            async with self._keeper():
                hop = await self._hop(Claim((queue,), limit, self._token(), self.settings.lease))
                self._claiming = False
                while not self.idle:
                    self._next_suspect()
                    if self._endings.pending or self._notes:
                        await self._hop(None)
                    else:
                        await self._pace.sleep(until_due=False)
                return told if hop.deliveries else []
        finally:
            self._claiming, self._endings.told = True, None

    async def stop(self) -> None:
        """Give back what has not started, wait `grace_period` for what runs, release the rest."""
        self._stopping.set()
        self._drop_waiting()
        if not self._loops and not self.idle:  # rounds by hand have ended early, and left something behind
            self._by_hand.going.add(self._spawner.spawn(self._main(), "last rounds"))
        if loops := self._loops:
            try:
                async with self._clock.timeout(self.settings.grace_period):
                    await asyncio.wait(loops)
            except TimeoutError:
                await self._give_back()
        self._alarms.clear()
        if left := await self._spawner.close(LAST_GRACE):
            log.warning("%d bodies were cancelled and do not end; they are left behind, their tasks given back", left)
        self._threads.shutdown(wait=False, cancel_futures=True)

    @property
    def _loops(self) -> set[asyncio.Task[Any]]:
        """Who goes the rounds."""
        return self._by_hand.going if self._main_task is None else {*self._by_hand.going, self._main_task}

    @property
    def _leaving(self) -> bool:
        """Whether nothing may begin any more."""
        return self._stopping.is_set() or self._by_hand.leaving

    def _drop_waiting(self) -> None:
        self._pace.wake()
        for execution in (*self._slots.drop_waiting(), *self._suspects.drop()):
            self._finish(execution, Released(reason="shutdown"))

    async def _give_back(self) -> None:
        """The grace is over, or nobody waits any more: bodies are cancelled and their tasks given back, uncounted."""
        self._drop_waiting()
        running = [execution for execution in self._endings.held.values() if not execution.settled]
        for execution in running:
            execution.interrupt(Interruption.SHUTDOWN)
        self._committer.giving_up = True
        await self._clock.sleep(0)
        for execution in running:
            self._finish(execution, Released(reason="shutdown"))
            self._bodies.left_behind(execution)
        if loops := self._loops:  # a backend that does not even answer is not waited for either
            await asyncio.wait(loops, timeout=LAST_GRACE)
        self._committer.giving_up = self._stopping.is_set()
