"""Rows for a user's own projection provider leave by the outbox: written with the commit, fed in order afterwards."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tq.codec import encode_projection
from tq.model import Effects, Ended, Outgoing, Resolve, Task
from tq.ports import Continuation

__all__ = ["TOPIC", "Outboxed", "as_notes"]

TOPIC = "projection"


def as_notes(effects: Effects) -> Effects:
    """Return the effects with every projection row turned into a note of the outbox."""
    resolves = tuple(Resolve(item.task_id, item.flow_id, as_notes(item.effects)) for item in effects.resolves)
    notes = tuple(
        Outgoing(TOPIC, f"{row.task_id}:{row.version}", encode_projection(row)) for row in effects.projections
    )
    if not notes and not resolves:
        return effects
    return replace(effects, projections=(), outgoing=effects.outgoing + notes, resolves=resolves)


class Outboxed(Continuation):
    """A continuation whose rows become notes."""

    def __init__(self, inner: Continuation) -> None:
        self._inner = inner

    def begin(self, task: Task[Any], now: float) -> Effects:
        return as_notes(self._inner.begin(task, now))

    def follow(self, ended: Ended) -> Effects:
        return as_notes(self._inner.follow(ended))
