"""The backend, part three: what is done beside the hop. Parking, giving back, renewing, closing."""

from __future__ import annotations

import asyncio

import pytest

from tq.clock import Clock
from tq.errors import BackendError
from tq.model import Effects, Place, Receipt

from .hopping import BackendSuite
from .values import add, hop, message, record, settle

__all__ = ["Beside"]


class Beside(BackendSuite):
    """Between hops the same tokens count."""

    @pytest.mark.spec("D-20", "D-31")
    async def test_only_the_token_of_a_parked_delivery_counts(self, clock: Clock) -> None:
        async with self.open(clock) as backend:
            delivery = await self.one(backend, clock, lease=self.beat)
            parked = await backend.park(delivery, "w:parked", 4 * self.beat)
            assert parked is not None
            assert (parked.token, parked.place, parked.message) == ("w:parked", Place.STORE, delivery.message)
            assert (parked.fence, parked.crashes) == (delivery.fence, delivery.crashes)
            assert await backend.park(delivery, "w:twice", 9 * self.beat) is None
            assert (await settle(backend, delivery)).refused == [delivery.receipt]
            await clock.sleep(1.5 * self.beat)
            assert (await hop(backend, lease=self.long)).deliveries == []
            assert (await settle(backend, parked)).refused == []
            assert await backend.store.locate(["a"]) == {}

    async def test_parking_that_was_not_answered_may_be_asked_for_again(self, clock: Clock) -> None:
        async with self.open(clock) as backend:
            delivery = await self.one(backend, clock, lease=self.beat)
            parked = await backend.park(delivery, "w:parked", self.beat)
            await clock.sleep(0.7 * self.beat)
            assert await backend.park(delivery, "w:parked", 9 * self.beat) == parked
            await clock.sleep(self.beat)
            assert (await hop(backend, lease=self.long)).deliveries == []
            assert parked is not None
            assert (await settle(backend, parked)).refused == []
            assert await backend.park(delivery, "w:parked", self.beat) is None

    @pytest.mark.spec("D-36")
    async def test_a_parked_delivery_of_a_dead_worker_comes_back(self, clock: Clock) -> None:
        async with self.open(clock) as backend:
            parked = await backend.park(await self.one(backend, clock), "w:parked", self.beat)
            await clock.sleep(1.1 * self.beat)
            (again,) = (await hop(backend, lease=self.long, worker="other")).deliveries
            assert (again.message.id, again.crashes, again.fence) == ("a", 1, 2)
            assert parked is not None
            assert (await settle(backend, parked)).refused == [parked.receipt]

    async def test_who_lost_the_lease_parks_nothing(self, clock: Clock) -> None:
        async with self.open(clock) as backend:
            lost = await self.one(backend, clock, lease=self.beat)
            await clock.sleep(1.1 * self.beat)
            (holder,) = (await hop(backend, lease=self.long, worker="other")).deliveries
            assert await backend.park(lost, "w:parked", 9 * self.beat) is None
            assert (await settle(backend, holder)).refused == []

    @pytest.mark.spec("D-01", "D-63")
    async def test_what_is_released_is_due_as_it_was_and_counts_for_nothing(self, clock: Clock) -> None:
        async with self.open(clock) as backend:
            await add(backend.queue, message("a", clock.now(), attempt=2, stats=b"{}"), message("b", clock.now()))
            first, second = (await hop(backend, lease=self.long)).deliveries
            await settle(backend, second)
            await backend.release([first.receipt, second.receipt, Receipt("a", "w:never")])
            assert (await settle(backend, first)).refused == [first.receipt]
            (again,) = (await hop(backend, lease=self.long, worker="other")).deliveries
            assert again.message == first.message
            assert (again.crashes, again.solo_crashes, again.fence) == (0, 0, 2)
            await backend.release([first.receipt])
            assert (await hop(backend, lease=self.long)).deliveries == []

    async def test_only_what_has_ended_can_be_finished(self, clock: Clock) -> None:
        async with self.open(clock) as backend:
            running = await self.one(backend, clock, "runs", lease=self.long)
            await add(backend.queue, message("waits", clock.now()))
            await backend.finish(["runs", "waits", "never"])
            assert sorted(await backend.queue.locate(["runs", "waits"])) == ["runs", "waits"]
            dead = record("runs", clock.now(), dead=True, body=b"again")
            assert (await settle(backend, running, effects=Effects(records=(dead,)))).refused == []
            await backend.finish(["runs"])
            assert await backend.store.revive(["runs"], clock.now()) == ["runs"]

    @pytest.mark.spec("D-04")
    async def test_a_keeper_renews_leases(self, clock: Clock) -> None:
        async with self.open(clock) as backend, backend.keeper() as keeper:
            kept = await self.one(backend, clock, "kept", lease=self.beat)
            lost = await self.one(backend, clock, "lost", lease=self.beat)
            await settle(backend, lost)
            await backend.queue.cancel(["kept"])
            await clock.sleep(0.5 * self.beat)
            renewal = await keeper.renew([kept, lost], 3 * self.beat)
            assert (renewal.lost, renewal.cancelled) == ((lost.receipt,), (kept.receipt,))
            await clock.sleep(self.beat)
            assert (await hop(backend, lease=self.long, worker="other")).deliveries == []
            assert (await settle(backend, kept)).refused == []

    @pytest.mark.spec("D-04")
    async def test_a_keeper_renews_from_a_thread_of_its_own(self, clock: Clock) -> None:
        if clock.virtual:
            pytest.skip("in virtual time nothing runs beside the loop")
        async with self.open(clock) as backend:
            delivery = await self.one(backend, clock, lease=self.beat)

            async def renew() -> None:
                async with backend.keeper() as keeper:
                    assert (await keeper.renew([delivery], 9 * self.beat)).lost == ()

            await asyncio.to_thread(asyncio.run, renew())
            await clock.sleep(1.1 * self.beat)
            assert (await hop(backend, lease=self.long, worker="other")).deliveries == []

    @pytest.mark.spec("MQ-10")
    async def test_a_closed_backend_says_so_and_may_be_closed_again(self, clock: Clock) -> None:
        async with self.open(clock) as backend:
            await backend.close()
            await backend.close()
            with pytest.raises(BackendError, match="closed"):
                await hop(backend, lease=self.long)
