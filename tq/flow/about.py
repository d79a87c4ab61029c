"""What is told about a flow: kept with the barrier for events, rows and explaining; no barrier reads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from operator import attrgetter
from typing import Any, NamedTuple, cast

from tq.codec import dumps, loads
from tq.model import Entity, Flow, FlowRequest, Join

from .membership import entity_of, entity_words

__all__ = ["About", "about", "describe"]

LISTED = 500
"""Up to so many step types are kept in order; of more, only how often each occurs: the barrier stays small."""


class About(NamedTuple):
    """A flow in the words of whoever started it (FLC-05)."""

    policy: str
    join: Join
    step_types: tuple[str, ...]
    """In order, duplicates kept; empty for a flow of more than 500 steps."""
    type_counts: Mapping[str, int]
    """How many steps there are of each type, by first occurrence."""
    entity: Entity | None
    worker_id: str
    consumer_id: str
    log_context: Mapping[str, str]


def describe(request: FlowRequest, log_context: Mapping[str, str], made_by: str) -> bytes:
    """Return what `about` reads; the digest, and the hand-out that made it, tell a second start from a repeated one."""
    types = map(attrgetter("type"), request.members)
    words: dict[str, object] = {"policy": request.policy.words, "digest": request.digest, "made_by": made_by}
    if len(request.members) <= LISTED:
        words["types"] = list(types)
    else:
        words["type_counts"] = dict(Counter(types))
    if request.entity is not None:
        words["entity"] = entity_words(request.entity)
    if request.worker_id:
        words["worker_id"] = request.worker_id
    if request.consumer_id:
        words["consumer_id"] = request.consumer_id
    if log_context:
        words["log_context"] = dict(log_context)
    return dumps(words)


def about(flow: Flow) -> About:
    """Return what is told about a flow; what is not known is empty."""
    words = cast("dict[str, Any]", loads(flow.meta)) if flow.meta else {}
    types = tuple(words.get("types", ()))
    return About(
        words.get("policy", ""),
        Join(flow.join.type, queue=flow.join.queue),
        types,
        words.get("type_counts") or dict(Counter(types)),
        entity_of(words.get("entity")),
        words.get("worker_id", ""),
        words.get("consumer_id", ""),
        words.get("log_context", {}),
    )
