"""What memory refuses: text that is not Unicode, as every server does that writes it down.

The reference would otherwise take what no other backend takes, and a program that worked here would fail there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tq.errors import ContentRefusedError
from tq.model import NO_EFFECTS, Batch, Effects, Message

__all__ = ["check_batch", "check_effects", "check_messages", "check_text"]


def check_text(*texts: str | None) -> None:
    """Refuse text that cannot be written as UTF-8.

    Raises:
        ContentRefusedError: it holds half a surrogate pair.
    """
    for text in texts:
        if text and not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise ContentRefusedError(f"text that is not Unicode cannot be stored: {error}") from error


def check_messages(messages: Iterable[Message]) -> None:
    """Refuse messages whose names are no text."""
    for message in messages:
        if not f"{message.id}{message.queue}{message.type}{message.lane}".isascii():
            check_text(message.id, message.queue, message.type, message.lane)


def check_batch(batch: Batch) -> None:
    """Refuse a batch before anything of it is written."""
    for _, _, effects, _, _ in batch.settlements:
        if effects is not NO_EFFECTS:
            check_effects(effects)
    for effects in batch.effects:
        check_effects(effects)


def check_effects(effects: Effects) -> None:
    """Refuse effects that hold what is no text."""
    if effects.messages:
        check_messages(effects.messages)
    for record in effects.records:
        check_text(record.task_id, record.queue, record.type, record.error)
    for flow in effects.flows:
        check_text(flow.id, flow.parent, flow.plan)
        check_messages([flow.join])
    for mark in effects.marks:
        check_text(mark.error)
    for row in effects.projections:
        check_text(row.task_id, row.entity_id, row.entity_type, row.task_type, row.queue_id, row.error)
    for chunk in effects.chunks:
        check_text(chunk.plan)
        check_messages(chunk.messages)
    for note in effects.outgoing:
        check_text(note.topic, note.id)
    for resolve in effects.resolves:
        check_effects(resolve.effects)
    for reopen in effects.reopens:
        check_messages([reopen.join])
    check_reasons(effects.verdicts)


def check_reasons(verdicts: Sequence[tuple[str, object, str]]) -> None:
    """Refuse reasons that are no text."""
    for _, _, reason in verdicts:
        check_text(reason)
