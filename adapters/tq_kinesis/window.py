"""What was read of one shard and has not ended: handed out in any order, given up in the order of the shard.

    records   1 ✓   2 ✓   3 …   4 ✓   5 …   6      ✓ ended   … handed out
                    ▲ checkpoint: nothing before it will ever be needed again (INV-11)

A message that takes long holds the checkpoint, never its neighbours. Of one line, which is a key or else the id of the
message, one message is out at a time, in the order of the shard.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, deque
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tq.model import Claim, Delivery, Message, Place, Receipt

__all__ = ["Past", "Slot", "Window"]


class Past(NamedTuple):
    """What became of a message with those who read it before."""

    handed_out: int = 0
    crashes: int = 0
    solo_crashes: int = 0


@dataclass(slots=True, eq=False)
class _Record:
    position: str
    messages: int
    left: int
    size: int


@dataclass(slots=True, eq=False)
class Slot:
    """One message of the window."""

    index: int
    record: _Record
    number: int
    """Its place within the record."""
    message: Message
    line: tuple[str, str]
    since: float
    """When it was read, on the monotonic clock."""
    handed_out: int
    crashes: int
    solo_crashes: int
    token: str = ""
    """Of the claim that it is out under; "" while it waits."""
    until: float = 0.0
    """When that lease ends, on the monotonic clock."""
    alone: bool = False
    failed: bool = False
    """Whether this execution is known to have failed."""
    cancelled: bool = False

    @property
    def receipt(self) -> Receipt:
        return Receipt(self.message.id, self.token)

    @property
    def place(self) -> str:
        """Where it stands in the shard: a name that every reader gives it."""
        return f"{self.record.position}/{self.number}"

    def delivery(self, queue: str) -> Delivery:
        message = self.message if self.message.queue else self.message._replace(queue=queue)
        fence = message.fence + self.handed_out
        return Delivery(
            message,
            self.token,
            fence,
            self.crashes,
            self.solo_crashes,
            cancelled=self.cancelled,
            place=Place.QUEUE,
        )


class Window:
    """The part of a shard between its checkpoint and what was read last, within bounds.

    Args:
        records: records that may be here at once, about: a batch is taken whole.
        size: bytes that may be here at once, about.
    """

    def __init__(self, records: int, size: int) -> None:
        self._most = records
        self._most_bytes = size
        self._records: deque[_Record] = deque()
        self._slots: dict[int, Slot] = {}
        self._lines: dict[tuple[str, str], deque[Slot]] = {}
        self._ready: list[int] = []
        """A heap: those that are first of their line and wait, by their place in the shard."""
        self._out: dict[Receipt, Slot] = {}
        self._soonest = math.inf
        """No lease ends before this."""
        self._next = 0
        self.size = 0
        self.passed = 0
        """Messages before the checkpoint."""
        self.checkpoint = ""
        """The last position of which everything, and everything before, has ended; "" for none so far."""

    # --- coming and going ---------------------------------------------------------------------------------------------

    @property
    def room(self) -> bool:
        """Whether more may be read: else reading waits, and nothing is dropped."""
        return len(self._records) < self._most and self.size < self._most_bytes

    @property
    def empty(self) -> bool:
        return not self._records

    @property
    def out(self) -> int:
        """Messages that are handed out."""
        return len(self._out)

    @property
    def waiting(self) -> int:
        """Messages that are not handed out."""
        return len(self._slots) - len(self._out)

    def add(
        self,
        position: str,
        messages: Sequence[Message],
        *,
        size: int = 0,
        line: str = "",
        past: Sequence[Past] = (),
        now: float = 0.0,
    ) -> None:
        """Take in a record, behind all that came before; one without messages has ended."""
        record = _Record(position, len(messages), len(messages), size)
        self._records.append(record)
        self.size += size
        for number, message in enumerate(messages):
            before = past[number] if past else Past()
            # The same message may stand in a shard twice; two deliveries of one id must never be out at once.
            key = (line, "") if line else ("", message.id)
            slot = Slot(self._next, record, number, message, key, now, *before)
            self._next += 1
            self._slots[slot.index] = slot
            others = self._lines.setdefault(key, deque())
            others.append(slot)
            if len(others) == 1:
                heapq.heappush(self._ready, slot.index)
        self._give_up()

    def _give_up(self) -> None:
        while self._records and not self._records[0].left:
            record = self._records.popleft()
            self.size -= record.size
            self.passed += record.messages
            self.checkpoint = record.position

    def settle(self, receipt: Receipt) -> bool:
        """End a message; False if the receipt is not, or no longer, its own."""
        slot = self._out.pop(receipt, None)
        if slot is None:
            return False
        del self._slots[slot.index]
        line = self._lines[slot.line]
        line.popleft()
        if line:
            heapq.heappush(self._ready, line[0].index)
        else:
            del self._lines[slot.line]
        slot.record.left -= 1
        self._give_up()
        return True

    # --- handing out --------------------------------------------------------------------------------------------------

    def take(
        self, claim: Claim, now: float, *, paused: Container[str] = (), patience: float = math.inf
    ) -> list[Delivery]:
        """Hand out what may be, under the claim's token, after taking back what ran out of its lease.

        What is of no queue that is asked for waits. If after `patience` seconds nobody has asked, it is handed out all
        the same: whoever does not know it moves it to the store, where it holds up nobody. Not so a paused queue.
        """
        self.take_back(now)
        taken: list[Delivery] = []
        came: Counter[tuple[str, str]] = Counter()
        skipped: list[int] = []
        while self._ready and len(taken) < claim.limit:
            index = heapq.heappop(self._ready)
            slot = self._slots[index]
            kind = (slot.message.queue, slot.message.type)
            cap = claim.caps.get(kind)
            strange = kind[0] not in claim.queues and bool(kind[0])
            waits = strange and (kind[0] in paused or now - slot.since < patience)
            if waits or (cap is not None and came[kind] >= cap):
                skipped.append(index)
                continue
            came[kind] += 1
            slot.token, slot.until = claim.token, now + claim.lease
            slot.handed_out += 1
            self._soonest = min(self._soonest, slot.until)
            self._out[slot.receipt] = slot
            taken.append(slot.delivery(claim.queues[0]))
        for index in skipped:
            heapq.heappush(self._ready, index)
        return taken

    def take_back(self, now: float) -> list[Slot]:
        """Let those wait again whose lease has run out, a crash of each; return them."""
        if now < self._soonest:
            return []
        crashed: list[Slot] = []
        for receipt, slot in list(self._out.items()):
            if slot.until <= now:
                del self._out[receipt]
                slot.crashes += 1
                slot.solo_crashes += slot.alone
                slot.token, slot.until, slot.alone = "", 0.0, False
                heapq.heappush(self._ready, slot.index)
                crashed.append(slot)
        self._soonest = self.ends_at
        return crashed

    @property
    def ends_at(self) -> float:
        """When the first lease ends; infinite for never."""
        return min((slot.until for slot in self._out.values()), default=math.inf)

    def find(self, receipt: Receipt) -> Slot | None:
        """Return the message that is out under this receipt."""
        return self._out.get(receipt)

    def renew(self, slot: Slot, until: float) -> None:
        """Let the lease of a message that is out run until then."""
        slot.until = until
        self._soonest = min(self._soonest, until)

    def __iter__(self) -> Iterator[Slot]:
        """Return every message, in the order of the shard."""
        return iter(self._slots.values())
