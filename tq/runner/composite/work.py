"""One ending on its way: what was decided, and how far the decision is known to count."""

from __future__ import annotations

from dataclasses import dataclass

from tq.codec import is_made
from tq.model import (
    NO_EFFECTS,
    Delivery,
    Effects,
    Hold,
    Message,
    Place,
    Rearm,
    Receipt,
    Remove,
    Settlement,
    TaskStatus,
    Whereabouts,
)
from tq.ports import OutcomeKey

from .outcome import Told

__all__ = ["Work", "as_delivery", "key_of"]


def key_of(message: Message) -> OutcomeKey:
    """Return the execution that a message asks for."""
    return OutcomeKey(message.id, message.generation, message.attempt)


def as_delivery(place: Whereabouts) -> Delivery:
    """Return what was handed out, as far as it is told; a body is not, and what is recorded needs none."""
    message = Message(place.id, place.queue, place.type, b"", place.run_at, place.generation, place.attempt)
    return Delivery(message, place.token, fence=0, place=place.place)


@dataclass(slots=True, eq=False)
class Work:
    """An ending, its effects, and the custody that it ends."""

    told: Told
    """What is carried out; not what was asked for where another outcome was recorded first."""
    at: float
    """Instant of the decision: where its messages go depends on it, and must come out the same when it is repeated."""
    receipt: Receipt | None = None
    place: Place = Place.STORE
    message: Message | None = None
    fence: int = 0
    """Times the message was handed out, as far as this process knows."""
    key: OutcomeKey | None = None
    """Under which it is recorded; None where it needs no record."""
    held_by: str = ""
    """The flow that holds the task, for one that is ended without a delivery."""
    written: bytes = b""
    """What was asked for, as bytes."""
    choice: int = 0
    """0 for the outcome first recorded; more where servers refused the content of those before."""
    again: bool = False
    """Recorded by an earlier try: parts of it may have been carried out."""
    carried: bool = False
    """Nothing is left to do but to acknowledge."""
    foreign: bool = False
    """Another outcome counts: what was asked for has no effect."""
    cancelled: bool = False
    """A cancel was asked for; whoever takes custody over must hear of it."""

    @classmethod
    def of_settlement(cls, settlement: Settlement, now: float, fence: int | None) -> Work:
        """Return the work of a settlement; `fence` where it was handed out more than once."""
        receipt, ending, effects, place, message = settlement
        fence = fence or (1 if message is None else message.fence + 1)
        kept = message._replace(fence=fence) if message is not None and isinstance(ending, Hold) else None
        return cls(Told(ending, effects, kept), now, receipt, place, message, fence)

    @classmethod
    def of_delivery(cls, delivery: Delivery, told: Told, at: float) -> Work:
        """Return the work of a delivery whose outcome was recorded before it was handed out again."""
        message = delivery.message
        key, fence = key_of(message), delivery.fence
        return cls(told, at, delivery.receipt, delivery.place, message, fence, key, again=True, foreign=True)

    @property
    def effects(self) -> Effects:
        """What is still to be brought about."""
        return NO_EFFECTS if self.carried else self.told.effects

    @property
    def failed(self) -> bool:
        """Whether this execution has failed, as far as its outcome tells."""
        ending, message = self.told.ending, self.message
        if isinstance(ending, Rearm):
            return message is not None and ending.attempt > message.attempt
        mine = self.receipt.id if self.receipt is not None else ""
        return any(it.status is TaskStatus.FAILED and it.task_id == mine for it in self.told.effects.records)

    @property
    def same_attempt(self) -> bool:
        """Whether the very execution comes again: nothing was decided that could be recorded under its key."""
        ending, message = self.told.ending, self.message
        return isinstance(ending, Rearm) and (message is None or ending.attempt == message.attempt)

    def needs_record(self, redelivery: float) -> bool:
        """Whether the outcome must be recorded: it brings something, or its message may come again once it is gone.

        A plain success of a message that was only ever handed out once, under an id that nobody can make a second
        time, needs none: the acknowledgement alone says everything.
        """
        message = self.message
        if message is None or self.same_attempt:
            return False
        if not isinstance(self.told.ending, Remove) or self.told.effects:
            return True
        if self.fence > 1 or message.attempt or message.generation or not is_made(message):
            return True
        return redelivery > 0 and self.place is Place.QUEUE
