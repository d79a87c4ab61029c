"""Kinds of tasks that this worker does not know: it lets others go first, who may know them."""

from __future__ import annotations

import math

from tq.clock import Clock
from tq.runner.execution import Execution

__all__ = ["Strangers"]

STEP_ASIDE = 0.5
"""Seconds for which a kind is left to others once it is due again."""


class Strangers:
    """Remembers what was given back, so that in a rolling deploy the old workers do not win every race for it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: dict[tuple[str, str], float] = {}

    def given_back(self, execution: Execution, delay: float) -> None:
        """Its task comes again in `delay` seconds. Of a known type only this body is not understood: others are."""
        if execution.registration is None:
            message = execution.delivery.message
            self._until[message.queue, message.type] = self._clock.now() + delay + STEP_ASIDE

    def caps(self) -> dict[tuple[str, str], int]:
        """Return what is not to be claimed now, as caps of zero."""
        if not self._until:
            return {}
        now = self._clock.now()
        self._until = {kind: until for kind, until in self._until.items() if until > now}
        return dict.fromkeys(self._until, 0)

    @property
    def until(self) -> float:
        """Return when the first of them may be claimed here again; infinite for never."""
        return min(self._until.values(), default=math.inf)
