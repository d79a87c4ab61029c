"""Deliveries from queue and store, looked at before they are handed out: some have ended already."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence

from tq.clock import Clock
from tq.codec import is_made
from tq.errors import BackendError, ContentRefusedError
from tq.model import Batch, Claim, Delivery, Place, Rearm
from tq.ports import Backend, Claimed, Custody, MessageQueue, TaskStore

from .handed import HandedOut
from .ledger import Ledger
from .work import Work

__all__ = ["Claimer"]

log = logging.getLogger("tq.commit")

LOOK_EVERY = 1.0
"""Seconds after which the store is asked even though the queue alone keeps the worker busy."""

Finish = Callable[[Sequence[Work]], Awaitable[None]]


class Claimer:
    """Claims from both custodians.

    Neither starves: each gets half of what is asked for, and what it leaves goes to the other. The store is asked
    first, because what is due there has waited longest.
    """

    def __init__(
        self,
        queue: MessageQueue,
        store: TaskStore,
        ledger: Ledger,
        handed: HandedOut,
        clock: Clock,
        finish: Finish,
        one: Backend | None,
    ) -> None:
        """Make a claimer; `one` is the backend to which both belong, if it is one."""
        self._queue = queue
        self._store = store
        self._ledger = ledger
        self._handed = handed
        self._clock = clock
        self._finish = finish
        self._one = one
        self._odd = True
        """Whether the store gets the larger half this time."""
        self._store_due: float | None = None
        self._looked = float("-inf")

    # --- claiming -----------------------------------------------------------------------------------------------------

    async def claim(self, claim: Claim) -> Claimed:
        """Hand out what is due and has not ended.

        Raises:
            BackendError: both custodians are away.
        """
        if self._one is not None:  # it knows by itself what is due in both
            hop = await self._one.commit(Batch(), claim)
            return await self._look_over(claim, Claimed(hop.deliveries, hop.next_due, hop.cancelled))
        found = Claimed([])
        errors: dict[Place, BackendError] = {}
        share = (claim.limit + self._odd) // 2
        self._odd = not self._odd
        waits = not share or not self._store_wanted()
        if not waits:
            found = await self._ask(Place.STORE, claim._replace(limit=share), found, errors)
        found = await self._ask(Place.QUEUE, claim.after(found.deliveries), found, errors)
        more = waits or len(found.deliveries) >= share
        if more and len(found.deliveries) < claim.limit and Place.STORE not in errors:
            left = claim.after(found.deliveries)
            more_token = left.token if waits else f"{left.token}.more"
            found = await self._ask(Place.STORE, left._replace(token=more_token), found, errors)
        if len(errors) > 1:
            raise errors[Place.QUEUE]
        return await self._look_over(claim, found)

    def _store_wanted(self) -> bool:
        due = self._store_due is not None and self._store_due <= self._clock.now()
        return due or self._clock.monotonic() - self._looked >= LOOK_EVERY

    async def _ask(self, place: Place, claim: Claim, found: Claimed, errors: dict[Place, BackendError]) -> Claimed:
        """Add what one custodian hands out; the other one's work goes on while it is away."""
        if claim.limit <= 0:
            return found
        custody: Custody = self._queue if place is Place.QUEUE else self._store
        # Of its own for each custodian: a receipt alone must say whose it is, also where both know the id.
        token = claim.token if place is Place.QUEUE else f"{claim.token}.store"
        try:
            got = await custody.claim(claim._replace(token=token))
        except BackendError as error:
            log.warning("the %s cannot be claimed from: %s", place, error)
            errors[place] = error
            return found._replace(next_due=_sooner(found.next_due, self._clock.now() + LOOK_EVERY))
        if place is Place.STORE:
            self._looked = self._clock.monotonic()
            self._store_due = got.next_due if len(got.deliveries) < claim.limit else self._clock.now()
        deliveries = [it if it.place is place else it._replace(place=place) for it in got.deliveries]
        next_due = _sooner(found.next_due, got.next_due)
        return Claimed([*found.deliveries, *deliveries], next_due, (*found.cancelled, *got.cancelled))

    # --- looking over -------------------------------------------------------------------------------------------------

    async def _look_over(self, claim: Claim, found: Claimed) -> Claimed:
        rows = {delivery.message.id for delivery in found.deliveries if delivery.place is Place.STORE}
        suspects = [delivery for delivery in found.deliveries if self._is_suspect(delivery, rows)]
        in_lanes = [delivery for delivery in found.deliveries if self._needs_lane(delivery)]
        try:
            gone = await self._gone(suspects) if suspects else set[Delivery]()
            gone |= await self._behind_parked([delivery for delivery in in_lanes if delivery not in gone])
        except BackendError as error:
            gone = {*suspects, *in_lanes}
            log.warning("%d deliveries are given back: it cannot be told if they have ended: %s", len(gone), error)
            await self._give_back(gone)
        left = [delivery for delivery in found.deliveries if delivery not in gone]
        for delivery in left:
            self._handed.note(delivery)
        next_due = found.next_due if len(found.deliveries) < claim.limit else None
        return found._replace(deliveries=left, next_due=self._clock.now() if gone else next_due)

    def _is_suspect(self, delivery: Delivery, rows: set[str]) -> bool:
        """Whether a delivery may have ended, or be the store's by now."""
        if delivery.fence > 1 or delivery.crashes:
            return True
        if delivery.place is Place.STORE:
            return not is_made(delivery.message)  # added a second time, it comes as if it were new
        return self._queue.guarantees.redelivery > 0 or delivery.message.id in rows

    async def _gone(self, suspects: Sequence[Delivery]) -> set[Delivery]:
        """End what has ended, leave to the store what is there; return what is not to be run."""
        recorded = await self._ledger.find(suspects)
        gone = await self._finished(recorded)
        known = {delivery for delivery, _ in recorded}
        others = [it for it in suspects if it.place is Place.QUEUE and it not in known]
        if others:
            rows = await self._store.locate([delivery.message.id for delivery in others])
            # The very token, where queue and store are views of one table: that row is the delivery itself.
            left = [it for it in others if it.message.id in rows and rows[it.message.id].token != it.token]
            if left:
                await self._queue.ack([delivery.receipt for delivery in left])
                gone.update(left)
        return gone

    async def _finished(self, recorded: Sequence[tuple[Delivery, Work]]) -> set[Delivery]:
        """Carry out what was recorded; what a server refuses is run again, and ends with that error by its worker."""
        try:
            if recorded:
                await self._finish([work for _, work in recorded])
        except ContentRefusedError as error:
            if len(recorded) > 1:
                return {it for one in recorded for it in await self._finished([one])}
            log.warning("the outcome of task %s is refused, it runs again: %s", recorded[0][0].message.id, error)
            return set()
        return {delivery for delivery, _ in recorded}

    def _needs_lane(self, delivery: Delivery) -> bool:
        """Whether an earlier message of its lane may have been moved to the store: the queue keeps no retries."""
        return delivery.place is Place.QUEUE and bool(delivery.message.lane) and not self._queue.guarantees.rearms

    async def _behind_parked(self, deliveries: Sequence[Delivery]) -> set[Delivery]:
        """Line up in the store what comes behind a parked message of its lane; return what went there."""
        lanes: defaultdict[str, list[Delivery]] = defaultdict(list)
        for delivery in deliveries:
            lanes[delivery.message.lane].append(delivery)
        behind: set[Delivery] = set()
        for lane, waiting in lanes.items():
            messages = [it.message._replace(fence=it.fence) for it in waiting]
            if await self._store.append_if_parked(lane, messages):
                await self._queue.ack([delivery.receipt for delivery in waiting])
                behind.update(waiting)
        return behind

    async def _give_back(self, deliveries: set[Delivery]) -> None:
        """Give back uncounted what was claimed in vain; what cannot be given back comes when its lease runs out."""
        now = self._clock.now()
        for place, custody in ((Place.QUEUE, self._queue), (Place.STORE, self._store)):
            rearms = [
                (it.receipt, Rearm(now + LOOK_EVERY, it.message.attempt, it.message.stats, it.unknown_since))
                for it in deliveries
                if it.place is place
            ]
            if not rearms or (place is Place.QUEUE and not self._queue.guarantees.rearms):
                continue
            try:
                await custody.rearm(rearms)
            except BackendError as error:
                log.warning("%d deliveries come again when their leases run out: %s", len(rearms), error)


def _sooner(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else min(one, other)
