"""What a reader leaves beside its checkpoint: enough to count crashes of messages that nobody counts elsewhere (D-66).

A stream counts nothing, and a process that dies says nothing. So before records are handed out, the lease says how far
they go (`seen`). Whoever reads on after a death counts one for everything up to there; after a hand-over a hand-out,
but no crash. That may suspect a neighbour, never convict it: only what runs alone is convicted, and is noted by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from tq.codec import dumps, loads
from tq.errors import WireError

from .position import up_to
from .window import Past

__all__ = ["Bound", "Note"]

BOUNDS = 20
"""Readers that are remembered one by one; older ones count for the same records as the oldest of these."""


class Bound(NamedTuple):
    """Readers that came as far as this position."""

    position: str
    readers: int
    deaths: int


class Note(NamedTuple):
    """The note of one lease; its text stands in `ShardLease.note`."""

    seen: str = ""
    """The last position whose records may have been handed out by the present reader."""
    bounds: tuple[Bound, ...] = ()
    """Former readers, the furthest first."""
    alone: tuple[str, ...] = ()
    """Places of messages that run alone at present."""
    solo: tuple[tuple[str, int], ...] = ()
    """Places of messages that died alone, and how often."""

    @classmethod
    def read(cls, text: str) -> Note:
        """Return the note of a text; of a text that is none, an empty one: counts are lost, never messages."""
        try:
            found: Any = loads(text.encode()) if text else {}
            fields = cast("Mapping[str, Any]", found)
            return cls(
                str(fields.get("seen", "")),
                tuple(
                    Bound(str(place), int(readers), int(deaths)) for place, readers, deaths in fields.get("bounds", ())
                ),
                tuple(str(place) for place in fields.get("alone", ())),
                tuple((str(place), int(times)) for place, times in fields.get("solo", ())),
            )
        except (WireError, AttributeError, TypeError, ValueError):
            return cls()

    @property
    def text(self) -> str:
        """The note as it is written; "" for an empty one."""
        fields = {
            "seen": self.seen,
            "bounds": [list(bound) for bound in self.bounds],
            "alone": list(self.alone),
            "solo": [list(times) for times in self.solo],
        }
        fields = {name: value for name, value in fields.items() if value}
        return dumps(fields).decode() if fields else ""

    def past(self, position: str, number: int) -> Past:
        """Return what is known of a message at this place."""
        reached = [bound for bound in self.bounds if up_to(position, bound.position)]
        solo = dict(self.solo).get(f"{position}/{number}", 0)
        return Past(sum(bound.readers for bound in reached), sum(bound.deaths for bound in reached), solo)

    def after(self, checkpoint: str) -> Note:
        """Return what is still of interest once everything up to there has ended."""
        return Note(
            "" if up_to(self.seen, checkpoint) else self.seen,
            tuple(bound for bound in self.bounds if not up_to(bound.position, checkpoint)),
            tuple(place for place in self.alone if not up_to(_position(place), checkpoint)),
            tuple((place, times) for place, times in self.solo if not up_to(_position(place), checkpoint)),
        )

    def inherited(self, *, died: bool) -> Note:
        """Return the note with which the next reader begins."""
        bounds = self.bounds
        if self.seen:
            bounds = _joined([*bounds, Bound(self.seen, 1, int(died))])
        solo = dict(self.solo)
        for place in self.alone if died else ():
            solo[place] = solo.get(place, 0) + 1
        return Note("", bounds, (), tuple(solo.items()))


def _joined(bounds: list[Bound]) -> tuple[Bound, ...]:
    """Return the bounds by position, the furthest first, each position once; what is too much joins the last."""
    found: dict[str, Bound] = {}
    for bound in sorted(bounds, key=lambda it: int(it.position), reverse=True):
        place = bound.position if bound.position in found or len(found) < BOUNDS else list(found)[-1]
        before = found.get(place, Bound(place, 0, 0))
        found[place] = Bound(place, before.readers + bound.readers, before.deaths + bound.deaths)
    return tuple(found.values())


def _position(place: str) -> str:
    return place.partition("/")[0]
