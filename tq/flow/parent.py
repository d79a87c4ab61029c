"""A task that ends when a flow does (`success_when`): what is kept of it in the flow's join, and how it is ended.

The join tells everything that is needed, because nobody else will: the attempt that waited is over. What it tells is
bounded, however many flows wait for one another: a body goes along without the parent that it may speak of itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from tq.clock import to_datetime
from tq.codec import amend_body, decode_body
from tq.model import Ended, Entity, Keep, Message, Task

from .membership import membership_of
from .results import verdict_word

__all__ = ["Parent", "parent_of", "parent_words", "read_parent"]


class Parent(NamedTuple):
    """A held task, as its flow's join remembers it."""

    task: Task[Any]
    """Without payload; its stats are those of the attempt that waited."""
    message: Message
    """Its body is empty where none was kept."""
    keep: Keep


def parent_words(ended: Ended) -> dict[str, Any]:
    """Return what a join keeps of the task that waits for its flow."""
    task, keep = ended.task, ended.keep
    words: dict[str, Any] = {
        "id": task.id,
        "type": task.type,
        "queue": task.queue_id,
        "generation": task.generation,
        "attempt": task.attempt,
        "fence": task.fence,
        "keep": [keep.on_failure, keep.on_success, keep.result_ttl, keep.dead_ttl],
    }
    if task.created_at is not None:
        words["created_at"] = task.created_at.timestamp()
    if task.entity is not None:
        words["entity"] = [task.entity.type, task.entity.id]
    if task.execution_stats:
        words["stats"] = dict(task.execution_stats)
    membership = membership_of(task)
    if membership is not None:
        words["flow_meta"] = dict(membership.meta)
        if membership.is_join:
            words["verdict"] = verdict_word(task)
    if ended.body and (keep.on_failure or membership is not None):
        words["body"] = _without_parent(ended.body)
    return words


def parent_of(meta: Mapping[str, Any]) -> Parent | None:
    """Return the task that waits for a join's flow, or None."""
    words = meta.get("parent")
    return read_parent(cast("Mapping[str, Any]", words)) if isinstance(words, Mapping) else None


def read_parent(told: Mapping[str, Any]) -> Parent:
    """Return the task that `parent_words` told of."""
    metadata: dict[str, Any] = {}
    if "flow_meta" in told:
        metadata["flow_meta"] = told["flow_meta"]
        if "verdict" in told:
            metadata["flow_meta"] = {**told["flow_meta"], "verdict": told["verdict"]}
    entity, created_at = told.get("entity"), told.get("created_at")
    task = Task[Any](
        type=told["type"],
        queue_id=told["queue"],
        id=told["id"],
        generation=told["generation"],
        attempt=told["attempt"],
        fence=told["fence"],
        entity=None if entity is None else Entity(entity[0], entity[1]),
        created_at=None if created_at is None else to_datetime(created_at),
        execution_stats=told.get("stats", {}),
        metadata=metadata,
    )
    on_failure, on_success, result_ttl, dead_ttl = told["keep"]
    keep = Keep(on_failure=on_failure, on_success=on_success, result_ttl=result_ttl, dead_ttl=dead_ttl)
    head = (task.id, task.queue_id, task.type, (told.get("body") or "").encode())
    return Parent(task, Message(*head, 0.0, task.generation, task.attempt, fence=task.fence), keep)


def _without_parent(body: bytes) -> str:
    """A body that holds its own parent's body would double with every flow that waits for a flow (F10)."""
    metadata = cast("dict[str, Any]", decode_body(body).get("metadata", {}))
    meta = metadata.get("flow_meta")
    if isinstance(meta, dict) and "parent" in meta:
        meta = {name: value for name, value in cast("dict[str, Any]", meta).items() if name != "parent"}
        body = amend_body(body, metadata={**metadata, "flow_meta": meta})
    return body.decode()
