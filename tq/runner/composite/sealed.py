"""Flows of a producer that has no delivery: nobody comes again if it dies half-way, so that a plan must."""

from __future__ import annotations

from dataclasses import replace

from tq.ids import step_id
from tq.model import Chunk, Effects, Flow, Message

__all__ = ["seal"]

CHUNK = 1 << 20
"""Bytes of one chunk, about: some servers bound what one row may hold."""


def seal(effects: Effects) -> Effects:
    """Return effects whose flows are plans first: members are written as chunks, then the flow, then the messages.

    Where the producer dies after the flow was written, the reconciler spreads the chunks. Flows whose members are not
    among the messages stay as they are.
    """
    if not effects.flows:
        return effects
    messages = {message.id: message for message in effects.messages}
    flows: list[Flow] = []
    chunks: list[Chunk] = []
    spreads: list[tuple[str, int]] = []
    for flow in effects.flows:
        members = [messages[id] for index in range(flow.total) if (id := step_id(flow.id, index)) in messages]
        if flow.chunks or not members or len(members) != flow.total:
            flows.append(flow)
            continue
        plan = _cut(flow, members)
        chunks += plan
        flows.append(replace(flow, chunks=len(plan), plan=plan[0].plan))
        spreads.append((flow.id, len(plan)))
    return effects._replace(
        flows=tuple(flows),
        chunks=(*effects.chunks, *chunks),
        spreads=(*effects.spreads, *spreads),
    )


def _cut(flow: Flow, members: list[Message]) -> list[Chunk]:
    """Cut evenly: where a member stands follows from the flow's total and its number of chunks."""
    size = sum(len(message.body) for message in members)
    width = max(1, -(-len(members) // max(1, -(-size // CHUNK))))
    key = f"{flow.id}:-:{flow.started_at:.6f}"
    starts = range(0, len(members), width)
    return [
        Chunk(key, number, tuple(members[start : start + width]), flow.started_at)
        for number, start in enumerate(starts)
    ]
