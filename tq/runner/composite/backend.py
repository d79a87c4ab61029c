"""The composite backend: queue, store, barrier and projections of different servers as one."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple

from tq.clock import Clock, seconds
from tq.errors import BackendError, ConfigurationError, ContentRefusedError
from tq.model import (
    NO_EFFECTS,
    Batch,
    Claim,
    Delivery,
    Effects,
    FlowState,
    Hold,
    Hop,
    Rearm,
    Receipt,
    Remove,
    Resolve,
)
from tq.ports import (
    Backend,
    Claimed,
    Custody,
    EntityProjectionProvider,
    FlowBarrierProvider,
    Keeper,
    MessageQueue,
    TaskStore,
)

from .bell import Bell
from .carry import Carried, Carrier
from .claim import LOOK_EVERY, Claimer
from .custody import Custodian
from .decided import Decided
from .flows import Flows
from .handed import HandedOut
from .held import HeldTasks
from .insert import Inserter
from .keeper import BothKeeper, home_of
from .ledger import Ledger, successor
from .park import Parking
from .rows import Rows
from .work import Work, key_of

__all__ = ["CompositeBackend"]

LEASE = 30.0
REMEMBER = 7 * 86_400.0
NEAR = 120.0
POLL = 1.0


class _Written(NamedTuple):
    refused: list[Receipt]
    duplicates: list[str]
    known: list[FlowState]


class CompositeBackend(Backend):
    """Not atomic: every step may be repeated, and the first outcome recorded counts (design 3).

    Args:
        queue: takes what is due within `near` seconds, if it can delay; else what is due.
        store: takes the rest, and keeps the outcomes.
        barrier: keeps flows; without one there are none.
        projections: is written to by commits; where it is None, rows become notes of topic "projection".
        clock: tells the time.
        remember: seconds for which outcomes and closed flows are remembered.
        near: seconds of delay that are left to the queue.

    Raises:
        ConfigurationError: the queue may deliver a message again after all memory of it is gone.
    """

    atomic = False

    def __init__(
        self,
        queue: MessageQueue,
        store: TaskStore,
        barrier: FlowBarrierProvider | None = None,
        projections: EntityProjectionProvider | None = None,
        *,
        clock: Clock,
        remember: float = REMEMBER,
        near: float = NEAR,
    ) -> None:
        again = queue.guarantees.redelivery
        if seconds("remember", remember) <= again:
            raise ConfigurationError(
                f"the queue {queue.name} may deliver again for {again:g} s, but outcomes and flows are remembered for "
                f"{remember:g} s: give remember= more than that"
            )
        self.name = queue.name if queue.name == store.name else f"{queue.name}+{store.name}"
        self.queue = queue
        self.store = store
        self.barrier = barrier
        self.projections = projections
        self._clock = clock
        self._one = home_of(queue) if home_of(queue) is home_of(store) else None
        """The backend of queue and store, where it is one and only the flows are elsewhere."""
        near = math.inf if self._one is not None else seconds("near", near)
        self._ledger = Ledger(store)
        self._handed = HandedOut()
        self._parking = Parking(queue, store, self._ledger)
        self._custodian = Custodian(queue, store, self._ledger, near, one=self._one is not None)
        self._inserter = Inserter(queue, store, self._ledger, clock, near)
        self._flows = Flows(barrier, queue, store, self._custodian)
        self._carrier = Carrier(store, self._flows, Rows(projections, store), self._inserter)
        self._held = HeldTasks(queue, store, self._ledger)
        self._decided = Decided(queue, store, self._ledger)
        self._claimer = Claimer(queue, store, self._ledger, self._handed, clock, self._finish, self._one)
        self._bell = Bell((queue, store))
        self.poll_interval = min(_poll_interval(queue), _poll_interval(store))
        self._lease = LEASE
        self._untold: list[FlowState] = []
        """Flows decided by commits that failed afterwards: the next one tells of them."""
        self._loop: asyncio.AbstractEventLoop | None = None

    # --- the hop ------------------------------------------------------------------------------------------------------

    async def commit(self, batch: Batch, claim: Claim | None = None) -> Hop:
        self._loop = asyncio.get_running_loop()
        written, closed = _Written([], [], []), list[FlowState]()
        if batch:
            try:
                written = await self._write(batch, closed)
            except BaseException:
                self._inserter.beware()
                self._untold += closed
                raise
            closed, self._untold = [*self._untold, *closed], []
            if batch.effects or any(it.effects or not isinstance(it.ending, Remove) for it in batch.settlements):
                self._bell.ring()
        if claim is None:
            claimed = Claimed([])
        else:
            self._lease = claim.lease
            claimed = await self._claim(claim, written=bool(batch))
        told = {(state.id, state.flow.generation): state for state in closed}
        return Hop(
            claimed.deliveries,
            written.refused,
            [*told.values()],
            written.duplicates,
            claimed.next_due,
            claimed.cancelled,
            tuple(written.known),
        )

    async def _claim(self, claim: Claim, *, written: bool) -> Claimed:
        """Claim; what was written before is not written again because nothing could be claimed after it."""
        try:
            return await self._claimer.claim(claim)
        except BackendError:
            if not written:
                raise
            return Claimed([], self._clock.now() + LOOK_EVERY)

    async def _write(self, batch: Batch, closed: list[FlowState]) -> _Written:
        now = self._clock.now()
        self._flows.check([*(settlement.effects for settlement in batch.settlements), *batch.effects])
        works, refused = await self._entitled(batch, now)
        if batch.solo:
            lost_twice = {*await self.queue.solo(batch.solo)} & {*await self.store.solo(batch.solo)}
            refused += lost_twice
        duplicates, known = await self._carry(works, batch.effects, now, closed, alone=_is_alone(batch))
        refused += [work.receipt for work in works if work.foreign and work.receipt is not None]
        lost = await self._end(works, now, closed)
        recorded = {work.receipt for work in works if work.key is not None}
        refused += [receipt for receipt in lost if receipt not in recorded and receipt not in refused]
        await self._parking.clear(works)
        for settlement in batch.settlements:
            self._handed.forget(settlement.receipt)
        return _Written(refused, duplicates, known)

    async def _entitled(self, batch: Batch, now: float) -> tuple[list[Work], list[Receipt]]:
        """Return what is to be carried out, recorded where it must be; and the receipts that had lost their lease."""
        refused: list[Receipt] = []
        works: dict[Receipt, Work] = {}
        for settlement in batch.settlements:
            if settlement.receipt in works:  # named twice, it is lost the second time
                refused.append(settlement.receipt)
                continue
            works[settlement.receipt] = work = Work.of_settlement(
                settlement, now, self._handed.fence(settlement.receipt)
            )
            needs = work.needs_record(self.queue.guarantees.redelivery) or self._parking.is_unsure(settlement.receipt)
            if needs and work.message is not None:
                work.key = key_of(work.message)
        # An acknowledgement, or a re-arming in place, looks at the lease by itself.
        guarded = [work for work in works.values() if work.key or work.effects or self._custodian.moves(work)]
        if not guarded:
            return list(works.values()), refused
        lost = await self._custodian.guard(guarded, self._lease)
        if lost:
            gone = [work for work in guarded if work.receipt in lost]
            await self._ledger.recall(gone)  # what is found to be ours was recorded by an earlier try
            for work in gone:
                if work.foreign and work.receipt is not None:
                    refused.append(work.receipt)
                    del works[work.receipt]
        fresh = [work for work in works.values() if work.key is not None and work.receipt not in lost]
        await self._ledger.record(fresh, now)
        return list(works.values()), refused

    async def _carry(
        self, works: list[Work], unfenced: Sequence[Effects], now: float, closed: list[FlowState], *, alone: bool
    ) -> Carried:
        """Carry everything out; where a recorded outcome is refused for its content, what was asked for replaces it."""
        try:
            return await self._carry_out(works, unfenced, now, closed)
        except ContentRefusedError:
            replaced = [await self._ledger.substitute(work, now) for work in works] if alone else []
            if not any(replaced):
                raise
            works[:] = [work for work in works if not work.held_by]  # those are found, and replaced, anew
            return await self._carry_out(works, unfenced, now, closed)

    async def _carry_out(
        self, works: list[Work], unfenced: Sequence[Effects], now: float, closed: list[FlowState]
    ) -> Carried:
        """Write effects, of held tasks too that end along; those are added to `works`."""
        await self._custodian.hold_early(works)
        resolves = [resolve for effects in (*(it.effects for it in works), *unfenced) for resolve in effects.resolves]
        while resolves:
            ended = await self._held.open(resolves, now, lambda found: self._carry_out(found, (), now, closed))
            works += ended
            resolves = [resolve for work in ended for resolve in work.effects.resolves]
        return await self._carrier.carry(works, unfenced, now, closed)

    async def _finish(self, works: Sequence[Work]) -> None:
        """Carry out what was recorded before its delivery came again, and acknowledge."""
        closed: list[FlowState] = []
        now, every = self._clock.now(), list(works)
        try:
            await self._carry_out(every, (), now, closed)
            await self._end(every, now, closed)
        finally:
            self._untold += closed

    async def _end(self, works: list[Work], now: float, closed: list[FlowState]) -> set[Receipt]:
        """End the custody of what was carried out, and note that it was; return the receipts that were lost."""
        lost = await self._custodian.end(works)
        await self._end_overtaken(works, now, closed)
        await self._ledger.close(works, lost)
        return lost

    async def _end_overtaken(self, works: list[Work], now: float, closed: list[FlowState]) -> None:
        """End those that were held too late: their flow was over, and had ended them, while this worker stood still.

        Looked at after they were held, so that one of the two sees the other.
        """
        held = {
            successor(work.key): work.told.ending.flow_id
            for work in works
            if work.key is not None and isinstance(work.told.ending, Hold) and not work.carried
        }
        ended = await self._ledger.recorded(list(held))
        if ended:
            resolves = tuple([Resolve(key.task_id, held[key], NO_EFFECTS) for key in ended])
            others: list[Work] = []
            await self._carry_out(others, [Effects(resolves=resolves)], now, closed)
            await self._ledger.close(others, await self._custodian.end(others))

    async def finish(self, ids: Sequence[str]) -> None:
        works = await self._decided.ends(ids)
        if works:
            await self._finish(works)

    # --- custody ------------------------------------------------------------------------------------------------------

    async def park(self, delivery: Delivery, token: str, lease: float) -> Delivery | None:
        if self._one is not None:
            return await self._one.park(delivery, token, lease)
        parked = await self._parking.park(delivery, token, lease)
        if parked is not None:
            self._handed.note_parked(parked)
        return parked

    def keeper(self) -> AbstractAsyncContextManager[Keeper]:
        return BothKeeper(self.queue, self.store, lambda: self._loop)

    async def release(self, receipts: Sequence[Receipt]) -> None:
        for custody in (self.queue, self.store) if self._one is None else (self.queue,):
            home = home_of(custody)
            if home is not None:
                await home.release(receipts)
            else:
                await _give_back(custody, receipts)

    async def close(self) -> None:
        """Close the parts, each once, even if one of them fails."""
        parts = (self.queue, self.store, self.barrier, self.projections)
        closers: dict[int, Callable[[], object]] = {}
        for part in parts:
            target = home_of(part) or part
            closer = getattr(target, "close", None)
            if closer is not None:
                closers.setdefault(id(target), closer)
        errors: list[BackendError] = []
        for closer in closers.values():
            try:
                answer = closer()
                if asyncio.iscoroutine(answer):
                    await answer
            except BackendError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def on_change(self, callback: Callable[[], object]) -> Callable[[], None]:
        return self._bell.on_change(callback)


def _poll_interval(part: Custody) -> float:
    """A part that tells of no changes must be looked at, even if nobody else is said to use it."""
    interval: float = getattr(home_of(part) or part, "poll_interval", POLL)
    return interval


def _is_alone(batch: Batch) -> bool:
    return len(batch.settlements) + len(batch.effects) == 1


async def _give_back(custody: Custody, receipts: Sequence[Receipt]) -> None:
    """Re-arm as they stand, by what the custodian tells; where it tells nothing, their leases run out."""
    if not custody.guarantees.rearms or not custody.guarantees.locates:
        return
    places = await custody.locate([receipt.id for receipt in receipts])
    rearms = [
        (receipt, Rearm(place.run_at, place.attempt, place.stats))
        for receipt in receipts
        if (place := places.get(receipt.id)) is not None and place.token == receipt.token
    ]
    if rearms:
        await custody.rearm(rearms)
