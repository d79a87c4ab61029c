"""Custody at the end of an execution: looked at before anything is written, given up after everything is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tq.errors import ContentRefusedError
from tq.model import Hold, Message, Place, Rearm, Receipt, Remove
from tq.ports import Custody, MessageQueue, TaskStore

from .ledger import Ledger, successor
from .work import Work

__all__ = ["Custodian", "as_held"]

MOVING = 30.0
"""Seconds for which a message is leased between two calls of which the second relies on the first."""


def as_held(message: Message, fence: int) -> Message:
    """Return the row that waits for a flow: the next attempt, so that it takes the place of the one that runs.

    It waits for no turn any more. Else members of its flow that share its lane would wait for it, and it for them.
    """
    return message._replace(attempt=message.attempt + 1, fence=fence, lane="")


class Custodian:
    """Ends leases with queue and store.

    A retry stays with the queue where the queue can keep it; otherwise it is written to the store, then acknowledged.
    `one` says that both are views of one server's table, in which nothing has to move.
    """

    def __init__(self, queue: MessageQueue, store: TaskStore, ledger: Ledger, near: float, *, one: bool) -> None:
        self._queue = queue
        self._store = store
        self._ledger = ledger
        self._near = near
        self._one = one

    # --- before -------------------------------------------------------------------------------------------------------

    async def guard(self, works: Sequence[Work], lease: float) -> set[Receipt]:
        """Return the receipts that were lost; the leases of the others run on, for as long as the commit may take.

        What is lost between this look and the last step is settled by the outcome row.
        """
        lost: set[Receipt] = set()
        for place, custody in self._both():
            mine = {work.receipt: work for work in works if work.place is place and work.receipt is not None}
            if not mine:
                continue
            renewal = await custody.renew(list(mine), lease)
            lost.update(renewal.lost)
            for receipt in renewal.cancelled:
                if receipt in mine:
                    mine[receipt].cancelled = True
        return lost

    async def holding(self, works: Sequence[Work]) -> set[Work]:
        """Return those whose lease, or whose waiting for a flow, still stands."""
        lost = await self.guard(works, MOVING)
        held = [work.key.task_id for work in works if work.held_by and work.key is not None]
        places = await self._store.locate(held) if held else {}
        return {
            work
            for work in works
            if (work.receipt is not None and work.receipt not in lost)
            or (
                work.key is not None and work.key.task_id in places and places[work.key.task_id].held_by == work.held_by
            )
        }

    def _both(self) -> Iterable[tuple[Place, Custody]]:
        return (Place.QUEUE, self._queue), (Place.STORE, self._store)

    async def hold_early(self, works: Sequence[Work]) -> None:
        """Hold those that come from the queue before their flow exists: it may be over before anything else is done.

        Their message is still the queue's, and comes again if this commit dies. A row of the store has no second
        message, and is held last; a flow that is faster finds it by its outcome (`held`).
        """
        await self._move([work for work in works if self._holds_early(work)])

    def _holds_early(self, work: Work) -> bool:
        return isinstance(work.told.ending, Hold) and work.place is Place.QUEUE and not self._one and not work.carried

    # --- after --------------------------------------------------------------------------------------------------------

    async def end(self, works: Sequence[Work]) -> set[Receipt]:
        """End the custody of each as its outcome says; return the receipts that were lost."""
        await self._move([work for work in works if self.moves(work) and not self._holds_early(work)])
        for work in works:  # before the acknowledgement of whoever ends them: nobody would come again
            if work.held_by and work.key is not None:
                await self._store.resolve(work.key.task_id, work.held_by)
        if (learn := getattr(self._queue, "learn", None)) is not None:  # a broker that goes by how its messages do
            learn([work.receipt for work in works if work.place is Place.QUEUE and work.receipt and work.failed])
        lost: set[Receipt] = set()
        for place, custody in self._both():
            acks: list[Receipt] = []
            rearms: list[tuple[Receipt, Rearm]] = []
            for work in works:
                if work.place is not place or work.receipt is None:
                    continue
                ending = work.told.ending
                if isinstance(ending, Rearm) and not self._goes_over(work, ending):
                    # Also where it is noted as carried out: this message is still what it was before.
                    rearms.append((work.receipt, ending))
                elif not (isinstance(ending, Hold) and self._is_row(work)):  # the row was replaced, lease and all
                    acks.append(work.receipt)
            if acks:
                lost.update(await custody.ack(acks))
            if rearms:
                lost.update(await custody.rearm(rearms))
        return lost

    def _is_row(self, work: Work) -> bool:
        return not work.carried and (self._one or work.place is Place.STORE)

    def moves(self, work: Work) -> bool:
        """Whether the message becomes a row of the store, or another one there."""
        ending = work.told.ending
        if work.carried or isinstance(ending, Remove):
            return False
        return isinstance(ending, Hold) or self._goes_over(work, ending)

    def _goes_over(self, work: Work, again: Rearm) -> bool:
        """Whether a message that comes again comes from the store; the same whenever it is asked."""
        if work.place is Place.STORE or self._one:
            return False
        if not self._queue.guarantees.rearms:
            return True
        delay = again.run_at - work.at
        if delay <= 0:
            return False
        if not self._queue.guarantees.delays:
            return True
        # Of a lane the next message must not come while this one waits elsewhere.
        return delay > self._near and not (work.message is not None and work.message.lane)

    async def _move(self, works: Sequence[Work]) -> None:
        """Write the rows that stand for messages from now on, except those whose next execution has ended already."""
        if not works:
            return
        ended = await self._ledger.recorded(
            [successor(work.key) for work in works if work.key is not None and work.again]
        )
        rows: list[tuple[Message, str]] = []
        for work in works:
            if work.key is not None and successor(work.key) in ended:
                continue
            message = work.message or work.told.message
            if message is None:
                raise ContentRefusedError(f"task {work.receipt and work.receipt.id} cannot move without its message")
            match work.told.ending:
                case Hold(flow_id):
                    rows.append((as_held(message, work.fence), flow_id))
                case Rearm() as again if again.unknown_since:
                    await self._move_unknown(message, again, work)
                case Rearm() as again:
                    rows.append((_rearmed(message, again, work.fence), ""))
                case _:
                    pass
        if rows:
            await self._store.put(rows)
        cancelled = [work.receipt.id for work in works if work.cancelled and work.receipt is not None]
        if cancelled:  # whoever asked for it may have seen the queue alone
            await self._store.cancel(cancelled)

    async def _move_unknown(self, message: Message, again: Rearm, work: Work) -> None:
        """Move a message that this worker does not know; only a re-arming keeps since when nobody knew it."""
        token = f"{work.receipt.token if work.receipt else message.id}.moved"
        if await self._store.park(_rearmed(message, again, work.fence - 1), token, MOVING):
            await self._store.rearm([(Receipt(message.id, token), again)])


def _rearmed(message: Message, again: Rearm, fence: int) -> Message:
    return message._replace(run_at=again.run_at, attempt=again.attempt, stats=again.stats, fence=fence)
