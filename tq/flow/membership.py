"""Which flow a task belongs to: what `metadata.flow_meta` says, read with care.

Members and joins carry it in their bodies, which never change. What changes with a redrive, a member carries in its
stats: `flow_generation`, and `flow_deadline` where there is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from tq.codec import dumps
from tq.model import Entity, Flow, Join, Task

__all__ = [
    "JOIN_INDEX",
    "Membership",
    "entity_of",
    "entity_words",
    "generation_stats",
    "join_words",
    "member_width",
    "membership_of",
]

JOIN_INDEX = -1


@dataclass(frozen=True, slots=True)
class Membership:
    """A task's place in its flow."""

    flow_id: str
    index: int
    """0 … total - 1 for a step, -1 for the join (FLOW-17)."""
    total: int
    is_join: bool
    generation: int
    """The generation of the flow in which this task ends."""
    deadline: float | None
    """When the flow ends at the latest; a flow that this task waits for ends by then, too."""
    meta: Mapping[str, Any]


def membership_of(task: Task[Any]) -> Membership | None:
    """Return a task's place in its flow, or None where it has none, or where a user wrote something else there."""
    meta = task.flow_meta
    if not isinstance(meta, Mapping):
        return None
    flow_id, index = meta.get("flow_id"), meta.get("step_index")
    if not isinstance(flow_id, str) or not isinstance(index, int) or not flow_id:
        return None
    is_join = meta.get("is_join") is True
    if not is_join and index < 0:
        return None
    total, deadline = meta.get("total_steps"), meta.get("deadline")
    if is_join:
        generation = meta.get("generation", 0)
    else:
        stats = task.execution_stats
        generation = stats.get("flow_generation", 0)
        if generation:
            deadline = stats.get("flow_deadline")  # the body's is that of the first generation, and has passed
    return Membership(
        flow_id,
        index,
        total if isinstance(total, int) else 0,
        is_join,
        generation if isinstance(generation, int) else 0,
        float(deadline) if isinstance(deadline, int | float) else None,
        meta,
    )


def generation_stats(generation: int, deadline: float | None) -> bytes:
    """Return the stats of a member that runs again in a later generation of its flow."""
    stats: dict[str, object] = {"flow_generation": generation}
    if deadline is not None:
        stats["flow_deadline"] = deadline
    return dumps(stats)


def member_width(flow: Flow) -> int:
    """Return how many members stand in each chunk of a wide flow's plan (the last may hold fewer)."""
    return -(-flow.total // flow.chunks) if flow.chunks else flow.total


def entity_words(entity: Entity) -> dict[str, str]:
    """Return an entity as it stands in metadata."""
    return {"type": entity.type, "id": entity.id}


def entity_of(words: object) -> Entity | None:
    """Return the entity that stands in metadata, or None."""
    if not isinstance(words, Mapping):
        return None
    fields = cast("Mapping[str, Any]", words)
    kind, id = fields.get("type"), fields.get("id")
    return Entity(kind, id) if isinstance(kind, str) and isinstance(id, str) and kind and id else None


def join_words(join: Join) -> dict[str, str]:
    """Return a join as it stands in metadata."""
    return {"type": join.type, "queue": join.queue}
