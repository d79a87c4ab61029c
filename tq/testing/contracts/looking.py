"""Custody, part three: cancels, and where messages are."""

from __future__ import annotations

import pytest

from tq.clock import Clock
from tq.model import Rearm, State
from tq.ports import Custody

from .suite import Suite
from .values import add, claim, held, ids, message, take

__all__ = ["Looking"]


class Looking(Suite[Custody]):
    """What is asked to end is told so; what is live is found."""

    async def test_a_cancelled_message_is_due_at_once(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            self.needs(custody, "delays")
            now = clock.now()
            await add(custody, message("later", now + self.long), message("a", now), message("other", now))
            assert sorted(await custody.cancel(["later", "a", "never"])) == ["a", "later"]
            found = {it.message.id: it.cancelled for it in await take(custody, lease=self.long)}
            assert found == {"later": True, "a": True, "other": False}

    async def test_what_was_cancelled_and_handed_out_falls_due_no_more(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            await add(custody, message("a", clock.now() + 10 * self.beat))
            await custody.cancel(["a"])
            before = clock.now()
            answer = await custody.claim(claim(5, lease=self.long))
            assert ids(answer.deliveries) == ["a"]
            assert answer.next_due is not None
            assert answer.next_due >= before + self.long - 1e-3

    async def test_a_running_delivery_is_told_by_the_next_claim_of_its_worker(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            await add(custody, message("a", clock.now()), message("b", clock.now()))
            first, second = await take(custody, lease=self.long, worker="mine")
            assert await custody.cancel(["a"]) == ["a"]
            assert (await custody.claim(claim(1, lease=self.long, worker="other"))).cancelled == ()
            assert (await custody.claim(claim(1, lease=self.long, worker="min"))).cancelled == ()
            for _ in range(2):  # the first answer may have been lost
                assert (await custody.claim(claim(1, lease=self.long, worker="mine"))).cancelled == (first.receipt,)
            await custody.ack([first.receipt, second.receipt])
            assert (await custody.claim(claim(1, lease=self.long, worker="mine"))).cancelled == ()

    async def test_a_running_delivery_is_told_by_its_renewal(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            await add(custody, message("a", clock.now()), message("b", clock.now()))
            first, second = await take(custody, lease=self.long)
            await custody.cancel(["a"])
            renewal = await custody.renew([first.receipt, second.receipt], self.beat)
            assert (renewal.lost, renewal.cancelled) == ((), (first.receipt,))

    async def test_a_cancel_survives_a_crash_and_a_retry(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            self.needs(custody, "rearms")
            await add(custody, message("a", clock.now()))
            await take(custody, lease=self.beat)
            assert await custody.cancel(["a", "a"]) == ["a"]
            await clock.sleep(1.1 * self.beat)
            (crashed,) = await take(custody, lease=self.long, worker="other")
            assert (crashed.cancelled, crashed.crashes) == (True, 1)
            await custody.rearm([(crashed.receipt, Rearm(clock.now() + 9 * self.beat, 1, b""))])
            (again,) = await take(custody, lease=self.long)
            assert again.cancelled

    async def test_cancelling_twice_is_cancelling_once(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            self.needs(custody, "delays")
            await add(custody, message("a", clock.now() + self.long))
            for _ in range(2):
                assert await custody.cancel(["a"]) == ["a"]
            assert ids(await take(custody, lease=self.long)) == ["a"]
            assert await take(custody, lease=self.long) == []

    async def test_what_is_gone_cannot_be_cancelled(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            await add(custody, message("a", clock.now()))
            (delivery,) = await take(custody, lease=self.long)
            await custody.ack(held(delivery))
            assert await custody.cancel(["a"]) == []
            assert await custody.cancel([]) == []

    # --- looking --------------------------------------------------------------------------------------------------

    async def test_a_live_message_is_located(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            self.needs(custody, "locates")
            now = clock.now()
            await add(custody, message("a", now, generation=2, attempt=1, stats=b"{}"), message("b", now, queue="r"))
            waiting = (await custody.locate(["a", "b", "never"]))["a"]
            assert (waiting.id, waiting.queue, waiting.type, waiting.state) == ("a", "q", "t", State.WAITING)
            assert waiting.run_at == pytest.approx(now, abs=1e-3)
            assert (waiting.generation, waiting.attempt, waiting.stats) == (2, 1, b"{}")
            assert (waiting.lease_until, waiting.token, waiting.held_by) == (0.0, "", "")
            assert (waiting.crashes, waiting.cancelled) == (0, False)
            before = clock.now()
            (delivery,) = await take(custody, lease=self.long)
            after = clock.now()
            await custody.cancel(["a"])
            where = await custody.locate(["a", "b", "never"])
            assert sorted(where) == ["a", "b"]
            running = where["a"]
            assert (running.state, running.token, running.cancelled) == (State.RUNNING, delivery.token, True)
            assert before - 1e-3 <= running.lease_until - self.long <= after + 1e-3
            assert where["b"].state is State.WAITING
            await custody.ack(held(delivery))
            assert sorted(await custody.locate(["a", "b"])) == ["b"]

    async def test_a_message_that_was_given_back_is_held_by_nobody(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            self.needs(custody, "rearms")
            now = clock.now()
            await add(custody, message("a", now))
            (delivery,) = await take(custody, lease=self.long)
            await custody.rearm([(delivery.receipt, Rearm(now + self.beat, 1, b"{}"))])
            where = (await custody.locate(["a"]))["a"]
            assert (where.state, where.token, where.lease_until) == (State.WAITING, "", 0.0)
            assert (where.attempt, where.stats) == (1, b"{}")
            assert where.run_at == pytest.approx(now + self.beat, abs=1e-3)

    async def test_crashes_are_located(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            await add(custody, message("a", clock.now()))
            await take(custody, lease=self.beat)
            await clock.sleep(1.1 * self.beat)
            await take(custody, lease=self.long)
            assert (await custody.locate(["a"]))["a"].crashes == 1

    async def test_live_messages_are_listed_by_id_page_by_page(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            self.needs(custody, "locates")
            names = [f"{number * 37 % 100:03}" for number in range(100)]
            await custody.add([message(name, clock.now(), queue="q" if name < "050" else "r") for name in names])
            running = await take(custody, 10, lease=self.long)
            await custody.ack([it.receipt for it in running[:5]])
            gone = set(ids(running[:5]))
            expected = [name for name in sorted(names) if name not in gone]
            got: list[str] = []
            while page := await custody.list(None, got[-1] if got else "", 30):
                assert len(page) <= 30
                got += [where.id for where in page]
            assert got == expected
            assert [it.id for it in await custody.list("q", "020", 5)] == [it for it in expected if it > "020"][:5]
            assert {it.queue for it in await custody.list("r", "", 100)} == {"r"}
            await custody.add([message("0205", clock.now())])
            assert (await custody.list(None, "020", 1))[0].id == "0205"

    async def test_messages_are_counted_by_queue_and_state(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            self.needs(custody, "delays")
            now = clock.now()
            assert await custody.counts() == {}
            await add(custody, *[message(f"{number}", now) for number in range(5)])
            await add(custody, message("later", now + self.beat), message("other", now, queue="r"))
            await take(custody, 2, lease=self.long)
            counts = {queue: dict(it) for queue, it in (await custody.counts()).items()}
            assert counts["q"] == {"waiting": 3, "delayed": 1, "running": 2, "held": 0}
            assert counts["r"] == {"waiting": 1, "delayed": 0, "running": 0, "held": 0}
            await clock.sleep(1.1 * self.beat)
            assert (await custody.counts())["q"]["waiting"] == 4
