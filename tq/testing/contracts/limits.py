"""Custody, part six: what is declared to be out of reach is so, and what still holds then."""

from __future__ import annotations

import pytest

from tq.clock import Clock
from tq.errors import BackendError
from tq.model import Rearm, Receipt
from tq.ports import Custody

from .suite import Suite
from .values import add, held, ids, message, take

__all__ = ["Limits"]


class Limits(Suite[Custody]):
    """The other way of each declaration: nobody declares less than is true."""

    def lacks(self, port: Custody, guarantee: str) -> None:
        """Skip what a custodian can do."""
        if getattr(port.guarantees, guarantee):
            pytest.skip(f"{port.name} declares {guarantee}")

    async def test_who_cannot_delay_hands_out_at_once(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            self.lacks(custody, "delays")
            await add(custody, message("later", clock.now() + self.long))
            assert ids(await take(custody, lease=self.long)) == ["later"]

    async def test_without_delays_order_is_that_of_adding(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            self.lacks(custody, "delays")
            now = clock.now()
            sent = [message(f"{number:02}", now - number, lane="L") for number in range(30)]
            await custody.add(sent[:20])
            await custody.add(sent[20:])
            got: list[str] = []
            while taken := await take(custody, 7, lease=self.long):
                got += ids(taken)
                await custody.ack(held(taken[0]))
            assert got == [it.id for it in sent]

    async def test_who_cannot_rearm_refuses_to_and_the_message_stays(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            self.lacks(custody, "rearms")
            await add(custody, message("a", clock.now()))
            (delivery,) = await take(custody, lease=self.long)
            with pytest.raises(BackendError):
                await custody.rearm([(delivery.receipt, Rearm(clock.now(), 1, b""))])
            assert await custody.ack(held(delivery)) == []

    @pytest.mark.spec("D-04", "INV-03", "D-31")
    async def test_without_rearming_too_only_the_holder_settles(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            self.lacks(custody, "rearms")
            await add(custody, message("a", clock.now()))
            (first,) = await take(custody, lease=self.beat)
            for wrong in (Receipt("a", "w:never"), Receipt("a", ""), Receipt("never", first.token)):
                assert await custody.ack([wrong]) == [wrong]
                assert await custody.solo([wrong]) == [wrong]
                assert (await custody.renew([wrong], self.long)).lost == (wrong,)
            await clock.sleep(1.1 * self.beat)
            (second,) = await take(custody, lease=self.beat, worker="other")
            assert await custody.ack(held(first)) == held(first)
            assert (await custody.renew(held(first), self.beat)).lost == (first.receipt,)
            assert await custody.ack(held(second)) == []

    async def test_who_cannot_locate_knows_nothing_of_what_was_not_claimed(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            self.lacks(custody, "locates")
            await add(custody, message("a", clock.now()), message("b", clock.now()))
            assert await custody.locate(["a"]) == {}
            assert await custody.cancel(["a"]) == []
            (delivery,) = await take(custody, 1, lease=self.long)
            assert (await custody.locate(["a"]))["a"].token == delivery.token
            assert [it.id for it in await custody.list(None, "", 9)] == ["a", "b"]
            counts = dict((await custody.counts())["q"])
            assert counts == {"waiting": 1, "delayed": 0, "running": 1, "held": 0}

    async def test_who_cannot_locate_takes_an_id_twice_and_hands_it_out_once_at_a_time(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            self.lacks(custody, "locates")
            for _ in range(2):
                assert await add(custody, message("a", clock.now())) == []
            (first,) = await take(custody, lease=self.long)
            assert await take(custody, lease=self.long) == []
            await custody.ack(held(first))
            assert ids(await take(custody, lease=self.long)) == ["a"]

    async def test_without_delays_what_waits_is_cancelled_in_its_turn(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            self.lacks(custody, "delays")
            now = clock.now()
            await add(custody, message("1", now, lane="L"), message("2", now, lane="L"))
            (first,) = await take(custody, lease=self.long)
            assert await custody.cancel(["2", "never"]) == ["2"]
            assert await take(custody, lease=self.long) == []
            await custody.ack(held(first))
            (second,) = await take(custody, lease=self.long)
            assert (second.message.id, second.cancelled) == ("2", True)

    # --- parts --------------------------------------------------------------------------------------------------------

    @pytest.mark.spec("INV-02")
    async def test_the_end_of_a_process_gives_back_its_parts_uncounted(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            if not custody.guarantees.partitioned:
                pytest.skip(f"{custody.name} leases each message by itself")
            reopened = self.again(custody, clock)
            now = clock.now()
            sent = message("a", now, generation=1, attempt=2, lane="L", stats=b"{}", body=b"\x00\xff")
            await add(custody, sent, message("b", now, lane="L"), message("c", now))
            first, _ = await take(custody, lease=self.long)
            await custody.close()
            async with reopened as reborn:
                assert await reborn.ack(held(first)) == held(first)
                again, other = await take(reborn, lease=self.long, worker="other")
                assert (again.message, again.crashes, other.message.id) == (sent, 0, "c")
                assert again.fence > first.fence

    @pytest.mark.spec("D-29", "D-03", "INV-03")
    async def test_of_two_processes_each_has_parts_of_its_own(self, clock: Clock) -> None:
        async with self.open(clock) as custody, self.again(custody, clock) as other:
            if not custody.guarantees.partitioned:
                pytest.skip(f"{custody.name} leases each message by itself")
            sent = [message(f"{number}", clock.now()) for number in range(100)]
            await custody.add(sent)
            got: list[str] = []
            for number in range(20):
                port = [custody, other][number % 2]
                taken = await take(port, 30, lease=self.long)
                got += ids(taken)
                assert await port.ack([it.receipt for it in taken]) == []
                await clock.sleep(0.2 * self.beat)
            assert sorted(got) == sorted(it.id for it in sent)
