"""The claim as arguments, and what was handed out as deliveries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tq.model import Claim, Delivery, Place
from tq.ports import Claimed

from .arguments import as_number, counted, read_receipts
from .packing import SEQ, unpack_message, unpack_state
from .server import Argument

__all__ = ["claim_arguments", "read_claimed"]

# Every task passes here, and a tuple made as what it is costs half of what a call by name does.
_made = tuple.__new__  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] -- items of any type


def claim_arguments(claim: Claim) -> Iterator[Argument]:
    """Give what is asked for."""
    yield from (claim.token, max(claim.limit, 0), as_number(claim.lease))
    yield from counted(claim.queues)
    yield len(claim.caps)
    for (queue, type), cap in claim.caps.items():
        yield from (queue, type, max(cap, 0))


def read_claimed(token: str, claimed: Any, place: Place) -> Claimed:
    """Return what was handed out under this token."""
    ids, heads, bodies, states, cancelled, next_due, told = claimed
    deliveries: list[Delivery] = []
    for number, (id, head, body) in enumerate(zip(ids, heads, bodies, strict=True)):
        if head is None or body is None:  # somebody has removed it by hand
            continue
        state = unpack_state(states[number]) if states and states[number] is not None else None
        ended = False if not cancelled else cancelled[number] == 1
        message = unpack_message(id.decode(), head, SEQ, state, body)
        counts = (1, 0, 0, 0.0) if state is None else (state[3] + 1, state[4], state[5], state[1])
        deliveries.append(_made(Delivery, (message, token, message[9] + counts[0], *counts[1:], ended, place)))
    return Claimed(deliveries, float(next_due) if next_due else None, tuple(read_receipts(told)))
