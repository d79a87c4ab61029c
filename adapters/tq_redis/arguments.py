"""What verbs take and answer, piece by piece: made and read here, in the same order as in lua/."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import isnan
from typing import Any

from tq.errors import ContentRefusedError
from tq.model import Flow, FlowState, Mark, Message, Projection, Rearm, Receipt, Record, TaskStatus, Verdict

from .packing import pack_head, pack_join, pack_record, pack_result, pack_words, unpack_join, unpack_parts
from .server import Argument

__all__ = [
    "as_number",
    "counted",
    "flow_arguments",
    "mark_arguments",
    "message_arguments",
    "projection_arguments",
    "read_projection",
    "read_receipts",
    "read_states",
    "rearm_arguments",
    "record_arguments",
    "texts",
]


def as_number(value: float) -> str:
    """Return an instant, or seconds, as a script takes them.

    Raises:
        ContentRefusedError: it is no number; the server would find out when it has written something already.
    """
    if isnan(value):
        raise ContentRefusedError("an instant, or a number of seconds, is none: nan cannot be kept")
    return repr(value)


def counted(values: Sequence[Argument]) -> Iterator[Argument]:
    """Give a list: how many, then each."""
    yield len(values)
    yield from values


def texts(values: Iterable[bytes]) -> list[str]:
    """Return names that a script answered."""
    return [value.decode() for value in values]


def read_receipts(flat: Sequence[bytes]) -> list[Receipt]:
    """Return receipts from ids and tokens by turns."""
    return [Receipt(id.decode(), token.decode()) for id, token in zip(flat[::2], flat[1::2], strict=True)]


def message_arguments(messages: Iterable[Message]) -> list[Argument]:
    """Return of each message its id, its head and its body."""
    return [piece for message in messages for piece in (message[0], pack_head(message), message[3])]


def record_arguments(records: Iterable[Record]) -> list[Argument]:
    """Return ids and records by turns."""
    return [piece for record in records for piece in (record[0], pack_record(record))]


def rearm_arguments(receipt: Receipt, again: Rearm) -> Sequence[Argument]:
    """Return how a delivery is given back."""
    return (*receipt, as_number(again.run_at), again.attempt, again.stats, as_number(again.unknown_since))


# --- flows ------------------------------------------------------------------------------------------------------------


def flow_arguments(flow: Flow) -> Sequence[Argument]:
    """Return a flow that is to be stored."""
    return (
        flow.id,
        pack_words(flow),
        pack_join(flow.join),
        flow.total,
        flow.allowed,
        flow.needed,
        as_number(flow.started_at),
        flow.generation,
        "" if flow.deadline is None else as_number(flow.deadline),
        int(flow.cancel_siblings),
        flow.chunks,
    )


def mark_arguments(mark: Mark) -> Sequence[Argument]:
    """Return a member's ending."""
    flow_id, index, status, generation, result, error = mark
    return flow_id, index, generation, pack_result(status, result, error)


def read_states(rows: Iterable[Sequence[Any]]) -> list[FlowState]:
    """Return the states of flows."""
    return [_state(*row) for row in rows]


def _state(id: bytes, words: bytes, join: bytes, fields: Sequence[bytes]) -> FlowState:
    parent, plan, meta = unpack_parts(words)
    total, allowed, needed, started_at, generation, deadline, siblings, chunks, *state = fields
    remaining, succeeded, failed, verdict, reason, trigger, closed_at, opened_at, confirmed, spread, tidied = state
    return FlowState(
        flow=Flow(
            id=id.decode(),
            total=int(total),
            allowed=int(allowed),
            needed=int(needed),
            join=unpack_join(join),
            started_at=float(started_at),
            generation=int(generation),
            deadline=float(deadline) if deadline else None,
            cancel_siblings=siblings == b"1",
            parent=parent.decode(),
            chunks=int(chunks),
            plan=plan.decode(),
            meta=meta,
        ),
        remaining=int(remaining),
        succeeded=int(succeeded),
        failed=int(failed),
        verdict=Verdict(verdict.decode()) if verdict else None,
        reason=reason.decode(),
        trigger=int(trigger),
        closed_at=float(closed_at) if closed_at else None,
        opened_at=float(opened_at),
        confirmed=confirmed == b"1",
        spread=int(spread),
        tidied=tidied == b"1",
    )


# --- projections ------------------------------------------------------------------------------------------------------


def projection_arguments(row: Projection) -> Sequence[Argument]:
    """Return a row: which of its last three fields are there, then all of them."""
    created_at, updated_at, payload, result, error = row[7:]
    present = "".join(["0" if value is None else "1" for value in (payload, result, error)])
    instants = as_number(created_at), as_number(updated_at)
    return (present, *row[:5], str(row.status), row.version, *instants, payload or b"", result or b"", error or "")


def read_projection(fields: Sequence[Any]) -> Projection:
    """Return a row; what is absent is None."""
    task_id, entity_id, entity_type, task_type, queue_id, status = texts(fields[:6])
    version, created_at, updated_at, payload, result, error = fields[6:]
    return Projection(
        task_id,
        entity_id,
        entity_type,
        task_type,
        queue_id,
        TaskStatus(status),
        int(version),
        float(created_at),
        float(updated_at),
        payload,
        result,
        None if error is None else error.decode(),
    )
