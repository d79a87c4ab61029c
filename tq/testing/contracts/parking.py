"""The store, part one: messages that come over from a queue, are held, or follow a parked one."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractAsyncContextManager

import pytest

from tq.clock import Clock
from tq.errors import ContentRefusedError
from tq.model import Place, Receipt, State
from tq.ports import Custody, TaskStore

from .suite import Suite
from .values import add, claim, held, ids, message, record, take

__all__ = ["Parking", "StoreSuite"]


class StoreSuite(Suite[Custody]):
    """A suite whose port is a store."""

    @abstractmethod
    def open(self, clock: Clock) -> AbstractAsyncContextManager[TaskStore]:
        """Open the store over data of its own: empty, and nobody else's."""

    def reopen(self, port: Custody, clock: Clock) -> AbstractAsyncContextManager[TaskStore] | None:
        """Open the same data once more, as `Suite.reopen` says."""
        return None

    def again(self, port: Custody, clock: Clock) -> AbstractAsyncContextManager[TaskStore]:
        reopened = self.reopen(port, clock)
        if reopened is None:
            pytest.skip("nothing outlives this port")
        return reopened


class Parking(StoreSuite):
    """Custody moves to the store by *write, then acknowledge*: every writing may happen twice."""

    async def test_a_delivery_says_that_it_came_from_the_store(self, clock: Clock) -> None:
        async with self.open(clock) as store:
            await add(store, message("a", clock.now()))
            (delivery,) = await take(store, lease=self.long)
            assert delivery.place is Place.STORE
            assert (await store.locate(["a"]))["a"].place is Place.STORE

    # --- park -----------------------------------------------------------------------------------------------------

    @pytest.mark.spec("D-20")
    async def test_a_parked_message_runs_under_its_new_token(self, clock: Clock) -> None:
        async with self.open(clock) as store:
            sent = message("a", clock.now(), attempt=2, fence=3)
            before = clock.now()
            assert await store.park(sent, "w:p", self.beat)
            after = clock.now()
            where = (await store.locate(["a"]))["a"]
            assert (where.state, where.token, where.attempt) == (State.RUNNING, "w:p", 2)
            assert before - 1e-3 <= where.lease_until - self.beat <= after + 1e-3
            assert await take(store, lease=self.long) == []
            await clock.sleep(1.1 * self.beat)
            (delivery,) = await take(store, lease=self.long)
            assert delivery.message == sent
            assert (delivery.crashes, delivery.place) == (1, Place.STORE)
            assert delivery.fence > 3

    async def test_a_parked_message_is_settled_by_its_token(self, clock: Clock) -> None:
        async with self.open(clock) as store:
            await store.park(message("a", clock.now()), "w:p", self.beat)
            assert (await store.renew([Receipt("a", "w:p")], self.beat)).lost == ()
            assert await store.ack([Receipt("a", "w:p")]) == []
            assert await store.locate(["a"]) == {}

    @pytest.mark.spec("D-20")
    async def test_an_id_that_is_there_is_not_parked(self, clock: Clock) -> None:
        async with self.open(clock) as store:
            assert await store.park(message("a", clock.now(), body=b"1"), "w:1", self.beat)
            assert not await store.park(message("a", clock.now(), attempt=1, body=b"2"), "w:2", 9 * self.beat)
            where = (await store.locate(["a"]))["a"]
            assert (where.token, where.attempt) == ("w:1", 0)
            await clock.sleep(1.1 * self.beat)
            (delivery,) = await take(store, lease=self.long)
            assert delivery.message.body == b"1"

    # --- put ------------------------------------------------------------------------------------------------------

    @pytest.mark.spec("STO-03", "STO-05", "D-14")
    async def test_a_later_execution_replaces_an_earlier_one(self, clock: Clock) -> None:
        async with self.open(clock) as store:
            now = clock.now()
            await store.put([(message("a", now + 9 * self.beat), ""), (message("b", now), "")])
            retry = message("a", now, attempt=1, stats=b'{"retry_count":1}')
            await store.put([(retry, ""), (message("c", now), "")])
            await store.put([(message("a", now), ""), (message("d", now), "")])  # of one older and one new, the new one
            found = {it.message.id: it.message for it in await take(store, lease=self.long)}
            assert sorted(found) == ["a", "b", "c", "d"]
            assert found["a"] == retry

    @pytest.mark.spec("STO-04")
    async def test_an_earlier_or_equal_execution_replaces_nothing(self, clock: Clock) -> None:
        async with self.open(clock) as store:
            now = clock.now()
            kept = message("a", now, generation=1, attempt=1, stats=b"kept")
            await store.put([(kept, "")])
            for generation, attempt in ((1, 1), (1, 0), (0, 7)):
                other = message("a", now + 9 * self.beat, generation=generation, attempt=attempt)
                await store.put([(other, "f")])
            (delivery,) = await take(store, lease=self.long)
            assert delivery.message == kept

    async def test_a_generation_counts_more_than_an_attempt(self, clock: Clock) -> None:
        async with self.open(clock) as store:
            now = clock.now()
            await store.put([(message("a", now, attempt=5), "")])
            await store.put([(message("a", now, generation=1), "")])
            (delivery,) = await take(store, lease=self.long)
            assert (delivery.message.generation, delivery.message.attempt) == (1, 0)

    async def test_who_ran_the_earlier_execution_has_lost_it(self, clock: Clock) -> None:
        async with self.open(clock) as store:
            now = clock.now()
            await store.put([(message("a", now), "")])
            (first,) = await take(store, lease=self.long)
            await store.put([(message("a", now, attempt=1), "")])
            assert await store.ack(held(first)) == held(first)
            (second,) = await take(store, lease=self.long)
            assert (second.message.attempt, second.fence) == (1, 2)

    async def test_the_fence_goes_on_from_the_larger_number(self, clock: Clock) -> None:
        async with self.open(clock) as store:
            now = clock.now()
            for attempt, fence, following in ((0, 0, 1), (1, 5, 6), (2, 2, 7)):
                await store.put([(message("a", now, attempt=attempt, fence=fence), "")])
                (delivery,) = await take(store, lease=self.long)
                assert delivery.fence == following

    @pytest.mark.spec("STO-09")
    async def test_refused_content_keeps_a_whole_put_out(self, clock: Clock) -> None:
        bad = self.bad_text()
        async with self.open(clock) as store:
            now = clock.now()
            with pytest.raises(ContentRefusedError):
                await store.put([(message("a", now), ""), (message("b", now, type=bad), "")])
            assert await store.locate(["a", "b"]) == {}
            await store.put([])

    async def test_what_was_replaced_falls_due_at_its_new_time(self, clock: Clock) -> None:
        async with self.open(clock) as store:
            now = clock.now()
            await store.put([(message("a", now + self.beat), "")])
            await store.put([(message("a", now + 50 * self.beat, attempt=1), "")])
            answer = await store.claim(claim(5, lease=self.long))
            assert answer.next_due == pytest.approx(now + 50 * self.beat, abs=1e-3)
            await clock.sleep(1.1 * self.beat)
            assert await take(store, lease=self.long) == []

    # --- hold and resolve -----------------------------------------------------------------------------------------

    async def test_a_held_message_is_not_handed_out(self, clock: Clock) -> None:
        async with self.open(clock) as store:
            await store.put([(message("a", clock.now()), "f")])
            assert await take(store, lease=self.long) == []
            where = (await store.locate(["a"]))["a"]
            assert (where.state, where.held_by, where.token) == (State.HELD, "f", "")
            assert dict((await store.counts())["q"])["held"] == 1
            await clock.sleep(9 * self.beat)
            assert await take(store, lease=self.long) == []

    async def test_a_cancelled_message_stays_held(self, clock: Clock) -> None:
        async with self.open(clock) as store:
            await store.put([(message("a", clock.now() + self.long), "f")])
            assert await store.cancel(["a"]) == ["a"]
            assert await take(store, lease=self.long) == []
            where = (await store.locate(["a"]))["a"]
            assert (where.state, where.cancelled) == (State.HELD, True)

    async def test_a_later_execution_of_a_held_message_is_held_no_more(self, clock: Clock) -> None:
        async with self.open(clock) as store:
            await store.put([(message("a", clock.now()), "f"), (message("b", clock.now()), "")])
            await store.put([(message("a", clock.now(), attempt=1), ""), (message("b", clock.now(), attempt=1), "g")])
            where = await store.locate(["a", "b"])
            assert (where["a"].state, where["a"].held_by) == (State.WAITING, "")
            assert (where["b"].state, where["b"].held_by) == (State.HELD, "g")
            assert not await store.resolve("a", "f")
            assert ids(await take(store, lease=self.long)) == ["a"]

    async def test_a_held_message_ends_with_its_flow_once(self, clock: Clock) -> None:
        async with self.open(clock) as store:
            await store.put([(message("a", clock.now()), "f"), (message("b", clock.now()), "")])
            assert not await store.resolve("a", "g")
            assert not await store.resolve("b", "f")
            assert not await store.resolve("b", "")
            assert not await store.resolve("never", "f")
            assert await store.resolve("a", "f")
            assert not await store.resolve("a", "f")
            assert sorted(await store.locate(["a", "b"])) == ["b"]

    # --- lanes ----------------------------------------------------------------------------------------------------

    @pytest.mark.spec("D-64")
    async def test_a_message_follows_a_parked_one_of_its_lane(self, clock: Clock) -> None:
        async with self.open(clock) as store:
            now = clock.now()
            assert not await store.append_if_parked("L", [message("2", now, lane="L")])
            assert await store.locate(["2"]) == {}
            await store.put([(message("1", now + self.beat, lane="L"), "")])
            assert await store.append_if_parked("L", [message("2", now, lane="L"), message("3", now, lane="L")])
            assert not await store.append_if_parked("M", [message("4", now, lane="M")])
            assert await take(store, lease=self.long) == []
            await clock.sleep(1.1 * self.beat)
            for name in ("1", "2", "3"):
                (delivery,) = await take(store, lease=self.long)
                assert delivery.message.id == name
                await store.ack(held(delivery))
            assert not await store.append_if_parked("L", [message("5", clock.now(), lane="L")])

    async def test_following_twice_is_following_once(self, clock: Clock) -> None:
        async with self.open(clock) as store:
            now = clock.now()
            await store.put([(message("1", now, lane="L"), "")])
            for _ in range(2):
                assert await store.append_if_parked("L", [message("2", now, lane="L")])
            await store.record([record("3", now)])
            assert await store.append_if_parked("L", [message("3", now, lane="L")])
            for name in ("1", "2"):
                (delivery,) = await take(store, lease=self.long)
                assert delivery.message.id == name
                await store.ack(held(delivery))
            assert await store.counts() == {}

    async def test_no_lane_is_never_parked(self, clock: Clock) -> None:
        async with self.open(clock) as store:
            await add(store, message("1", clock.now()))
            assert not await store.append_if_parked("", [message("2", clock.now())])
            assert ids(await take(store, lease=self.long)) == ["1"]

    async def test_a_held_message_outlives_the_process(self, clock: Clock) -> None:
        async with self.open(clock) as store:
            reopened = self.again(store, clock)
            await store.put([(message("a", clock.now()), "f")])
            await store.park(message("b", clock.now()), "w:p", 9 * self.beat)
            await store.close()
            async with reopened as later:
                assert await take(later, lease=self.long) == []
                assert await later.resolve("a", "f")
                assert await later.ack([Receipt("b", "w:p")]) == []
