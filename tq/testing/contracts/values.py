"""Small makers of values: a test names what it is about and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import count

from tq.model import (
    Batch,
    Claim,
    Delivery,
    Effects,
    Ending,
    Flow,
    Hop,
    Mark,
    Message,
    Place,
    Projection,
    Receipt,
    Record,
    Remove,
    Settlement,
    StepStatus,
    TaskStatus,
)
from tq.model.effects import NO_EFFECTS
from tq.ports import Backend, Custody

__all__ = [
    "add",
    "claim",
    "flow",
    "held",
    "hop",
    "ids",
    "mark",
    "message",
    "projection",
    "record",
    "settle",
    "settlement",
    "take",
    "write",
]

_tokens = count(1)


def message(
    id: str,
    at: float,
    *,
    queue: str = "q",
    type: str = "t",
    body: bytes = b'{"v":1}',
    generation: int = 0,
    attempt: int = 0,
    lane: str = "",
    stats: bytes = b"",
    fence: int = 0,
) -> Message:
    """Return a message that is due at `at`."""
    return Message(id, queue, type, body, at, generation, attempt, lane, stats, fence)


def claim(
    limit: int = 100,
    *,
    lease: float,
    worker: str = "w",
    queues: Sequence[str] = ("q",),
    exclude: Iterable[tuple[str, str]] = (),
    caps: Mapping[tuple[str, str], int] | None = None,
) -> Claim:
    """Return a claim with a token that was never used."""
    return Claim(tuple(queues), limit, f"{worker}:{next(_tokens)}", lease, dict.fromkeys(exclude, 0) | dict(caps or {}))


async def add(custody: Custody, *messages: Message) -> list[str]:
    """Add messages."""
    return await custody.add(messages)


async def take(
    custody: Custody,
    limit: int = 100,
    *,
    lease: float,
    worker: str = "w",
    queues: Sequence[str] = ("q",),
    exclude: Iterable[tuple[str, str]] = (),
    caps: Mapping[tuple[str, str], int] | None = None,
) -> list[Delivery]:
    """Claim messages."""
    asked = claim(limit, lease=lease, worker=worker, queues=queues, exclude=exclude, caps=caps)
    return (await custody.claim(asked)).deliveries


def ids(deliveries: Iterable[Delivery]) -> list[str]:
    """Return the ids of deliveries, in order."""
    return [delivery.message.id for delivery in deliveries]


def held(delivery: Delivery) -> list[Receipt]:
    """Return the receipt of a delivery, as the verbs take it."""
    return [delivery.receipt]


def record(
    id: str,
    at: float,
    *,
    status: TaskStatus = TaskStatus.FAILED,
    expires_at: float | None = None,
    queue: str = "q",
    type: str = "t",
    generation: int = 0,
    attempt: int = 0,
    fence: int = 0,
    dead: bool = False,
    result: bytes | None = None,
    error: str | None = None,
    stats: bytes = b"",
    body: bytes | None = None,
) -> Record:
    """Return a record that retention keeps for a day, unless told otherwise."""
    expires = at + 86_400.0 if expires_at is None else expires_at
    return Record(id, queue, type, status, at, expires, generation, attempt, fence, dead, result, error, stats, body)


def flow(
    id: str,
    total: int,
    at: float,
    *,
    allowed: int | None = None,
    needed: int | None = None,
    deadline: float | None = None,
    cancel_siblings: bool = False,
    parent: str = "",
    chunks: int = 0,
    plan: str = "",
) -> Flow:
    """Return a flow that bears every failure and needs every member, unless told otherwise."""
    return Flow(
        id=id,
        total=total,
        allowed=total if allowed is None else allowed,
        needed=total if needed is None else needed,
        join=message(f"{id}.join", at, type="join"),
        started_at=at,
        deadline=deadline,
        cancel_siblings=cancel_siblings,
        parent=parent,
        chunks=chunks,
        plan=plan,
        meta=b'{"about":"it"}',
    )


def mark(
    flow_id: str,
    index: int,
    status: StepStatus = StepStatus.SUCCESS,
    *,
    generation: int = 0,
    result: bytes | None = None,
    error: str | None = None,
) -> Mark:
    """Return the mark of a member that ended."""
    return Mark(flow_id, index, status, generation, result, error)


def projection(
    id: str,
    version: int,
    at: float,
    *,
    status: TaskStatus = TaskStatus.PROCESSING,
    entity: tuple[str, str] = ("Item", "item-1"),
    task_type: str = "t",
    payload: bytes | None = None,
    result: bytes | None = None,
    error: str | None = None,
) -> Projection:
    """Return a row."""
    return Projection(id, entity[1], entity[0], task_type, "q", status, version, at, at, payload, result, error)


# --- hops -------------------------------------------------------------------------------------------------------------


def settlement(delivery: Delivery, ending: Ending | None = None, effects: Effects = NO_EFFECTS) -> Settlement:
    """Return how a delivery ends: removed, unless told otherwise."""
    place: Place = delivery.place
    return Settlement(delivery.receipt, ending or Remove(), effects, place, delivery.message)


async def hop(backend: Backend, limit: int = 100, *, lease: float, worker: str = "w") -> Hop:
    """Claim by a hop that writes nothing."""
    return await backend.commit(Batch(), claim(limit, lease=lease, worker=worker))


async def settle(
    backend: Backend, delivery: Delivery, ending: Ending | None = None, effects: Effects = NO_EFFECTS
) -> Hop:
    """Settle one delivery by a hop of its own."""
    return await backend.commit(Batch(settlements=[settlement(delivery, ending, effects)]))


async def write(backend: Backend, effects: Effects) -> Hop:
    """Write effects that stand behind no lease."""
    return await backend.commit(Batch(effects=[effects]))
