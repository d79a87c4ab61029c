"""What waits on one queue, by type, in the order of handing out; and the leases of what runs.

What is due already comes in order, and goes to the end of a line; only the rest needs a heap. Entries whose row has
moved on are left where they are and skipped when they come up.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush

from tq.model import Message, Place, State

__all__ = ["Entry", "Lease", "Queue", "Row", "Shelf"]


class Row:
    """A live message and where it stands."""

    __slots__ = (
        "cancelled",
        "crashes",
        "due",
        "fence",
        "held_by",
        "lease",
        "message",
        "place",
        "seq",
        "solo",
        "solo_crashes",
        "state",
        "token",
        "unknown_since",
        "until",
    )

    def __init__(self, message: Message, seq: int, place: Place) -> None:
        self.message = message
        self.seq = seq
        self.place = place
        self.due = message.run_at
        self.fence = message.fence
        self.state = State.WAITING
        self.token = ""
        self.until = 0.0
        self.lease: Lease | None = None
        self.crashes = 0
        self.solo_crashes = 0
        self.solo = False
        self.unknown_since = 0.0
        self.cancelled = False
        self.held_by = ""


Entry = tuple[float, int, Row]
"""(due, seq, row): stale unless the row waits and is due then."""


class Lease:
    """Messages handed out together; `until` is no later than the first of their leases ends."""

    __slots__ = ("renewed", "rows", "token", "until")

    def __init__(self, token: str, until: float) -> None:
        self.token = token
        self.until = until
        self.rows: dict[str, Row] = {}
        self.renewed = False


class Shelf:
    """The waiting messages of one queue and type."""

    __slots__ = ("heap", "line")

    def __init__(self) -> None:
        self.line: deque[Entry] = deque()
        self.heap: list[Entry] = []

    def push(self, row: Row, now: float) -> None:
        """Let a row wait."""
        entry = (row.due, row.seq, row)
        if row.due <= now and (not self.line or self.line[-1] < entry):
            self.line.append(entry)
        else:
            heappush(self.heap, entry)

    def head(self) -> Entry | None:
        """Return the first entry, after dropping stale ones."""
        line, heap = self.line, self.heap
        while line and stale(line[0]):
            line.popleft()
        while heap and stale(heap[0]):
            heappop(heap)
        if line and (not heap or line[0] < heap[0]):
            return line[0]
        return heap[0] if heap else None


class Queue:
    """The shelves of one queue, and the leases on its messages."""

    __slots__ = ("leases", "shelves")

    def __init__(self) -> None:
        self.shelves: dict[str, Shelf] = {}
        self.leases: list[tuple[float, int, Lease]] = []

    def shelf(self, type: str) -> Shelf:
        """Return the shelf of a type."""
        found = self.shelves.get(type)
        if found is None:
            found = self.shelves[type] = Shelf()
        return found

    def first_end(self) -> float | None:
        """Return when the first lease ends; bounds are made exact as far as needed."""
        leases = self.leases
        while leases:
            until, number, lease = leases[0]
            if not lease.rows:
                heappop(leases)
            elif not lease.renewed:
                return until
            else:
                lease.renewed = False
                lease.until = min([row.until for row in lease.rows.values()])
                if lease.until <= until:
                    return until
                heappop(leases)
                heappush(leases, (lease.until, number, lease))
        return None


def stale(entry: Entry) -> bool:
    """Tell whether the row of an entry has moved on."""
    row = entry[2]
    return row.state is not State.WAITING or row.due != entry[0]
