"""The claim: take back what dead workers left, choose what is due, hand it out under a lease."""

from __future__ import annotations

from heapq import heapify, heappop, heappush, heapreplace

from tq.model import Claim, Delivery, State
from tq.model.named import make
from tq.ports import Claimed

from .messages import Messages
from .shelf import Entry, Lease, Queue, Shelf

__all__ = ["hand_out"]

Head = tuple[Entry, Shelf, Queue]


def hand_out(messages: Messages, claim: Claim, now: float) -> Claimed:
    """Hand out due messages: those that came due first before the others."""
    queues = served(messages, claim)
    for queue in queues.values():
        if queue.leases and queue.leases[0][0] <= now:
            take_back(messages, queue, now)
    deliveries: list[Delivery] = []
    heads = due_heads(queues, claim, now)
    capped = caps_of(queues, claim)
    leases: dict[Queue, Lease] = {}
    while heads and len(deliveries) < claim.limit:
        entry, shelf, queue = heads[0]
        lease = leases.get(queue)
        if lease is None:
            lease = leases[queue] = Lease(claim.token, now + claim.lease)
        # This shelf is next until its head comes after the second best.
        bound = min(heads[1:3])[0] if len(heads) > 1 else None
        limit = claim.limit
        if (left := capped.get(shelf)) is not None:
            limit = min(limit, len(deliveries) + left)
        before = len(deliveries)
        take(shelf, lease, deliveries, limit, now, bound)
        if left is not None:
            capped[shelf] = left - (len(deliveries) - before)
        head = shelf.head()
        if head is None or head[0] > now or capped.get(shelf) == 0:
            heappop(heads)
        elif head is not entry:
            heapreplace(heads, (head, shelf, queue))
    for queue, lease in leases.items():
        if lease.rows:
            heappush(queue.leases, (lease.until, messages.number(), lease))
    for delivery in deliveries:
        if delivery.cancelled:
            messages.tell(messages.rows[delivery.message.id])
    short = len(deliveries) < claim.limit
    return Claimed(deliveries, next_due(queues, capped) if short else None, messages.cancelled(claim.worker))


def served(messages: Messages, claim: Claim) -> dict[str, Queue]:
    """Return the queues that this claim may be served from."""
    found: dict[str, Queue] = {}
    for name in claim.queues:
        queue = messages.queues.get(name)
        if queue is not None and name not in messages.paused:
            found[name] = queue
    return found


def take_back(messages: Messages, queue: Queue, now: float) -> None:
    """Make due again what was left under leases that have run out."""
    leases = queue.leases
    while leases and leases[0][0] <= now:
        _, number, lease = heappop(leases)
        for row in list(lease.rows.values()):
            if row.until <= now:
                messages.expire(row, now)
        if lease.rows:
            lease.renewed = False
            lease.until = min([row.until for row in lease.rows.values()])
            heappush(leases, (lease.until, number, lease))


def due_heads(queues: dict[str, Queue], claim: Claim, now: float) -> list[Head]:
    """Return, as a heap, the first entry of every shelf that has something due and a free slot at the worker."""
    heads: list[Head] = []
    for name, queue in queues.items():
        for type, shelf in queue.shelves.items():
            if claim.caps.get((name, type)) == 0:
                continue
            head = shelf.head()
            if head is not None and head[0] <= now:
                heads.append((head, shelf, queue))
    heapify(heads)
    return heads


def take(shelf: Shelf, lease: Lease, deliveries: list[Delivery], limit: int, now: float, bound: Entry | None) -> None:
    """Hand out what is due on one shelf, up to what comes after `bound`. The hot path: nothing is copied."""
    line, heap, rows = shelf.line, shelf.heap, lease.rows
    token, until = lease.token, lease.until
    waiting, running = State.WAITING, State.RUNNING
    while len(deliveries) < limit:
        if line and not (heap and heap[0] < line[0]):
            entry = line[0]
            if entry[0] > now or (bound is not None and entry > bound):
                break
            line.popleft()
        elif heap:
            entry = heap[0]
            if entry[0] > now or (bound is not None and entry > bound):
                break
            heappop(heap)
        else:
            break
        due, _, row = entry
        if row.state is not waiting or row.due != due:
            continue  # stale
        message = row.message
        row.state = running
        row.token = token
        row.until = until
        row.lease = lease
        row.fence = fence = row.fence + 1
        rows[message[0]] = row
        deliveries.append(
            make(
                Delivery,
                (message, token, fence, row.crashes, row.solo_crashes, row.unknown_since, row.cancelled, row.place),
            )
        )


def caps_of(queues: dict[str, Queue], claim: Claim) -> dict[Shelf, int]:
    """Return how many may yet be handed out of the shelves that have a cap."""
    found: dict[Shelf, int] = {}
    for (name, type), cap in claim.caps.items():
        queue = queues.get(name)
        shelf = None if queue is None else queue.shelves.get(type)
        if shelf is not None:
            found[shelf] = max(cap, 0)
    return found


def next_due(queues: dict[str, Queue], capped: dict[Shelf, int]) -> float | None:
    """Return when something will fall due: the next of each shelf, or the first lease to run out.

    A shelf whose cap is reached has nothing to say: the worker knows when it has a slot again.
    """
    instants: list[float] = []
    for queue in queues.values():
        for type, shelf in list(queue.shelves.items()):
            head = shelf.head()
            if head is None:
                del queue.shelves[type]  # types may come and go; shelves must not pile up
            elif capped.get(shelf) != 0:
                instants.append(head[0])
        end = queue.first_end()
        if end is not None:
            instants.append(end)
    return min(instants, default=None)
