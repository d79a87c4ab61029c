"""What stands in the file, and what the verbs of a queue do to it. Knows no file, and no time but what it is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from tq.model import Claim, Delivery, Message, Rearm, Receipt, State, Whereabouts
from tq.ports import Claimed

__all__ = ["Book", "Row"]


@dataclass(kw_only=True)
class Row:
    """A live message, and what has happened to it."""

    message: Message
    number: int
    """Its place in the order of adding."""
    due: float
    token: str = ""
    """The token of the claim that it runs under; empty while it waits."""
    until: float = 0.0
    """The end of that lease."""
    solo: bool = False
    fence: int = 0
    crashes: int = 0
    solo_crashes: int = 0
    unknown_since: float = 0.0
    cancelled: bool = False

    @property
    def receipt(self) -> Receipt:
        return Receipt(self.message.id, self.token)

    def wait(self, due: float, now: float) -> None:
        """Give it back, due then; a cancelled one is due at once: it only has to be ended."""
        self.due = min(due, now) if self.cancelled else due
        self.token, self.until, self.solo = "", 0.0, False


@dataclass(kw_only=True)
class Book:
    """Everything that is kept."""

    rows: dict[str, Row] = field(default_factory=dict[str, Row])
    numbers: int = 0
    paused: set[str] = field(default_factory=set[str])
    workers: dict[str, tuple[float, list[str]]] = field(default_factory=dict[str, tuple[float, list[str]]])
    """Who serves which queues, and until when that holds."""

    # --- coming in ----------------------------------------------------------------------------------------------------

    def add(self, message: Message) -> bool:
        """Insert; False where the id is live."""
        if message.id in self.rows:
            return False
        self.numbers += 1
        self.rows[message.id] = Row(message=message, number=self.numbers, due=message.run_at, fence=message.fence)
        return True

    # --- going out ----------------------------------------------------------------------------------------------------

    def claim(self, claim: Claim, now: float) -> Claimed:
        """Take back what the dead left, then hand out what is due: by `run_at`, then by order of adding."""
        served = [queue for queue in claim.queues if queue not in self.paused]
        told = [row.receipt for row in self.rows.values() if row.cancelled and row.token.startswith(f"{claim.worker}:")]
        for row in self.rows.values():
            if row.token and row.until <= now and row.message.queue in served:
                row.crashes += 1
                row.solo_crashes += row.solo
                row.wait(row.message.run_at, now)
        deliveries: list[Delivery] = []
        came = Counter[tuple[str, str]]()
        later: list[float] = [row.until for row in self.rows.values() if row.token and row.message.queue in served]
        for row in sorted(self._heads(served), key=lambda row: (row.due, row.number)):
            kind = row.message.queue, row.message.type
            if came[kind] >= claim.caps.get(kind, claim.limit):
                continue  # the worker knows by itself when it has a slot again
            if row.due > now:
                later.append(row.due)
            elif len(deliveries) < claim.limit:
                came[kind] += 1
                deliveries.append(self._hand_out(row, claim, now))
        short = len(deliveries) < claim.limit
        if short:
            later += [row.until for row in self.rows.values() if row.token == claim.token]
        told += [delivery.receipt for delivery in deliveries if delivery.cancelled]
        return Claimed(deliveries, min(later, default=None) if short else None, tuple(told))

    def _heads(self, served: list[str]) -> Iterator[Row]:
        """Yield what waits and may be handed out: of a lane, only the oldest message."""
        lanes: set[str] = set()
        for row in self.rows.values():  # in the order of adding
            lane = row.message.lane
            first = not lane or lane not in lanes
            lanes.add(lane)
            if first and not row.token and row.message.queue in served:
                yield row

    def _hand_out(self, row: Row, claim: Claim, now: float) -> Delivery:
        row.token, row.until = claim.token, now + claim.lease
        row.fence += 1
        return Delivery(
            row.message,
            row.token,
            row.fence,
            row.crashes,
            row.solo_crashes,
            row.unknown_since,
            row.cancelled,
        )

    # --- while it runs, and after -------------------------------------------------------------------------------------

    def held(self, receipt: Receipt) -> Row | None:
        """Return the row that this receipt entitles to, or None: the lease was lost."""
        row = self.rows.get(receipt.id)
        return row if row is not None and row.token and row.token == receipt.token else None

    def rearm(self, row: Row, again: Rearm, now: float) -> None:
        """Give a delivery back, to be tried again."""
        row.message = row.message._replace(run_at=again.run_at, attempt=again.attempt, stats=again.stats)
        row.unknown_since = again.unknown_since
        row.wait(again.run_at, now)

    def cancel(self, id: str, now: float) -> bool:
        """Ask for a message to end; False where there is none."""
        row = self.rows.get(id)
        if row is None:
            return False
        row.cancelled = True
        if not row.token:
            row.wait(row.due, now)
        return True

    # --- looking ------------------------------------------------------------------------------------------------------

    def whereabouts(self, row: Row) -> Whereabouts:
        """Return where a message is."""
        message = row.message
        return Whereabouts(
            id=message.id,
            queue=message.queue,
            type=message.type,
            state=State.RUNNING if row.token else State.WAITING,
            run_at=message.run_at if row.token else row.due,
            generation=message.generation,
            attempt=message.attempt,
            lease_until=row.until,
            token=row.token,
            crashes=row.crashes,
            cancelled=row.cancelled,
            stats=message.stats,
        )

    def counts(self, now: float) -> dict[str, dict[str, int]]:
        """Return, per queue, how many wait, are not due yet, and run; what waits for a flow is the store's."""
        found: dict[str, dict[str, int]] = {}
        for row in self.rows.values():
            kinds = found.setdefault(row.message.queue, {"waiting": 0, "delayed": 0, "running": 0, "held": 0})
            kinds["running" if row.token else "delayed" if row.due > now else "waiting"] += 1
        return found

    def announced(self, now: float) -> list[str]:
        """Return the queues that a live worker serves."""
        return sorted({queue for until, queues in self.workers.values() if until > now for queue in queues})
