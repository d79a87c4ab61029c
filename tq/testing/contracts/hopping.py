"""The backend, part one: leases fence settlements whole, and one hop does all of it or nothing."""

from __future__ import annotations

import pytest

from tq.clock import Clock
from tq.errors import ContentRefusedError
from tq.model import (
    Batch,
    Chunk,
    Delivery,
    Effects,
    Hold,
    Outgoing,
    Place,
    Rearm,
    Receipt,
    Settlement,
    State,
    TaskStatus,
    Verdict,
)
from tq.ports import Backend, FlowBarrierProvider

from .suite import Suite
from .values import (
    add,
    claim,
    flow,
    hop,
    ids,
    mark,
    message,
    projection,
    record,
    settle,
    settlement,
    take,
    write,
)

__all__ = ["BackendSuite", "Hopping"]


class BackendSuite(Suite[Backend]):
    """A suite whose port is a backend that has a barrier."""

    atomic = True
    """Whether a commit is one step; several servers say False, and are spared what only one server can promise."""

    async def one(self, backend: Backend, clock: Clock, name: str = "a", *, lease: float | None = None) -> Delivery:
        """Add a message and claim it."""
        await add(backend.queue, message(name, clock.now()))
        return (await hop(backend, 1, lease=self.long if lease is None else lease)).deliveries[0]

    def barrier(self, backend: Backend) -> FlowBarrierProvider:
        """Return the barrier."""
        assert backend.barrier is not None
        return backend.barrier


class Hopping(BackendSuite):
    """Write, then claim."""

    async def everything(self, backend: Backend, clock: Clock) -> Effects:
        """Return effects of every kind; `traces` tells which of them were written."""
        now = clock.now()
        await self.barrier(backend).init_barrier([flow("known", 2, now, chunks=2)])
        return Effects(
            messages=(message("child", now + 9 * self.beat),),
            records=(record("a", now, result=b"1"),),
            flows=(flow("new", 1, now),),
            marks=(mark("known", 0),),
            projections=(projection("row", 1, now),),
            chunks=(Chunk("plan", 0, (), now),),
            spreads=(("known", 1),),
            outgoing=(Outgoing("topic", "note", b""),),
        )

    async def traces(self, backend: Backend) -> set[str]:
        """Return which of `everything` was written."""
        store, barrier = backend.store, self.barrier(backend)
        known = (await barrier.get(["known"]))["known"]
        found = {
            "messages": bool(await store.locate(["child"])),
            "records": bool(await store.records(["a"])),
            "flows": bool(await barrier.get(["new"])),
            "marks": known.remaining == 1,
            "spreads": known.spread == 1,
            "chunks": await store.chunk("plan", 0) is not None,
            "outgoing": bool(await store.outgoing("topic", 9)),
        }
        if backend.projections is not None:
            found["projections"] = bool(await backend.projections.get_projections(["row"]))  # type: ignore[attr-defined]
        return {name for name, there in found.items() if there}

    async def test_it_is_one_atomic_step(self, clock: Clock) -> None:
        async with self.open(clock) as backend:
            assert backend.atomic is self.atomic
            assert backend.barrier is not None
            assert backend.name

    @pytest.mark.spec("INV-01", "INV-02", "D-12")
    async def test_an_ending_and_its_effects_are_one_step(self, clock: Clock) -> None:
        async with self.open(clock) as backend:
            delivery = await self.one(backend, clock)
            answer = await settle(backend, delivery, effects=await self.everything(backend, clock))
            assert answer == ([], [], [], [], None, (), ())
            traces = await self.traces(backend)
            assert traces >= {"messages", "records", "flows", "marks", "spreads", "chunks", "outgoing"}
            assert backend.projections is None or "projections" in traces
            assert await backend.queue.locate(["a"]) == {}

    @pytest.mark.spec("INV-03", "D-04", "D-10")
    async def test_a_settlement_that_lost_its_lease_has_no_effect_whatever(self, clock: Clock) -> None:
        async with self.open(clock) as backend:
            lost = await self.one(backend, clock, lease=self.beat)
            effects = await self.everything(backend, clock)
            record_alone = Effects(records=effects.records)  # the many leave nothing else, and may go their own way
            await clock.sleep(1.1 * self.beat)
            (holder,) = (await hop(backend, lease=self.long, worker="other")).deliveries
            for ending in (None, Rearm(clock.now(), 5, b"lost"), Hold("known")):
                for brought in (record_alone, effects):
                    answer = await settle(backend, lost, ending, brought)
                    assert (answer.refused, answer.closed, answer.duplicates) == ([lost.receipt], [], [])
            assert await self.traces(backend) == set()
            where = (await backend.queue.locate(["a"]))["a"]
            assert (where.state, where.token, where.attempt) == (State.RUNNING, holder.token, 0)
            assert (await settle(backend, holder)).refused == []

    async def test_one_lost_lease_does_not_hold_up_its_neighbours(self, clock: Clock) -> None:
        async with self.open(clock) as backend:
            await add(backend.queue, message("a", clock.now()), message("b", clock.now()), message("c", clock.now()))
            first, second, third = (await hop(backend, lease=self.long)).deliveries
            await backend.queue.ack([second.receipt])
            batch = Batch(settlements=[settlement(it) for it in (first, second, third)])
            answer = await backend.commit(batch)
            assert answer.refused == [second.receipt]
            assert await backend.queue.counts() == {}

    @pytest.mark.spec("INV-01")
    async def test_the_first_of_two_settlements_of_one_delivery_counts(self, clock: Clock) -> None:
        async with self.open(clock) as backend:
            delivery = await self.one(backend, clock)
            both = [
                settlement(delivery, Rearm(clock.now(), 1, b"")),
                settlement(delivery, None, Effects(messages=(message("child", clock.now()),))),
            ]
            answer = await backend.commit(Batch(settlements=both))
            assert answer.refused == [delivery.receipt]
            assert sorted(await backend.queue.locate(["a", "child"])) == ["a"]

    async def test_an_unknown_receipt_is_refused(self, clock: Clock) -> None:
        async with self.open(clock) as backend:
            await add(backend.queue, message("a", clock.now()))
            brought = Effects(messages=(message("child", clock.now()),)) if self.atomic else Effects()
            for receipt in (Receipt("a", ""), Receipt("a", "w:never"), Receipt("never", "w:1")):
                answer = await backend.commit(Batch(settlements=[Settlement(receipt, Rearm(0.0, 9, b""), brought)]))
                assert answer.refused == [receipt]
            assert ids(await take(backend.queue, lease=self.long)) == ["a"]

    @pytest.mark.spec("ADP-06", "ENT-14", "INV-01")
    async def test_many_endings_are_one_hop(self, clock: Clock) -> None:
        async with self.open(clock) as backend:
            now = clock.now()
            await backend.queue.add([message(f"{number:02}", now) for number in range(60)])
            endings: list[Settlement] = []
            for delivery in (await hop(backend, lease=self.long)).deliveries:
                name = delivery.message.id
                match int(name) % 3:
                    case 0:
                        effects = Effects(
                            records=(record(name, now, status=TaskStatus.EXECUTED, result=name.encode()),)
                        )
                        endings.append(settlement(delivery, None, effects))
                    case 1:
                        endings.append(settlement(delivery, Rearm(now + self.long, 1, b"")))
                    case _:
                        endings.append(settlement(delivery, None, Effects(records=(record(name, now, dead=True),))))
            assert (await backend.commit(Batch(settlements=endings))).refused == []
            records = await backend.store.records([f"{number:02}" for number in range(60)])
            assert {name for name, it in records.items() if it.result == name.encode()} == set(sorted(records)[::2])
            assert {name for name, it in records.items() if it.dead} == set(sorted(records)[1::2])
            live = [*await backend.queue.list(None, "", 99), *await backend.store.list(None, "", 99)]
            assert {it.id for it in live} == {f"{number:02}" for number in range(1, 60, 3)}

    @pytest.mark.spec("D-12", "D-55", "ADP-08")
    async def test_refused_content_leaves_nothing_of_its_batch(self, clock: Clock) -> None:
        bad = self.bad_text()
        async with self.open(clock) as backend:
            await add(backend.queue, message("a", clock.now()), message("b", clock.now()))
            first, second = (await hop(backend, lease=self.long)).deliveries
            effects = await self.everything(backend, clock)
            now = clock.now()
            for culprit in (
                Effects(records=(record("b", now, error=bad),)),
                Effects(messages=(message("c", now, type=bad),)),
                Effects(marks=(mark("known", 1, error=bad),)),
                Effects(verdicts=(("known", Verdict.CANCELLED, bad),)),
            ):
                batch = Batch(settlements=[settlement(first, None, effects), settlement(second, None, culprit)])
                with pytest.raises(ContentRefusedError):
                    await backend.commit(batch, claim(9, lease=self.long))
                with pytest.raises(ContentRefusedError):
                    await backend.commit(Batch(effects=[effects, culprit]))
            if not self.atomic:
                pytest.skip("what one server took before another refused stays, and may be written again")
            assert await self.traces(backend) == set()
            assert (await backend.commit(Batch(settlements=[settlement(first), settlement(second)]))).refused == []

    @pytest.mark.spec("INV-02", "D-52")
    async def test_repeating_a_commit_whose_answer_was_lost_is_harmless(self, clock: Clock) -> None:
        async with self.open(clock) as backend:
            delivery = await self.one(backend, clock)
            await self.barrier(backend).init_barrier([flow("f", 2, clock.now())])
            effects = Effects(messages=(message("child", clock.now()),), marks=(mark("f", 0, result=b"1"),))
            batch = Batch(settlements=[settlement(delivery, None, effects)], effects=[effects])
            await backend.commit(batch)
            again = await backend.commit(batch)
            # Across servers the outcome is remembered: it is known that it was this very one that counted.
            assert (again.refused, again.duplicates) == ([delivery.receipt] if self.atomic else [], ["child"])
            assert (await self.barrier(backend).get(["f"]))["f"].remaining == 1
            assert ids(await take(backend.queue, lease=self.long)) == ["child"]

    # --- endings --------------------------------------------------------------------------------------------------

    @pytest.mark.spec("D-14", "D-13")
    async def test_a_retry_is_the_same_message_under_its_token(self, clock: Clock) -> None:
        async with self.open(clock) as backend:
            delivery = await self.one(backend, clock)
            again = Rearm(clock.now() + self.beat, 1, b'{"retry_count":1}', unknown_since=3.0)
            assert (await settle(backend, delivery, again)).refused == []
            assert (await hop(backend, lease=self.long)).deliveries == []
            await clock.sleep(1.1 * self.beat)
            (retry,) = (await hop(backend, lease=self.long)).deliveries
            assert (retry.message.attempt, retry.message.stats, retry.unknown_since) == (1, b'{"retry_count":1}', 3.0)
            assert (retry.fence, retry.crashes) == (2, 0)

    async def test_a_delivery_that_is_marked_alone_is_convicted_alone(self, clock: Clock) -> None:
        async with self.open(clock) as backend:
            first = await self.one(backend, clock, "a", lease=self.beat)
            second = await self.one(backend, clock, "b", lease=self.beat)
            never = Receipt("never", "w:1")
            assert (await backend.commit(Batch(solo=[second.receipt, never]))).refused == [never]
            await clock.sleep(1.1 * self.beat)
            found = {it.message.id: it.solo_crashes for it in (await hop(backend, lease=self.long)).deliveries}
            assert found == {first.message.id: 0, second.message.id: 1}

    # --- the claim ------------------------------------------------------------------------------------------------

    async def test_the_claim_sees_what_its_batch_wrote(self, clock: Clock) -> None:
        async with self.open(clock) as backend:
            delivery = await self.one(backend, clock)
            now = clock.now()
            later = now + 50 * self.beat
            await add(backend.queue, message("2", now, lane="L"), message("3", now, lane="L"))
            (head,) = (await hop(backend, lease=self.long)).deliveries
            effects = Effects(messages=(message("child", now - self.beat), message("later", later)))
            batch = Batch(
                settlements=[settlement(delivery, Rearm(now, 1, b"")), settlement(head)],
                effects=[effects],
            )
            answer = await backend.commit(batch, claim(9, lease=self.long))
            assert sorted(ids(answer.deliveries)) == ["3", "a", "child"]
            assert answer.next_due == pytest.approx(later, abs=1e-3)

    async def test_the_claim_of_a_hop_is_a_claim(self, clock: Clock) -> None:
        async with self.open(clock) as backend:
            now = clock.now()
            await backend.queue.add([message(f"{number}", now, type=f"t{number % 2}") for number in range(6)])
            asked = claim(2, lease=self.long, exclude=[("q", "t0")])
            answer = await backend.commit(Batch(), asked)
            assert ids(answer.deliveries) == ["1", "3"]
            assert {it.token for it in answer.deliveries} == {asked.token}
            assert answer.next_due is None
            await backend.queue.cancel(["1"])
            answer = await backend.commit(Batch(), claim(9, lease=self.long, exclude=[("q", "t0")]))
            assert ids(answer.deliveries) == ["5"]
            assert answer.cancelled == (Receipt("1", asked.token),)
            await backend.queue.pause("q", paused=True)
            assert (await hop(backend, lease=self.long)).deliveries == []

    async def test_what_queue_and_store_took_is_claimed_by_one_hop(self, clock: Clock) -> None:
        async with self.open(clock) as backend:
            now = clock.now()
            await add(backend.queue, message("queued", now))
            await add(backend.store, message("stored", now + self.beat))
            await clock.sleep(1.1 * self.beat)
            answer = await hop(backend, lease=self.long)
            assert sorted(ids(answer.deliveries)) == ["queued", "stored"]
            for it in answer.deliveries:
                custody = backend.queue if it.place is Place.QUEUE else backend.store
                assert await custody.ack([it.receipt]) == []

    async def test_ids_that_are_taken_are_reported(self, clock: Clock) -> None:
        async with self.open(clock) as backend:
            now = clock.now()
            await add(backend.queue, message("live", now + self.beat))
            await backend.store.record([record("kept", now)])
            sent = tuple(message(name, now) for name in ("live", "kept", "new"))
            assert sorted((await write(backend, Effects(messages=sent))).duplicates) == ["kept", "live"]
            assert ids(await take(backend.queue, lease=self.long)) == ["new"]
