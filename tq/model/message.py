"""A task on its way: what queues and stores keep, hand out, re-arm and give back.

Named tuples: a worker makes several of them for every task, and a tuple is the cheapest immutable value there is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

__all__ = ["Claim", "Delivery", "Message", "Place", "Rearm", "Receipt", "Renewal", "State", "Whereabouts"]


class Place(StrEnum):
    """Which of the two custodians handed a delivery out."""

    QUEUE = "queue"
    STORE = "store"


class Message(NamedTuple):
    """One attempt of one task. Its body never changes; `stats` carries what earlier attempts left behind."""

    id: str
    queue: str
    type: str
    body: bytes
    """The encoded task (`tq.codec`)."""
    run_at: float
    """Instant before which it must not be handed out."""
    generation: int = 0
    attempt: int = 0
    """Retries consumed so far: 0 for the first attempt."""
    lane: str = ""
    """Messages of one lane are handed out one at a time, in the order in which they were added; "" is no lane."""
    stats: bytes = b""
    """JSON object of `execution_stats`, or empty."""
    fence: int = 0
    """Times it had been handed out when it was made or revived: a revived message goes on counting."""


class Receipt(NamedTuple):
    """What entitles its holder to settle a delivery: the message's id and the token of the claim."""

    id: str
    token: str


class Delivery(NamedTuple):
    """A message handed out under a lease."""

    message: Message
    token: str
    fence: int
    """Times the message was handed out, this one included: rises with every hand-out, never falls."""
    crashes: int = 0
    """Leases that ran out without being released."""
    solo_crashes: int = 0
    """Those of them that ran out while the message was marked as running alone."""
    unknown_since: float = 0.0
    """Instant at which a worker first gave it back because it did not know it; 0 for never."""
    cancelled: bool = False
    """A cancel was asked for: end it, do not run it."""
    place: Place = Place.QUEUE

    @property
    def receipt(self) -> Receipt:
        return Receipt(self.message.id, self.token)


class Rearm(NamedTuple):
    """Gives a message back under its token: due again at `run_at`, with this attempt and these stats.

    A retry raises the attempt, a release leaves it. Neither counts as a crash.
    """

    run_at: float
    attempt: int
    stats: bytes
    unknown_since: float = 0.0


class Claim(NamedTuple):
    """Asks for due messages.

    Order of hand-out: by `run_at`, then by order of adding. A claim first takes back what a dead worker left: messages
    whose lease has run out become due again, with `crashes` + 1 (and `solo_crashes` + 1 if marked as running alone).
    """

    queues: tuple[str, ...]
    limit: int
    token: str
    """Set on every message handed out. Begins with the worker's id and a colon; a worker never uses one twice."""
    lease: float
    """Seconds from the custodian's own present until the lease runs out."""
    caps: Mapping[tuple[str, str], int] = MappingProxyType({})
    """Most of a (queue, type) that may be handed out, where this worker has fewer slots for it than `limit`."""

    @property
    def worker(self) -> str:
        return self.token.partition(":")[0]

    def after(self, deliveries: Sequence[Delivery]) -> Claim:
        """Return what is left to ask another custodian for, once these came."""
        left = self.limit - len(deliveries)
        if not self.caps or not deliveries:
            return self._replace(limit=left)
        came = Counter((delivery.message.queue, delivery.message.type) for delivery in deliveries)
        return self._replace(limit=left, caps={kind: max(cap - came[kind], 0) for kind, cap in self.caps.items()})


class Renewal(NamedTuple):
    """The answer to a renewal: receipts that no longer hold, and deliveries whose cancel was asked for."""

    lost: tuple[Receipt, ...] = ()
    cancelled: tuple[Receipt, ...] = ()


class State(StrEnum):
    """What a custodian is doing with a message."""

    WAITING = "waiting"
    RUNNING = "running"
    HELD = "held"


class Whereabouts(NamedTuple):
    """Where a live message is, for status and for explaining."""

    id: str
    queue: str
    type: str
    state: State
    run_at: float
    generation: int
    attempt: int
    lease_until: float = 0.0
    token: str = ""
    crashes: int = 0
    held_by: str = ""
    """The flow whose end a held task waits for."""
    cancelled: bool = False
    stats: bytes = b""
    place: Place = Place.QUEUE
