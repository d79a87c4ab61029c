"""Live messages: how they come in, how a delivery ends, and what is changed about them in between."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from heapq import heappush

from tq.model import Message, Place, Rearm, Receipt, Renewal, State

from .pages import Pages
from .shelf import Lease, Queue, Row

__all__ = ["Messages"]


class Messages:
    """One table of messages. Whoever calls holds the server's lock; nothing in here waits."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.pages: Pages[Row] = Pages(self.rows)
        self.queues: dict[str, Queue] = {}
        self.lanes: dict[str, deque[Row]] = {}
        self.paused: set[str] = set()
        self.told: dict[str, dict[str, Row]] = {}
        """Worker → what it runs and should not, by id."""
        self.changed = False
        """Whether something may fall due earlier than before."""
        self._seq = 0

    # --- coming in ------------------------------------------------------------------------------------------------

    def insert(self, message: Message, now: float, place: Place = Place.QUEUE) -> Row:
        """Add a message whose id is not live."""
        self._seq = seq = self._seq + 1
        self.rows[message.id] = row = Row(message, seq, place)
        if message.lane:
            line = self.lanes.setdefault(message.lane, deque())
            line.append(row)
            if line[0] is not row:
                return row
        self._push(row, now)
        return row

    def _push(self, row: Row, now: float) -> None:
        queue = self.queues.get(row.message.queue)
        if queue is None:
            queue = self.queues[row.message.queue] = Queue()
        queue.shelf(row.message.type).push(row, now)
        self.changed = True

    def append(self, lane: str, messages: Sequence[Message], now: float, taken: Iterable[str] = ()) -> bool:
        """Add behind the lane's messages; False where it has none."""
        if lane not in self.lanes:
            return False
        for message in messages:
            if message.id not in self.rows and message.id not in taken:
                self.insert(message, now, Place.STORE)
        return True

    def put(self, message: Message, flow_id: str, now: float) -> None:
        """Insert or, over an older execution, replace: whoever ran the older one has lost it."""
        row = self.rows.get(message.id)
        if row is None:
            row = self.insert(message, now, Place.STORE)
        elif (row.message.generation, row.message.attempt) < (message.generation, message.attempt):
            self._end_lease(row)
            # Queue, type and lane are what they were: a row stays on its shelf and in its lane.
            old = row.message
            row.message = message._replace(queue=old.queue, type=old.type, lane=old.lane)
            row.fence = max(row.fence, message.fence)
            row.place = Place.STORE
            self._wait(row, message.run_at, now)
        else:
            return
        if flow_id:
            self._hold(row, flow_id)

    def park(self, message: Message, token: str, until: float, now: float) -> bool:
        """Insert a message that is running; False where the id is live."""
        if message.id in self.rows:
            return False
        row = self.insert(message, now, Place.STORE)
        row.fence += 1
        self.lease(row, token, until)
        return True

    # --- leases ---------------------------------------------------------------------------------------------------

    def held(self, receipt: Receipt) -> Row | None:
        """Return the row that this receipt entitles to, or None: the lease was lost."""
        row = self.rows.get(receipt[0])
        return row if row is not None and row.token == receipt[1] and row.token else None

    def lease(self, row: Row, token: str, until: float) -> None:
        """Let a row run under a lease of its own, whatever its last one was; alone or not, as before."""
        solo = row.solo
        self._end_lease(row)
        row.solo = solo
        row.state = State.RUNNING
        row.token = token
        row.until = until
        row.lease = lease = Lease(token, until)
        lease.rows[row.message.id] = row
        heappush(self.queues[row.message.queue].leases, (until, self.number(), lease))

    def number(self) -> int:
        """Return a number that was never returned before."""
        self._seq += 1
        return self._seq

    def _end_lease(self, row: Row) -> None:
        if row.lease is not None:
            del row.lease.rows[row.message.id]
            row.lease = None
            row.token = ""
            row.until = 0.0
            row.solo = False

    def renew(self, receipts: Sequence[Receipt], until: float) -> Renewal:
        """Let leases run on until then."""
        lost: list[Receipt] = []
        cancelled: list[Receipt] = []
        for receipt in receipts:
            row = self.held(receipt)
            if row is None or row.lease is None:
                lost.append(receipt)
                continue
            if until < row.lease.until:  # the bound of its fellows no longer holds for it
                self.lease(row, row.token, until)
            row.until = until
            row.lease.renewed = True
            if row.cancelled:
                cancelled.append(receipt)
        return Renewal(tuple(lost), tuple(cancelled))

    def expire(self, row: Row, now: float) -> None:
        """Give back what a dead worker left: a crash is counted."""
        row.crashes += 1
        row.solo_crashes += row.solo
        self._end_lease(row)
        self._wait(row, row.message.run_at, now)

    # --- endings --------------------------------------------------------------------------------------------------

    def remove(self, row: Row, now: float) -> None:
        """End a message that runs or is held for good: it has no entry on its shelf that counts."""
        message = row.message
        del self.rows[message.id]
        if row.lease is not None:
            del row.lease.rows[message.id]
            row.lease = None
        row.token = ""
        if message.lane:
            self._leave_lane(row, now)

    def _leave_lane(self, row: Row, now: float) -> None:
        lane = row.message.lane
        line = self.lanes[lane]
        was_first = line[0] is row
        line.remove(row)
        if not line:
            del self.lanes[lane]
        elif was_first and line[0].state is State.WAITING:
            self._push(line[0], now)

    def rearm(self, row: Row, again: Rearm, now: float) -> None:
        """Give back a delivery, to be tried again."""
        self._end_lease(row)
        row.message = row.message._replace(run_at=again.run_at, attempt=again.attempt, stats=again.stats)
        row.unknown_since = again.unknown_since
        self._wait(row, again.run_at, now)

    def release(self, row: Row, now: float) -> None:
        """Give back a delivery, uncounted, due as it was."""
        self._end_lease(row)
        self._wait(row, row.message.run_at, now)

    def hold(self, row: Row, flow_id: str) -> None:
        """Keep a delivery, not to be handed out before the flow's end."""
        self._end_lease(row)
        self._hold(row, flow_id)

    def _hold(self, row: Row, flow_id: str) -> None:
        row.state = State.HELD
        row.held_by = flow_id

    def held_by(self, task_id: str, flow_id: str) -> Row | None:
        """Return the row if this flow holds it."""
        row = self.rows.get(task_id)
        return row if row is not None and row.state is State.HELD and row.held_by == flow_id else None

    def _wait(self, row: Row, due: float, now: float) -> None:
        """Let a row wait until it is due; a cancelled one is due at once: it only has to be ended."""
        row.state = State.WAITING
        row.held_by = ""
        row.due = min(due, now) if row.cancelled else due
        if not row.message.lane or self.lanes[row.message.lane][0] is row:
            self._push(row, now)

    # --- cancels --------------------------------------------------------------------------------------------------

    def cancel(self, ids: Sequence[str], now: float) -> list[str]:
        """Ask for these to end; return the ids found."""
        found: list[str] = []
        for task_id in dict.fromkeys(ids):
            row = self.rows.get(task_id)
            if row is None:
                continue
            found.append(task_id)
            if row.cancelled:
                continue
            row.cancelled = True
            if row.state is State.RUNNING:
                self.tell(row)
            elif row.state is State.WAITING and row.due > now:
                self._wait(row, now, now)
        return found

    def tell(self, row: Row) -> None:
        """Let the worker that runs this know that it should not."""
        worker = row.token.partition(":")[0]
        self.told.setdefault(worker, {})[row.message.id] = row

    def cancelled(self, worker: str) -> tuple[Receipt, ...]:
        """Return what this worker runs and should not."""
        rows = self.told.get(worker)
        if not rows:
            return ()
        receipts: list[Receipt] = []
        for task_id, row in list(rows.items()):
            if row.token.partition(":")[0] == worker:
                receipts.append(Receipt(task_id, row.token))
            else:
                del rows[task_id]
        if not rows:
            del self.told[worker]
        return tuple(receipts)
