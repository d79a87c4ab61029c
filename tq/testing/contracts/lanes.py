"""Custody, part four: messages of one lane go one at a time, in the order in which they were added."""

from __future__ import annotations

import pytest

from tq.clock import Clock
from tq.model import Rearm
from tq.ports import Custody

from .suite import Suite
from .values import add, claim, held, ids, message, take

__all__ = ["Lanes"]


class Lanes(Suite[Custody]):
    """Order per lane survives whatever happens to its oldest message."""

    async def test_of_a_lane_only_the_oldest_is_handed_out(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            now = clock.now()
            await add(custody, *[message(f"{number}", now - number, lane="L") for number in range(4)])
            got: list[str] = []
            for _ in range(4):
                (delivery,) = await take(custody, lease=self.long)
                assert await take(custody, lease=self.long) == []
                got += ids([delivery])
                await custody.ack(held(delivery))
            assert got == ["0", "1", "2", "3"]

    async def test_lanes_do_not_hold_each_other_up(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            now = clock.now()
            await add(custody, message("a1", now, lane="A"), message("a2", now, lane="A"), message("b1", now, lane="B"))
            await add(custody, message("free1", now), message("free2", now))
            assert ids(await take(custody, lease=self.long)) == ["a1", "b1", "free1", "free2"]

    @pytest.mark.spec("D-64")
    async def test_order_survives_a_retry_of_the_oldest(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            self.needs(custody, "rearms")
            now = clock.now()
            await add(custody, message("1", now, lane="L"), message("2", now, lane="L"))
            (first,) = await take(custody, lease=self.long)
            due = clock.now() + self.beat
            await custody.rearm([(first.receipt, Rearm(due, 1, b""))])
            answer = await custody.claim(claim(5, lease=self.long))
            assert answer.deliveries == []
            assert answer.next_due == pytest.approx(due, abs=1e-3)
            await clock.sleep(1.1 * self.beat)
            (retry,) = await take(custody, lease=self.long)
            assert (retry.message.id, retry.message.attempt) == ("1", 1)
            await custody.ack(held(retry))
            assert ids(await take(custody, lease=self.long)) == ["2"]

    async def test_order_survives_a_crash_of_the_oldest(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            now = clock.now()
            await add(custody, message("1", now, lane="L"), message("2", now, lane="L"))
            await take(custody, lease=self.beat)
            await clock.sleep(1.1 * self.beat)
            (again,) = await take(custody, lease=self.long, worker="other")
            assert (again.message.id, again.crashes) == ("1", 1)
            assert await take(custody, lease=self.long, worker="other") == []

    async def test_a_message_that_is_due_earlier_does_not_overtake(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            self.needs(custody, "delays")
            now = clock.now()
            await add(custody, message("1", now + self.beat, lane="L"))
            await add(custody, message("2", now - self.beat, lane="L"))
            assert await take(custody, lease=self.long) == []
            await clock.sleep(1.1 * self.beat)
            (first,) = await take(custody, lease=self.long)
            assert first.message.id == "1"
            await custody.ack(held(first))
            assert ids(await take(custody, lease=self.long)) == ["2"]

    async def test_the_next_one_waits_for_its_own_time(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            self.needs(custody, "delays")
            now = clock.now()
            await add(custody, message("1", now, lane="L"), message("2", now + self.beat, lane="L"))
            (first,) = await take(custody, lease=self.long)
            await custody.ack(held(first))
            assert await take(custody, lease=self.long) == []
            await clock.sleep(1.1 * self.beat)
            assert ids(await take(custody, lease=self.long)) == ["2"]

    async def test_a_lane_is_one_across_types(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            now = clock.now()
            await add(custody, message("1", now, lane="L", type="slow"), message("2", now, lane="L", type="fast"))
            assert await take(custody, lease=self.long, exclude=[("q", "slow")]) == []
            assert ids(await take(custody, lease=self.long)) == ["1"]

    async def test_a_cancelled_message_waits_for_its_turn(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            self.needs(custody, "delays")
            now = clock.now()
            await add(custody, message("1", now, lane="L"), message("2", now + 9 * self.beat, lane="L"))
            assert await custody.cancel(["2"]) == ["2"]
            (first,) = await take(custody, lease=self.long)
            assert first.message.id == "1"
            await custody.ack(held(first))
            (second,) = await take(custody, lease=self.long)
            assert (second.message.id, second.cancelled) == ("2", True)

    async def test_a_lane_that_was_empty_begins_anew(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            for name in ("1", "2"):
                await add(custody, message(name, clock.now(), lane="L"))
                (delivery,) = await take(custody, lease=self.long)
                await custody.ack(held(delivery))
            assert await custody.counts() == {}

    async def test_what_waits_behind_another_is_counted_as_waiting(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            self.needs(custody, "delays")
            now = clock.now()
            await add(custody, *[message(f"{number}", now, lane="L") for number in range(3)])
            await add(custody, message("later", now + self.beat, lane="L"))
            await take(custody, lease=self.long)
            counts = dict((await custody.counts())["q"])
            assert counts == {"waiting": 2, "delayed": 1, "running": 1, "held": 0}
