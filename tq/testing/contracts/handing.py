"""Custody, part one: what comes in, and in which order it is handed out."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from tq.clock import Clock
from tq.errors import ContentRefusedError
from tq.ports import Custody

from .suite import Suite
from .values import add, claim, ids, message, take

__all__ = ["HandingOut"]


class HandingOut(Suite[Custody]):
    """Messages come in once and go out in order."""

    @pytest.mark.spec("MQ-01")
    async def test_a_message_comes_out_as_it_went_in(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            body = bytes(range(256)) + "✓ ünï".encode()
            sent = message(
                "ä-1", clock.now(), type="images.resize", body=body, generation=2, attempt=3, stats=b'{"a":1}'
            )
            assert await add(custody, sent) == []
            (delivery,) = await take(custody, lease=self.long)
            assert delivery.message == sent
            assert (delivery.fence, delivery.crashes, delivery.solo_crashes) == (1, 0, 0)
            assert (delivery.cancelled, delivery.unknown_since) == (False, 0.0)

    async def test_queues_and_types_may_have_any_name(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            names = ["a b", "ünï✓😀", "a:b/{c}*?", "'\"%_\\", "a\nb\tc", "a", "A", "x" * 500]
            await add(custody, *[message(f"{n}", clock.now(), queue=name, type=name) for n, name in enumerate(names)])
            for n, name in enumerate(names):
                (delivery,) = await take(custody, lease=self.long, queues=[name])
                assert (delivery.message.id, delivery.message.queue, delivery.message.type) == (f"{n}", name, name)
                assert (await custody.counts())[name]["running"] == 1

    @pytest.mark.spec("MQ-04")
    async def test_adding_nothing_does_nothing(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            assert await custody.add([]) == []
            assert await take(custody, lease=self.long) == []

    @pytest.mark.spec("D-17", "D-82", "ADP-07")
    async def test_an_id_that_is_there_is_reported_and_stays_as_it_is(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            self.needs(custody, "locates")
            now = clock.now()
            await add(custody, message("a", now, body=b"first"))
            taken = await add(custody, message("b", now), message("a", now, body=b"second"), message("c", now))
            assert taken == ["a"]
            deliveries = await take(custody, lease=self.long)
            assert {it.message.id: it.message.body for it in deliveries}["a"] == b"first"
            assert sorted(ids(deliveries)) == ["a", "b", "c"]

    async def test_an_id_that_runs_is_there_too(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            self.needs(custody, "locates")
            await add(custody, message("a", clock.now()))
            (delivery,) = await take(custody, lease=self.long)
            assert await add(custody, message("a", clock.now())) == ["a"]
            assert await take(custody, lease=self.long) == []
            assert await custody.ack([delivery.receipt]) == []

    async def test_an_id_named_twice_in_one_call_is_added_once(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            now = clock.now()
            assert await add(custody, message("a", now, body=b"1"), message("a", now, body=b"2")) == ["a"]
            (delivery,) = await take(custody, lease=self.long)
            assert delivery.message.body == b"1"

    async def test_an_id_may_come_again_once_it_has_gone(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            for _ in range(2):
                assert await add(custody, message("a", clock.now())) == []
                (delivery,) = await take(custody, lease=self.long)
                await custody.ack([delivery.receipt])

    @pytest.mark.spec("ADP-07")
    async def test_refused_content_keeps_its_whole_call_out(self, clock: Clock) -> None:
        bad = self.bad_text()
        async with self.open(clock) as custody:
            now = clock.now()
            for wrong in (message("b", now, type=bad), message(bad, now), message("b", now, queue=bad)):
                with pytest.raises(ContentRefusedError):
                    await add(custody, message("a", now), wrong)
            assert await take(custody, lease=self.long) == []
            assert await custody.locate(["a", "b"]) == {}

    @pytest.mark.spec("D-38", "MEM-02")
    async def test_nothing_is_handed_out_before_its_time(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            self.needs(custody, "delays")
            await add(custody, message("later", clock.now() + self.beat), message("now", clock.now()))
            assert ids(await take(custody, lease=self.long)) == ["now"]
            await clock.sleep(0.5 * self.beat)
            assert await take(custody, lease=self.long) == []
            await clock.sleep(0.6 * self.beat)
            assert ids(await take(custody, lease=self.long)) == ["later"]

    @pytest.mark.spec("MQ-01", "ADP-04")
    async def test_what_was_due_first_goes_first_then_what_was_added_first(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            self.needs(custody, "delays")
            now = clock.now() - 9 * self.beat
            await add(custody, message("z", now), message("m", now), message("late", now + 2 * self.beat))
            await add(custody, message("a", now), message("early", now - self.beat), message("mid", now + self.beat))
            order = ["early", "z", "m", "a", "mid", "late"]
            assert ids(await take(custody, 2, lease=self.long)) == order[:2]
            assert ids(await take(custody, lease=self.long)) == order[2:]

    async def test_order_holds_across_types(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            self.needs(custody, "delays")
            now = clock.now() - 9 * self.beat
            random = Random(5)
            sent = [
                message(f"{number:02}", now + random.randrange(20) * 0.01, type=type)
                for number, type in enumerate(random.choices("stuvw", k=60))
            ]
            await custody.add(sent)
            got: list[str] = []
            while taken := await take(custody, 7, lease=self.long):
                got += ids(taken)
            assert got == [it.id for it in sorted(sent, key=lambda it: it.run_at)]  # a stable sort: as they were added

    @pytest.mark.spec("ADP-05")
    async def test_a_claim_brings_no_more_than_its_limit(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            await custody.add([message(f"{number}", clock.now(), type=f"t{number % 3}") for number in range(10)])
            assert len(await take(custody, 4, lease=self.long)) == 4
            assert await take(custody, 0, lease=self.long) == []
            assert len(await take(custody, 10, lease=self.long)) == 6

    @pytest.mark.spec("D-32")
    async def test_a_claim_takes_from_its_own_queues_only(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            now = clock.now()
            await add(custody, message("a", now, queue="one"), message("b", now, queue="two"))
            assert ids(await take(custody, lease=self.long, queues=("two", "three"))) == ["b"]
            assert await take(custody, lease=self.long, queues=()) == []
            assert ids(await take(custody, lease=self.long, queues=("one",))) == ["a"]

    async def test_a_type_without_a_free_slot_stays_and_holds_nobody_up(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            now = clock.now()
            await custody.add([message(f"slow-{number}", now, type="slow") for number in range(20)])
            await add(custody, message("fast", now, type="fast"), message("other", now, type="slow", queue="other"))
            got = await take(custody, 2, lease=self.long, queues=("q", "other"), exclude=[("q", "slow")])
            assert ids(got) == ["fast", "other"]
            assert len(await take(custody, lease=self.long)) == 20

    async def test_a_type_with_a_cap_is_handed_out_so_often_and_holds_nobody_up(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            now = clock.now()
            await custody.add([message(f"slow-{number}", now, type="slow") for number in range(20)])
            await custody.add([message(f"fast-{number}", now, type="fast") for number in range(5)])
            got = await take(custody, 10, lease=self.long, caps={("q", "slow"): 3})
            fast = [f"fast-{number}" for number in range(5)]
            assert sorted(ids(got)) == sorted(["slow-0", "slow-1", "slow-2", *fast])
            answer = await custody.claim(claim(10, lease=self.long, caps={("q", "slow"): 2, ("q", "none"): 1}))
            assert ids(answer.deliveries) == ["slow-3", "slow-4"]
            assert answer.next_due is not None
            assert answer.next_due > now, "what the cap held back does not call for another claim"

    @pytest.mark.spec("INV-03", "D-29", "D-33")
    async def test_what_was_handed_out_is_not_handed_out_again(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            await custody.add([message(f"{number}", clock.now()) for number in range(100)])
            claims = [claim(3, lease=self.long, worker=f"w{number % 4}") for number in range(40)]
            answers = await asyncio.gather(*[custody.claim(one) for one in claims])
            got = [name for answer in answers for name in ids(answer.deliveries)]
            assert sorted(got) == sorted(f"{number}" for number in range(100))
            tokens = {delivery.token for answer in answers for delivery in answer.deliveries}
            assert tokens <= {one.token for one in claims}

    async def test_a_short_claim_tells_when_something_will_fall_due(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            self.needs(custody, "delays")
            now = clock.now()
            due, later = now + 20 * self.beat, now + 30 * self.beat
            await add(custody, message("now", now), message("later", later), message("due", due, type="u"))
            assert (await custody.claim(claim(1, lease=self.long))).next_due is None
            assert (await custody.claim(claim(5, lease=self.long))).next_due == pytest.approx(due, abs=1e-3)
            excluded = claim(5, lease=self.long, exclude=[("q", "u")])
            assert (await custody.claim(excluded)).next_due == pytest.approx(later, abs=1e-3)

    async def test_nothing_falls_due_where_nothing_waits(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            assert (await custody.claim(claim(5, lease=self.long))).next_due is None
            await add(custody, message("elsewhere", clock.now() + self.beat, queue="other"))
            assert (await custody.claim(claim(5, lease=self.long))).next_due is None

    async def test_the_end_of_a_lease_falls_due(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            self.needs(custody, "delays")
            now = clock.now()
            await add(custody, message("a", now), message("b", now), message("later", now + 50 * self.beat))
            before = clock.now()
            first, second = await take(custody, lease=10 * self.beat)
            after = clock.now()
            end = (await custody.claim(claim(5, lease=self.long))).next_due
            assert end is not None
            assert before - 1e-3 <= end - 10 * self.beat <= after + 1e-3
            before = clock.now()
            await custody.renew([first.receipt, second.receipt], 20 * self.beat)
            after = clock.now()
            end = (await custody.claim(claim(5, lease=self.long))).next_due
            assert end is not None
            assert before - 1e-3 <= end - 20 * self.beat <= after + 1e-3
            await custody.renew([first.receipt], 30 * self.beat)
            assert (await custody.claim(claim(5, lease=self.long))).next_due == pytest.approx(end, abs=1e-3)
            await custody.ack([first.receipt, second.receipt])
            answer = await custody.claim(claim(5, lease=self.long))
            assert answer.next_due == pytest.approx(now + 50 * self.beat, abs=1e-3)

    async def test_a_paused_queue_hands_nothing_out(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            now = clock.now()
            await add(custody, message("a", now), message("b", now), message("c", now, queue="other"))
            (running,) = await take(custody, 1, lease=self.long)
            await custody.pause("q", paused=True)
            await custody.pause("q", paused=True)
            await custody.pause("also", paused=True)
            assert await custody.paused() == ["also", "q"]
            assert ids(await take(custody, lease=self.long, queues=("q", "other"))) == ["c"]
            assert await custody.ack([running.receipt]) == []
            await custody.pause("q", paused=False)
            assert await custody.paused() == ["also"]
            assert ids(await take(custody, lease=self.long)) == ["b"]
