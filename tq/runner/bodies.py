"""Run bodies: context, attachments, payload check, invocation, timeouts and hand-over. Ends are told to `finish`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from contextvars import ContextVar, copy_context
from typing import Protocol

from tq.clock import Clock
from tq.errors import BackendError, FlowError, PayloadError
from tq.lifecycle import Spawner
from tq.logcontext import bind, reset
from tq.model import NO_EFFECTS, Effects, Failed, Outcome, Released, Succeeded
from tq.ports import Attachment, Continuation
from tq.runner.actions import Actions, Attempt, words_of
from tq.runner.alarms import Alarm, Alarms
from tq.runner.events import Events
from tq.runner.execution import Execution, Interruption
from tq.runner.invoke import Resources, interrupted_outcome, invoke, invoke_group
from tq.runner.outside import Outside
from tq.runner.registry import Registration
from tq.runner.slots import Line, Slots

__all__ = ["WITHIN", "Bodies", "Finish", "HandOver", "Write"]

log = logging.getLogger("tq.runner")

WITHIN: ContextVar[bool] = ContextVar("tq_within", default=False)
"""Whether this code is run by a worker, and must not wait for what that worker has yet to do."""

SLICE = 0.01
"""Seconds after which the event loop has its turn, however many bodies could be started."""

Finish = Callable[[Execution, Outcome], None]


class Write(Protocol):
    """Writes effects with the next hop and returns when they are written."""

    async def __call__(self, effects: Effects) -> bool: ...


class HandOver(Protocol):
    """Moves a running execution into the care of the `AsyncTaskManager`; False when it has to stay."""

    async def __call__(self, execution: Execution) -> bool: ...


class Bodies:
    """Starts what has a slot, and frees the slot when the body has really ended."""

    def __init__(
        self,
        *,
        clock: Clock,
        slots: Slots,
        spawner: Spawner,
        alarms: Alarms,
        events: Events,
        outside: Outside,
        threads: Executor,
        resources: Resources,
        continuations: Sequence[Continuation],
        attachment: Attachment | None,
        finish: Finish,
        write: Write,
        hand_over: HandOver,
        look: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._slots = slots
        self._spawner = spawner
        self._alarms = alarms
        self._events = events
        self._outside = outside
        self._worker_id = outside.worker_id
        self._threads = threads
        self._resources = resources
        self._continuations = continuations
        self._attachment = attachment
        self._finish = finish
        self._write = write
        self._hand_over = hand_over
        self._look = look
        self._context = copy_context()
        self._context.run(WITHIN.set, True)  # noqa: FBT003 -- what it is set to
        """What bodies find around them: nothing of the body before, nor of whoever freed their slot."""
        self._starting = False
        """Whether the event loop was asked to start what is ready."""

    def start_ready(self) -> None:
        """See to it that every body that has a slot is started, when the event loop comes round."""
        if not self._starting and self._slots.ready:
            self._starting = True
            asyncio.get_running_loop().call_soon(self._start)

    def _start(self) -> None:
        """Start bodies, each in an asyncio task of its own that runs at once, up to where it first waits.

        Called by the event loop, which has its turn again after a while, whatever is left.
        """
        loop, until = asyncio.get_running_loop(), self._clock.now() + SLICE
        try:
            while not self._spawner.closed and (line := self._slots.start()) is not None:
                if line.registration.options.multiple:
                    self._spawner.spawn(self._run_group(line, self._slots.group(line)), "tq", self._context.copy())
                    continue
                execution = line.waiting.popleft()
                execution.body_task = self._spawner.begin(self._run(line, execution), loop, self._context.copy())
                if execution.started_at >= until:
                    break
        finally:
            self._starting = False
            if not self._spawner.closed:
                self.start_ready()

    # --- one task -------------------------------------------------------------------------------------------------

    async def _run(self, line: Line, execution: Execution) -> None:
        registration = line.registration
        execution.started_at = self._clock.now()
        alarms = self._set_alarms(line, execution) if registration.timed else ()
        try:
            if execution.concerns_others or self._events.wants_started:
                outcome = await self._prepared(execution, registration)
            else:
                outcome = self._checked(execution, registration)
            if outcome is None:
                bind(self._log_context(execution))  # until the end of the body, whose context nobody shares
                actions = self._actions(execution) if registration.takes_actions else None
                outcome = await invoke(execution, registration, actions, self._resources, self._threads)
        except asyncio.CancelledError as error:
            outcome = interrupted_outcome(execution, error)
        except Exception as error:  # noqa: BLE001 -- whatever it is: a task that never ended would keep its slot
            outcome = _unfit(execution, error)
        finally:
            for alarm in alarms:
                alarm.cancel()
        if execution.interrupted is not None and (current := asyncio.current_task()) is not None:
            current.uncancel()
        execution.body_task = None  # what was begun and is kept for the hop makes the garbage collector look at it
        try:
            self._finish(execution, outcome)
        finally:
            self._free(line, execution)

    def _set_alarms(self, line: Line, execution: Execution) -> tuple[Alarm, ...]:
        options = line.registration.options
        alarms: list[Alarm] = []
        if options.timeout is not None:
            alarms.append(self._alarms.after(options.timeout, lambda: self._timed_out(execution)))
        if options.handoff_timeout is not None:
            alarms.append(self._alarms.after(options.handoff_timeout, lambda: self._over(line, execution)))
        return tuple(alarms)

    def _free(self, line: Line, execution: Execution) -> None:
        if not execution.slot_freed:
            execution.slot_freed = True
            self._slots.overdue -= execution.overdue
            self._slots.end(line)
            if line.limited or execution.interrupted is not None:
                # While its line was full, claims were told nothing of what waits for it; of its end no hop may come.
                self._look()
        if not self._starting:
            self.start_ready()

    async def _prepared(self, execution: Execution, registration: Registration) -> Outcome | None:
        """Check the payload and write what a start brings; return an outcome if it must not run."""
        outcome = await self._given_payload(execution, registration)
        if outcome is not None:
            return outcome
        if effects := self._begun(execution):
            await self._write_quietly(effects)
        if self._events.wants_started:
            await self._events.task_started(execution.task, execution.started_at)
        return None

    async def _given_payload(self, execution: Execution, registration: Registration) -> Outcome | None:
        """Give the execution its checked payload, and a join its results."""
        if self._attachment is None or not execution.is_join or execution.interrupted is not None:
            return self._checked(execution, registration)
        try:
            execution.attached = await self._attachment.attach(execution.task)
            execution.give_payload(registration.shape.load_value(execution.attached))
        except (PayloadError, FlowError) as error:
            return Failed(str(error), final=True, exception=error)
        except BackendError as error:
            log.warning("task %s cannot be prepared and is given back: %s", execution.id, error)
            return Released(delay=1.0, reason=str(error))
        return None

    def _checked(self, execution: Execution, registration: Registration) -> Outcome | None:
        if execution.interrupted is not None:
            return interrupted_outcome(execution, None)
        try:
            execution.give_payload(registration.load(execution.body["payload"]))
        except PayloadError as error:
            return Failed(str(error), final=True, exception=error)
        return None

    def _begun(self, execution: Execution) -> Effects:
        """Return what is written before the body runs: nothing, for tasks without a flow or an entity."""
        effects = NO_EFFECTS
        if execution.concerns_others:
            for continuation in self._continuations:
                effects += continuation.begin(execution.task, execution.started_at)
        return effects

    async def _write_quietly(self, effects: Effects) -> None:
        with suppress(BackendError):  # a row that cannot be written never disturbs the task (ENT-09)
            await self._write(effects)

    def _actions(self, execution: Execution) -> Actions:
        attempt = execution.attempt = Attempt(execution.task)
        return Actions({execution.id: attempt}, attempt, self._outside, execution.consumer_id)

    def _log_context(self, execution: Execution) -> Mapping[str, str]:
        """Return what every log line of the body carries (LOG-02 … LOG-04): runtime keys win."""
        runtime = {
            "task_id": execution.id,
            "task_type": execution.body["type"],
            "worker_id": self._worker_id,
        }
        return {**execution.log_context, **runtime} if execution.concerns_others else runtime

    # --- time -----------------------------------------------------------------------------------------------------

    def _timed_out(self, execution: Execution) -> None:
        """Cancel the body; when it has not ended after the grace, settle without it. Its slot stays taken."""
        execution.interrupt(Interruption.TIMEOUT)
        self.settle_after_grace(execution)

    def settle_after_grace(self, execution: Execution) -> None:
        """Settle an interrupted execution once its `cancel_grace` is over, whether its body has ended or not."""
        registration = execution.registration
        grace = registration.options.cancel_grace if registration is not None else 10.0

        def over() -> None:
            if not execution.settled:
                log.warning("task %s was cancelled and has not ended; it is settled without it", execution.id)
                self._finish(execution, interrupted_outcome(execution, None))
                self.left_behind(execution)

        self._alarms.after(grace, over)

    def left_behind(self, execution: Execution) -> None:
        """Count the slot of a body that goes on although its task is settled."""
        if execution.settled and execution.body_task is not None and not execution.slot_freed:
            execution.overdue = True
            self._slots.overdue += 1

    def _over(self, line: Line, execution: Execution) -> None:
        """The body took longer than `handoff_timeout`: try to move it, and free its slot if it moved."""

        async def move() -> None:
            if await self._hand_over(execution):
                self._free(line, execution)
                self._look()
            elif not execution.settled:
                self._alarms.after(1.0, lambda: self._over(line, execution))  # it waits in line (D-20)

        if not execution.settled and not execution.handed_off:
            self._spawner.spawn(move(), "hand-over")

    # --- a group --------------------------------------------------------------------------------------------------

    async def _run_group(self, line: Line, group: Sequence[Execution]) -> None:
        size = len(group)
        try:
            ready, started_at = await self._ready_members(line.registration, group)
            early = min(size - len(ready), size - 1)  # these have ended, and stand beside nobody any more
            self._slots.beside -= early
            size -= early
            if ready:
                await self._run_ready(line.registration, ready, started_at, line.registration.options.timeout)
        except asyncio.CancelledError as error:
            for execution in group:
                self._finish(execution, interrupted_outcome(execution, error))
        except Exception as error:  # noqa: BLE001 -- as above
            for execution in group:
                self._finish(execution, _unfit(execution, error))
        self._slots.overdue -= sum(execution.overdue for execution in group)
        self._slots.end(line, size)
        self._look()
        self.start_ready()

    async def _ready_members(
        self, registration: Registration, group: Sequence[Execution]
    ) -> tuple[list[Execution], float]:
        """Return those whose payloads fit, and the instant at which they start; end the others."""
        started_at = self._clock.now()
        ready: list[Execution] = []
        effects = NO_EFFECTS
        for execution in group:
            execution.started_at = started_at
            try:
                outcome = await self._given_payload(execution, registration)
                begun = NO_EFFECTS if outcome is not None else self._begun(execution)
            except Exception as error:  # noqa: BLE001 -- as above
                outcome, begun = _unfit(execution, error), NO_EFFECTS
            if outcome is not None:
                self._finish(execution, outcome)
            else:
                ready.append(execution)
                effects += begun
        if effects:
            await self._write_quietly(effects)
        return ready, started_at

    def _group_timed_out(self, group: Sequence[Execution]) -> None:
        for execution in group:
            self._timed_out(execution)

    async def _run_ready(
        self, registration: Registration, ready: list[Execution], started_at: float, timeout: float | None
    ) -> None:
        attempts = {execution.id: Attempt(execution.task) for execution in ready}
        for execution in ready:
            execution.attempt = attempts[execution.id]
            execution.body_task, execution.shares_body = asyncio.current_task(), True
        tasks, begun = [execution.task for execution in ready], self._clock.monotonic()
        actions = Actions(attempts, attempts[ready[0].id], self._outside, ready[0].consumer_id, of_group=True)
        alarm = None
        if timeout is not None:
            alarm = self._alarms.after(timeout, lambda: self._group_timed_out(ready))
        if self._events.wants_started:
            for task in tasks:
                await self._events.task_started(task, started_at)
        if self._events.wants_groups:
            await self._events.task_batch_started(registration.type, registration.queue, tasks, started_at)
        token = bind({"worker_id": self._worker_id, "batch_size": str(len(ready))})
        try:
            outcomes = await invoke_group(
                ready, registration, actions, list(attempts.values()), self._resources, self._threads
            )
        except asyncio.CancelledError as error:
            outcomes = [interrupted_outcome(execution, error) for execution in ready]
        finally:
            reset(token)
            if alarm is not None:
                alarm.cancel()
        for execution, outcome in zip(ready, outcomes, strict=True):
            self._finish(execution, outcome)
        if self._events.wants_groups:
            ended = dict(zip([execution.id for execution in ready], outcomes, strict=True))
            await self._events.task_batch_completed(
                registration.type,
                registration.queue,
                tasks,
                succeeded=[id for id, outcome in ended.items() if isinstance(outcome, Succeeded)],
                failed=[id for id, outcome in ended.items() if isinstance(outcome, Failed)],
                duration=self._clock.monotonic() - begun,
            )


def _unfit(execution: Execution, error: Exception) -> Failed:
    """Return the end of a task that cannot even be begun: unended, it would keep its slot and its lease for ever."""
    log.error("task %s cannot be run; it ends as a dead letter", execution.id, exc_info=error)
    return Failed(f"it could not be run: {words_of(error)}", final=True, exception=error)
