"""The custody that the queue and the store of one memory server share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tq.clock import Clock
from tq.model import Claim, Message, Place, Rearm, Receipt, Renewal, State, Whereabouts
from tq.ports import Backend, Claimed, Custody, Guarantees

from .claims import hand_out
from .content import check_messages, check_text
from .ledger import Ledger
from .messages import Messages
from .server import Part, Server
from .shelf import Row

__all__ = ["MemoryCustody"]


class MemoryCustody(Part, Custody):
    """Keeps messages in one process: nothing survives it."""

    name = "memory"
    guarantees = Guarantees(durable=False, shared=False)
    _place = Place.QUEUE

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        server: Server | None = None,
        messages: Messages | None = None,
        ledger: Ledger | None = None,
        backend: Backend | None = None,
    ) -> None:
        super().__init__(server or Server(clock))
        self._messages = messages or Messages()
        self._ledger = ledger or Ledger()
        self.backend = backend
        """The backend that this is a part of, or None."""

    @property
    def _now(self) -> float:
        return self._server.clock.now()

    def _ring(self) -> None:
        if self._messages.changed:
            self._messages.changed = False
            self._server.changed = True
        self._server.ring()

    async def add(self, messages: Sequence[Message]) -> list[str]:
        with self._enter():
            check_messages(messages)
            table, records, now = self._messages, self._ledger.records, self._now
            taken: list[str] = []
            for message in messages:
                if message.id in table.rows or message.id in records:
                    taken.append(message.id)
                else:
                    table.insert(message, now, self._place)
            self._ring()
            return taken

    async def claim(self, claim: Claim) -> Claimed:
        with self._enter():
            return hand_out(self._messages, claim, self._now)

    async def ack(self, receipts: Sequence[Receipt]) -> list[Receipt]:
        with self._enter():
            now, lost = self._now, list[Receipt]()
            for receipt in receipts:
                row = self._messages.held(receipt)
                if row is None:
                    lost.append(receipt)
                else:
                    self._messages.remove(row, now)
            self._ring()
            return lost

    async def rearm(self, rearms: Sequence[tuple[Receipt, Rearm]]) -> list[Receipt]:
        with self._enter():
            now, lost = self._now, list[Receipt]()
            for receipt, again in rearms:
                row = self._messages.held(receipt)
                if row is None:
                    lost.append(receipt)
                else:
                    self._messages.rearm(row, again, now)
            self._ring()
            return lost

    async def solo(self, receipts: Sequence[Receipt]) -> list[Receipt]:
        with self._enter():
            lost: list[Receipt] = []
            for receipt in receipts:
                row = self._messages.held(receipt)
                if row is None:
                    lost.append(receipt)
                else:
                    row.solo = True
            return lost

    async def renew(self, receipts: Sequence[Receipt], lease: float) -> Renewal:
        with self._enter():
            return self._messages.renew(receipts, self._now + lease)

    async def cancel(self, ids: Sequence[str]) -> list[str]:
        with self._enter():
            found = self._messages.cancel(ids, self._now)
            self._ring()
            return found

    async def locate(self, ids: Sequence[str]) -> dict[str, Whereabouts]:
        with self._enter():
            rows = self._messages.rows
            return {task_id: whereabouts(rows[task_id]) for task_id in ids if task_id in rows}

    async def list(self, queue: str | None, after: str, limit: int) -> Sequence[Whereabouts]:
        with self._enter():
            found: list[Whereabouts] = []
            for row in self._messages.pages.after(after):
                if len(found) >= limit:
                    break
                if queue is None or row.message.queue == queue:
                    found.append(whereabouts(row))
            return found

    async def counts(self) -> Mapping[str, Mapping[str, int]]:
        """Looks at every live message: for people and dashboards, not for the path of a task."""
        with self._enter():
            now = self._now
            found: dict[str, dict[str, int]] = {}
            for row in self._messages.rows.values():
                counts = found.setdefault(row.message.queue, {"waiting": 0, "delayed": 0, "running": 0, "held": 0})
                counts["delayed" if row.state is State.WAITING and row.due > now else row.state] += 1
            return found

    async def pause(self, queue: str, paused: bool) -> None:  # noqa: FBT001 -- as the port
        with self._enter():
            check_text(queue)
            if paused:
                self._messages.paused.add(queue)
            else:
                self._messages.paused.discard(queue)
                self._messages.changed = True
            self._ring()

    async def paused(self) -> Sequence[str]:
        with self._enter():
            return sorted(self._messages.paused)


def whereabouts(row: Row) -> Whereabouts:
    """Return where a message is, as a value."""
    message = row.message
    return Whereabouts(
        message.id,
        message.queue,
        message.type,
        row.state,
        row.due if row.state is State.WAITING else message.run_at,
        message.generation,
        message.attempt,
        row.until,
        row.token,
        row.crashes,
        row.held_by,
        row.cancelled,
        message.stats,
        row.place,
    )
