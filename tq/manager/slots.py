"""Room for bodies outside the line: so many in all, so many of one type."""

from __future__ import annotations

from collections import Counter

__all__ = ["Slot", "Slots"]


class Slots:
    """Counts what is taken; a place is taken once and given back once."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.taken = 0
        self._by_type: Counter[str] = Counter()

    def free(self, type: str | None = None, limit: int | None = None) -> bool:
        """Tell whether there is room in all and, where a limit is given, for this type (D-27)."""
        if self.taken >= self.size:
            return False
        return type is None or limit is None or self._by_type[type] < limit

    def take(self, type: str) -> Slot:
        """Return a place; the caller has looked whether there is one."""
        self.taken += 1
        self._by_type[type] += 1
        return Slot(self, type)

    def give_back(self, type: str) -> None:
        """Take back a place."""
        self.taken -= 1
        self._by_type[type] -= 1
        if not self._by_type[type]:
            del self._by_type[type]  # types come and go; the count of those that went must not stay


class Slot:
    """A place that nobody else can take; give it to `handoff_task`, or release it."""

    __slots__ = ("_slots", "held", "type")

    def __init__(self, slots: Slots, type: str) -> None:
        self._slots: Slots | None = slots
        self.type = type
        self.held = False
        """Whether a tracked body holds it: then only the end of that body releases it."""

    def release(self) -> None:
        """Give the place back, unless a body holds it; may be called twice."""
        if not self.held:
            self.free()

    def free(self) -> None:
        """Give the place back, once."""
        slots, self._slots = self._slots, None
        if slots is not None:
            slots.give_back(self.type)
