"""What was read here and has not ended, for those who ask: nobody can tell more of a stream."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tq.model import State, Whereabouts

from .reader import ShardReader
from .window import Slot

__all__ = ["ShardView", "counted", "whereabouts"]


class ShardView(NamedTuple):
    """A shard as this worker sees it."""

    shard: str
    checkpoint: str
    behind: float
    """Seconds by which reading is behind the newest record."""
    records: int
    """Messages that were read and have not ended."""
    out: int
    """Those of them that are handed out."""
    leaving: bool

    @classmethod
    def of(cls, reader: ShardReader) -> ShardView:
        """Return the view of a shard that is read here."""
        window = reader.window
        return cls(
            reader.shard,
            window.checkpoint or reader.hold.row.checkpoint,
            reader.behind,
            window.waiting + window.out,
            window.out,
            reader.leaving_since is not None,
        )


def whereabouts(slot: Slot, offset: float) -> Whereabouts:
    """Return where a message is; `offset` is what the wall clock is ahead of the monotonic one."""
    message = slot.message
    return Whereabouts(
        message.id,
        message.queue,
        message.type,
        State.RUNNING if slot.token else State.WAITING,
        message.run_at,
        message.generation,
        message.attempt,
        slot.until + offset if slot.token else 0.0,
        slot.token,
        slot.crashes,
        cancelled=slot.cancelled,
        stats=message.stats,
    )


def counted(slots: Iterable[Slot]) -> Mapping[str, Mapping[str, int]]:
    """Return per queue how many wait and run."""
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for slot in slots:
        found[slot.message.queue]["running" if slot.token else "waiting"] += 1
    return {
        queue: {"waiting": number["waiting"], "delayed": 0, "running": number["running"], "held": 0}
        for queue, number in found.items()
    }
