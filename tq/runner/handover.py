"""Move a long task off its slot: custody to the store first, then the body into the manager's care (design 3)."""

from __future__ import annotations

import logging

from tq.clock import Clock
from tq.errors import BackendError, BackendUnavailableError
from tq.model import Delivery
from tq.ports import Backend
from tq.runner.bodies import Finish
from tq.runner.endings import Endings
from tq.runner.execution import Execution
from tq.runner.longruns import LongRuns
from tq.runner.report import Reporter

__all__ = ["HandOver"]

log = logging.getLogger("tq.worker")

AGAIN = 0.5
"""Seconds after which a call that was not answered is made again."""


class HandOver:
    """Hands executions over, one at a time each; what ends while its custody moves is settled under the new lease."""

    def __init__(
        self,
        *,
        backend: Backend,
        clock: Clock,
        lease: float,
        long_runs: LongRuns | None,
        endings: Endings,
        report: Reporter,
        finish: Finish,
    ) -> None:
        self._backend = backend
        self._clock = clock
        self._lease = lease
        self._long_runs = long_runs
        self._endings = endings
        self._report = report
        self._finish = finish

    async def __call__(self, execution: Execution) -> bool:
        """Move an execution; False where it has to stay: nobody has room for it, or its row cannot be written."""
        if self._long_runs is None or execution.settled:
            return False
        place = self._long_runs.reserve(execution)
        if place is None:
            return False
        execution.moving = True
        try:
            parked = await self._parked(execution)
            if parked is not None:
                brought_by, execution.delivery = execution.delivery.token, parked
                await self._report.handed_over(execution, brought_by)
                execution.handed_off = True
                self._endings.handed_off += 1
                if execution.ended_meanwhile is None:
                    place.occupy()
            return parked is not None
        finally:
            execution.moving = False
            place.release()
            if execution.ended_meanwhile is not None:
                self._finish(execution, execution.ended_meanwhile)

    async def _parked(self, execution: Execution) -> Delivery | None:
        """Ask until it is known whether it has moved; not for longer than a lease, nor once the body has ended.

        The token is the same each time, so that what was done and not answered is found to be ours. Until then nobody
        may believe that the lease was lost.
        """
        delivery, until = execution.delivery, self._clock.monotonic() + self._lease
        token = f"{delivery.token}.parked"
        while True:
            try:
                return await self._backend.park(delivery, token, self._lease)
            except BackendError as error:
                unsure = isinstance(error, BackendUnavailableError) and self._clock.monotonic() < until
                if not unsure or execution.ended_meanwhile is not None:
                    log.warning("task %s cannot be handed over yet: %s", execution.id, error)
                    return None
            await self._clock.sleep(AGAIN)
