"""Custody, part two: who holds a message, until when, and what comes of it."""

from __future__ import annotations

import pytest

from tq.clock import Clock
from tq.model import Delivery, Rearm, Receipt
from tq.ports import Custody

from .suite import Suite
from .values import add, held, ids, message, take

__all__ = ["Leasing"]


class Leasing(Suite[Custody]):
    """A receipt counts while its token is the message's."""

    async def one(self, custody: Custody, clock: Clock) -> Delivery:
        """Add a message and claim it for one beat."""
        await add(custody, message("a", clock.now()))
        (delivery,) = await take(custody, lease=self.beat)
        return delivery

    async def after_lease(self, custody: Custody, clock: Clock) -> Delivery:
        """Wait until a lease of one beat is over; return the message's next delivery, for one beat."""
        await clock.sleep(1.1 * self.beat)
        (delivery,) = await take(custody, lease=self.beat, worker="other")
        return delivery

    async def test_what_is_acknowledged_is_gone(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            delivery = await self.one(custody, clock)
            assert await custody.ack(held(delivery)) == []
            assert await custody.locate(["a"]) == {}
            await clock.sleep(2 * self.beat)
            assert await take(custody, lease=self.beat) == []

    async def test_acknowledging_twice_is_harmless_and_told(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            delivery = await self.one(custody, clock)
            await custody.ack(held(delivery))
            assert await custody.ack(held(delivery)) == held(delivery)
            assert await custody.ack([]) == []

    @pytest.mark.spec("D-04", "INV-03", "D-31")
    async def test_a_receipt_of_somebody_else_does_nothing(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            self.needs(custody, "rearms")
            delivery = await self.one(custody, clock)
            for wrong in (Receipt("a", "w:never"), Receipt("a", ""), Receipt("never", delivery.token)):
                assert await custody.ack([wrong]) == [wrong]
                assert await custody.rearm([(wrong, Rearm(clock.now(), 1, b""))]) == [wrong]
                assert await custody.solo([wrong]) == [wrong]
                assert (await custody.renew([wrong], 9 * self.beat)).lost == (wrong,)
            again = await self.after_lease(custody, clock)
            assert (again.message.attempt, again.crashes, again.solo_crashes) == (0, 1, 0)

    async def test_a_waiting_message_has_no_receipt(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            await add(custody, message("a", clock.now()))
            assert await custody.ack([Receipt("a", "")]) == [Receipt("a", "")]
            assert ids(await take(custody, lease=self.beat)) == ["a"]

    @pytest.mark.spec("D-36", "D-34", "D-02")
    async def test_a_lease_that_ran_out_gives_the_message_to_another_worker(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            first = await self.one(custody, clock)
            await clock.sleep(0.5 * self.beat)
            assert await take(custody, lease=self.beat, worker="other") == []
            await clock.sleep(0.6 * self.beat)
            (second,) = await take(custody, lease=self.beat, worker="other")
            assert second.message == first.message
            assert second.token != first.token
            assert (second.crashes, second.solo_crashes, second.fence) == (1, 0, 2)

    @pytest.mark.spec("D-04", "INV-03")
    async def test_who_lost_the_lease_cannot_settle(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            self.needs(custody, "rearms")
            first = await self.one(custody, clock)
            second = await self.after_lease(custody, clock)
            assert await custody.ack(held(first)) == held(first)
            assert await custody.rearm([(first.receipt, Rearm(clock.now(), 1, b""))]) == held(first)
            assert (await custody.renew(held(first), self.beat)).lost == (first.receipt,)
            assert await custody.ack(held(second)) == []

    async def test_a_late_settlement_counts_while_nobody_else_was_given_the_message(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            delivery = await self.one(custody, clock)
            await clock.sleep(1.5 * self.beat)
            assert await custody.ack(held(delivery)) == []
            assert await take(custody, lease=self.beat) == []

    @pytest.mark.spec("D-34", "D-04")
    async def test_a_renewed_lease_runs_from_now(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            delivery = await self.one(custody, clock)
            await clock.sleep(0.5 * self.beat)
            renewal = await custody.renew(held(delivery), 2 * self.beat)
            assert (renewal.lost, renewal.cancelled) == ((), ())
            await clock.sleep(self.beat)
            assert await take(custody, lease=self.beat, worker="other") == []
            await clock.sleep(1.2 * self.beat)
            assert ids(await take(custody, lease=self.beat, worker="other")) == ["a"]

    async def test_a_renewal_may_shorten_a_lease(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            await add(custody, message("a", clock.now()), message("b", clock.now()))
            first, _ = await take(custody, lease=self.long)
            await custody.renew(held(first), self.beat)
            await clock.sleep(1.1 * self.beat)
            assert ids(await take(custody, lease=self.beat, worker="other")) == ["a"]

    async def test_only_what_is_renewed_is_kept(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            await add(custody, *[message(f"{number}", clock.now()) for number in range(5)])
            deliveries = await take(custody, lease=self.beat)
            await custody.renew([it.receipt for it in deliveries[1:3]], 4 * self.beat)
            await clock.sleep(1.1 * self.beat)
            assert ids(await take(custody, lease=self.long, worker="other")) == ["0", "3", "4"]
            await clock.sleep(3.1 * self.beat)
            assert ids(await take(custody, lease=self.long, worker="other")) == ["1", "2"]

    @pytest.mark.spec("D-36", "INV-02")
    async def test_everything_of_a_dead_worker_comes_back_once(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            await add(custody, *[message(f"{number:03}", clock.now()) for number in range(300)])
            lost = await take(custody, 200, lease=self.beat)
            await custody.ack([it.receipt for it in lost[::2]])
            await clock.sleep(1.1 * self.beat)
            back = await take(custody, 300, lease=self.long, worker="other")
            assert sorted(ids(back)) == sorted(ids(lost[1::2]) + [f"{number:03}" for number in range(200, 300)])
            assert {it.crashes for it in back if it.message.id < "200"} == {1}
            assert {it.crashes for it in back if it.message.id >= "200"} == {0}

    # --- retries --------------------------------------------------------------------------------------------------

    @pytest.mark.spec("D-14", "STO-04", "STO-03")
    async def test_a_retry_is_the_same_message_at_its_new_time(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            self.needs(custody, "rearms")
            delivery = await self.one(custody, clock)
            again = Rearm(clock.now() + self.beat, 1, b'{"retry_count":1}')
            assert await custody.rearm([(delivery.receipt, again)]) == []
            await clock.sleep(0.5 * self.beat)
            assert await take(custody, lease=self.beat) == []
            await clock.sleep(0.6 * self.beat)
            (retry,) = await take(custody, lease=self.beat)
            assert (retry.message.id, retry.message.body) == ("a", delivery.message.body)
            assert (retry.message.attempt, retry.message.stats) == (1, b'{"retry_count":1}')
            assert retry.message.run_at == pytest.approx(again.run_at, abs=1e-3)
            await custody.rearm([(retry.receipt, Rearm(clock.now(), 2, b'{"retry_count":2}'))])
            (last,) = await take(custody, lease=self.beat)
            assert (last.message.attempt, last.message.stats) == (2, b'{"retry_count":2}')
            assert [it.id for it in await custody.list(None, "", 9)] == ["a"]

    @pytest.mark.spec("D-15", "D-01")
    async def test_a_retry_is_no_crash_and_a_crash_no_retry(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            self.needs(custody, "rearms")
            delivery = await self.one(custody, clock)
            crashed = await self.after_lease(custody, clock)
            assert (crashed.crashes, crashed.message.attempt, crashed.message.stats) == (1, 0, delivery.message.stats)
            await custody.rearm([(crashed.receipt, Rearm(clock.now(), 1, b""))])
            (again,) = await take(custody, lease=self.beat)
            assert (again.crashes, again.message.attempt, again.fence) == (1, 1, 3)
            await custody.rearm([(again.receipt, Rearm(clock.now(), 1, b"", unknown_since=5.0))])
            (released,) = await take(custody, lease=self.beat)
            assert (released.crashes, released.message.attempt, released.unknown_since) == (1, 1, 5.0)
            assert (delivery.fence, released.fence) == (1, 4)

    async def test_giving_back_twice_counts_once(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            self.needs(custody, "rearms")
            delivery = await self.one(custody, clock)
            await custody.rearm([(delivery.receipt, Rearm(clock.now(), 1, b"one"))])
            assert await custody.rearm([(delivery.receipt, Rearm(clock.now(), 2, b"two"))]) == held(delivery)
            (again,) = await take(custody, lease=self.beat)
            assert (again.message.attempt, again.message.stats) == (1, b"one")

    @pytest.mark.spec("D-82")
    async def test_a_delivery_stays_what_it_was(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            self.needs(custody, "rearms")
            delivery = await self.one(custody, clock)
            seen, where = tuple(delivery), (await custody.locate(["a"]))["a"]
            kept = tuple(where)
            await custody.rearm([(delivery.receipt, Rearm(clock.now(), 7, b"changed"))])
            await custody.cancel(["a"])
            assert (tuple(delivery), tuple(where)) == (seen, kept)

    # --- running alone --------------------------------------------------------------------------------------------

    async def test_a_crash_alone_is_counted_as_such(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            await add(custody, message("a", clock.now()), message("b", clock.now()))
            first, second = await take(custody, lease=self.beat)
            assert await custody.solo(held(first)) == []
            await clock.sleep(1.1 * self.beat)
            found = {it.message.id: it for it in await take(custody, lease=self.beat)}
            assert (found["a"].crashes, found["a"].solo_crashes) == (1, 1)
            assert (found["b"].crashes, found["b"].solo_crashes) == (1, 0)
            assert second.crashes == 0

    async def test_running_alone_ends_with_the_delivery(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            self.needs(custody, "rearms")
            delivery = await self.one(custody, clock)
            await custody.solo(held(delivery))
            await custody.rearm([(delivery.receipt, Rearm(clock.now(), 1, b""))])
            await take(custody, lease=self.beat)
            again = await self.after_lease(custody, clock)
            assert (again.crashes, again.solo_crashes) == (1, 0)
            await custody.solo(held(again))
            third = await self.after_lease(custody, clock)
            assert (third.crashes, third.solo_crashes) == (2, 1)
            fourth = await self.after_lease(custody, clock)
            assert (fourth.crashes, fourth.solo_crashes) == (3, 1)

    async def test_a_renewal_leaves_a_delivery_alone(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            delivery = await self.one(custody, clock)
            await custody.solo(held(delivery))
            await custody.renew(held(delivery), 0.5 * self.beat)
            again = await self.after_lease(custody, clock)
            assert (again.crashes, again.solo_crashes) == (1, 1)
