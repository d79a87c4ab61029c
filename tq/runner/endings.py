"""Where executions end: each is settled once, and waits here, still under its lease, until a hop has written it."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence

from tq.clock import Clock
from tq.model import SUCCEEDED, Delivery, Failed, Outcome, Rearm, Receipt, Settlement, Succeeded
from tq.ports import Continuation
from tq.runner.actions import words_of
from tq.runner.commit import Pending
from tq.runner.execution import Execution, Interruption
from tq.runner.gate import policy_of
from tq.runner.settle import Said, done, settle

__all__ = ["Endings"]

log = logging.getLogger("tq.worker")

RETURN_AFTER = 5.0
_NOTHING_SAID = Said()


class Endings:
    """Holds what the worker has a lease on, and what of it is settled and not yet written."""

    def __init__(
        self, clock: Clock, continuations: Sequence[Continuation], rng: Callable[[], float] = random.random
    ) -> None:
        self._clock = clock
        self._continuations = tuple(continuations)
        self._rng = rng
        self.held: dict[str, Execution] = {}
        """Deliveries whose lease is ours to renew, by task id."""
        self.pending: list[Pending] = []
        self.handed_off = 0
        """Those of them that run in the manager's care and take no slot."""
        self._unwritten = 0
        """Those of the others that are settled, and wait for the hop, or are in it."""
        self.lost: list[Execution] = []
        """Those that others have now, until somebody has taken note of it."""
        self.told: list[tuple[str, Outcome]] | None = None
        """How tasks ended, where somebody asked to be told."""

    @property
    def in_line(self) -> int:
        """What is held, without the long runs and without what is settled: they take no slot."""
        return len(self.held) - self.handed_off - self._unwritten

    def deliveries(self) -> list[Delivery]:
        """Return what is held; safe to call from another thread."""
        return [execution.delivery for execution in list(self.held.values())]

    def take(self) -> list[Pending]:
        """Return what is to be written now."""
        pending, self.pending = self.pending, []
        return pending

    def take_lost(self) -> list[Execution]:
        """Return those that others have now, once."""
        lost, self.lost = self.lost, []
        return lost

    def written(self, pending: Sequence[Pending]) -> None:
        """These are settled for good, or were refused: nobody's leases here."""
        held = self.held
        for item in pending:
            execution = item.execution
            if execution is not None and held.get(execution.id) is execution:
                del held[execution.id]
                self.handed_off -= execution.handed_off
                self._unwritten -= not execution.handed_off

    def let_go(self, receipt: Receipt) -> None:
        """The lease is of no more use: its settlement is written, or somebody else's is."""
        execution = self.held.get(receipt.id)
        if execution is not None and execution.delivery.token == receipt.token:
            del self.held[receipt.id]
            self.handed_off -= execution.handed_off

    def finish(self, execution: Execution, outcome: Outcome) -> bool:
        """Settle an execution once; False, and nothing, when it has ended before."""
        if execution.settled:
            return False
        execution.settled = True
        if self.told is not None:
            self.told.append((execution.id, outcome))
        said, attempt, registration = _NOTHING_SAID, execution.attempt, execution.registration
        if attempt is not None:
            attempt.revoked = True
            if attempt.outcome is outcome and (attempt.children or attempt.flows):
                # Without an outcome of its own an attempt drops what it said.
                said = Said(attempt.children, tuple(attempt.flows.values()))
        if execution.interrupted is Interruption.LOST:
            self.let_go(execution.delivery.receipt)
            self.lost.append(execution)
            log.warning("task %s lost its lease; its outcome has no effect here", execution.id)
            return True
        self._unwritten += not execution.handed_off
        if (
            isinstance(outcome, Succeeded)
            and said is _NOTHING_SAID
            and registration is not None
            and not execution.concerns_others
            and not outcome.dropped
        ):
            delivery, record = execution.delivery, None
            if outcome is not SUCCEEDED or not registration.leaves_nothing:
                message, now = delivery.message, self._clock.now()
                record = registration.policy.keep.record(message, delivery.fence, outcome, now, stats=message.stats)
            self.pending.append(Pending(done(delivery, record), execution, outcome))
        else:
            try:
                settlement = self._settlement(execution, outcome, said)
            except Exception as error:  # a continuation's fault must not leave a task without an end
                log.exception("what follows task %s cannot be decided; it ends as a dead letter", execution.id)
                why = f"what follows it could not be decided: {words_of(error)}"
                failed = Failed(why, final=True, exception=error)
                settlement = settle(execution.delivery, failed, policy_of(execution), self._clock.now())
            self.pending.append(Pending(settlement, execution, outcome))
        return True

    def _settlement(self, execution: Execution, outcome: Outcome, said: Said) -> Settlement:
        concerns_others = execution.concerns_others or said.flows
        return settle(
            execution.delivery,
            outcome,
            policy_of(execution),
            self._clock.now(),
            execution.ended_task if concerns_others else None,
            said,
            self._continuations,
            2.0 * self._rng() - 1.0 if isinstance(outcome, Failed) else 0.0,
        )

    def refused(self, execution: Execution, error: Exception) -> Pending:
        """The backend refuses what this task's ending holds: it ends as a dead letter with the server's error."""
        outcome = Failed(f"the outcome could not be stored: {error}", final=True, exception=error)
        return Pending(self._settlement(execution, outcome, _NOTHING_SAID), execution, outcome)

    def give_back(self, delivery: Delivery) -> None:
        """Return a delivery of a task whose body, under a lease that ran out, still runs here.

        To run it now would let two bodies of one task run side by side (INV-03).
        """
        message = delivery.message
        rearm = Rearm(self._clock.now() + RETURN_AFTER, message.attempt, message.stats)
        self.pending.append(Pending(Settlement(delivery.receipt, rearm, place=delivery.place, message=message)))
