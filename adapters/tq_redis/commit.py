"""One hop: a batch and a claim as the arguments of a script, and its answer as a hop."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from tq.model import (
    NO_EFFECTS,
    Batch,
    Chunk,
    Claim,
    Effects,
    Hold,
    Hop,
    Outgoing,
    Place,
    Rearm,
    Receipt,
    Remove,
    Reopen,
    Settlement,
)

from .arguments import (
    as_number,
    flow_arguments,
    mark_arguments,
    message_arguments,
    projection_arguments,
    read_receipts,
    read_states,
    rearm_arguments,
    record_arguments,
    texts,
)
from .claims import claim_arguments, read_claimed
from .packing import chunk_key, pack_chunk, pack_join, pack_record
from .server import Answer, Argument

__all__ = ["chunk_arguments", "commit_arguments", "note_arguments", "read_hop", "reopen_arguments"]


def commit_arguments(batch: Batch, claim: Claim | None) -> Iterator[Argument]:
    """Give what a hop writes, and what it asks for."""
    settlements, _ = _first_of_each(batch.settlements)
    yield len(batch.solo)
    for receipt in batch.solo:
        yield from receipt
    yield from _endings(settlements)
    blocks = [
        (receipt, effects)
        for receipt, ending, effects, _, _ in settlements
        if effects is not NO_EFFECTS and not (isinstance(ending, Remove) and _only_its_record(receipt, effects))
    ]
    yield len(blocks)
    for receipt, effects in blocks:
        arguments = _effects(effects)
        yield from (*receipt, len(arguments))
        yield from arguments
    yield len(batch.effects)
    for effects in batch.effects:
        yield from _effects(effects)
    if claim is None:
        yield 0
    else:
        yield 1
        yield from claim_arguments(claim)


def _first_of_each(settlements: Sequence[Settlement]) -> tuple[Sequence[Settlement], list[Receipt]]:
    """Return the first settlement of each delivery, and the receipts of the others: whoever comes second has lost."""
    if len({settlement[0] for settlement in settlements}) == len(settlements):
        return settlements, []
    first: dict[Receipt, Settlement] = {}
    others = [it.receipt for it in settlements if first.setdefault(it.receipt, it) is not it]
    return list(first.values()), others


def _endings(settlements: Sequence[Settlement]) -> Iterator[Argument]:
    """Give the endings by kind; those that only remove, which are the many, by token, with the records they leave."""
    removes: defaultdict[str, list[str]] = defaultdict(list)
    kept: defaultdict[str, dict[str, Argument]] = defaultdict(dict)
    rearms: list[tuple[Receipt, Rearm]] = []
    holds: list[tuple[Receipt, Hold]] = []
    for receipt, ending, effects, _, _ in settlements:
        if isinstance(ending, Remove):
            removes[receipt[1]].append(receipt[0])
            if effects is not NO_EFFECTS and _only_its_record(receipt, effects):
                kept[receipt[1]][receipt[0]] = pack_record(effects.records[0])
        elif isinstance(ending, Rearm):
            rearms.append((receipt, ending))
        else:
            holds.append((receipt, ending))
    yield len(removes)
    for token, ids in removes.items():
        yield token
        yield len(ids)
        yield from ids
        records = kept.get(token)
        if records is None:
            yield 0
        else:
            yield len(ids)
            yield from [records.get(id, b"") for id in ids]
    yield len(rearms)
    for receipt, again in rearms:
        yield from rearm_arguments(receipt, again)
    yield len(holds)
    for receipt, hold in holds:
        yield from (*receipt, hold.flow_id)


def _only_its_record(receipt: Receipt, effects: Effects) -> bool:
    """Tell whether all that a task leaves is its own record: it then travels with its ending."""
    if len(effects.records) != 1 or effects.records[0][0] != receipt[0]:
        return False
    return not (
        effects.messages
        or effects.marks
        or effects.projections
        or effects.flows
        or effects.confirms
        or effects.resolves
        or effects.outgoing
        or effects.chunks
        or effects.spreads
        or effects.reopens
        or effects.verdicts
    )


def _effects(effects: Effects) -> list[Argument]:
    """Return the effects by kind: how many kinds, and of each its name, how many, and each of them."""
    kinds: list[Argument] = []
    number = 0

    def add(kind: str, size: int, arguments: Iterable[Argument]) -> None:
        nonlocal number
        number += 1
        kinds.extend((kind, size))
        kinds.extend(arguments)

    # Spelled out: this runs for every task that leaves anything behind.
    if effects.flows:  # first: of a flow that is known, nothing of what follows counts
        add("flows", len(effects.flows), _flat(map(flow_arguments, effects.flows)))
    if effects.messages:
        add("messages", len(effects.messages), message_arguments(effects.messages))
    if effects.records:
        add("records", len(effects.records), record_arguments(effects.records))
    if effects.marks:
        add("marks", len(effects.marks), _flat(map(mark_arguments, effects.marks)))
    if effects.confirms:
        add("confirms", len(effects.confirms), _flat(effects.confirms))
    if effects.projections:
        add("rows", len(effects.projections), _flat(map(projection_arguments, effects.projections)))
    if effects.chunks:
        add("chunks", len(effects.chunks), _flat(map(chunk_arguments, effects.chunks)))
    if effects.spreads:
        add("spreads", len(effects.spreads), _flat(effects.spreads))
    if effects.outgoing:
        add("notes", len(effects.outgoing), _flat(map(note_arguments, effects.outgoing)))
    if effects.verdicts:
        add("verdicts", len(effects.verdicts), _flat((id, str(verdict), why) for id, verdict, why in effects.verdicts))
    if effects.reopens:
        add("reopens", len(effects.reopens), _flat((*reopen_arguments(it), it.stats) for it in effects.reopens))
    if effects.resolves:
        add("resolves", len(effects.resolves), _resolves(effects))
    return [number, *kinds]


def _resolves(effects: Effects) -> Iterator[Argument]:
    for task_id, flow_id, brought in effects.resolves:
        arguments = _effects(brought)
        yield from (task_id, flow_id, len(arguments))
        yield from arguments


def _flat(rows: Iterable[Sequence[Argument]]) -> Iterator[Argument]:
    for row in rows:
        yield from row


def chunk_arguments(chunk: Chunk) -> Sequence[Argument]:
    """Return a part of a plan."""
    return chunk_key(chunk.plan, chunk.number), as_number(chunk.at), pack_chunk(chunk)


def note_arguments(note: Outgoing) -> Sequence[Argument]:
    """Return a note."""
    return note[:3]


def reopen_arguments(reopen: Reopen) -> Sequence[Argument]:
    """Return what opens the next generation of a flow."""
    deadline = "" if reopen.deadline is None else as_number(reopen.deadline)
    return reopen.flow_id, reopen.generation, pack_join(reopen.join), as_number(reopen.at), deadline


def read_hop(batch: Batch, claim: Claim | None, answer: Answer) -> Hop:
    """Return what a hop brought back."""
    refused, closed, duplicates, known = answer.value
    lost = _first_of_each(batch.settlements)[1] + read_receipts(refused)
    found = lost, read_states(closed), texts(duplicates)
    if claim is None:
        return Hop([], *found, known=tuple(read_states(known)))
    deliveries, next_due, cancelled = read_claimed(claim.token, answer.claimed, Place.QUEUE)
    return Hop(deliveries, *found, next_due, cancelled, tuple(read_states(known)))
