"""The backend, part two: flows move forward with the endings of their members, and every join runs once."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from tq.clock import Clock
from tq.model import Batch, Delivery, Effects, Hold, Reopen, Resolve, State, StepStatus, TaskStatus, Verdict
from tq.ports import Backend, ProjectionQuery

from .hopping import BackendSuite
from .values import add, claim, flow, hop, ids, mark, message, projection, record, settle, settlement, write

__all__ = ["Joining"]

FAIL = StepStatus.FAIL


class Joining(BackendSuite):
    """The verdict and the release of the join are one step."""

    async def running(self, backend: Backend, clock: Clock, total: int, allowed: int | None = None) -> None:
        """Start flow f with members f.0 … by a task's ending."""
        parent = await self.one(backend, clock, "parent")
        members = tuple(message(f"f.{index}", clock.now()) for index in range(total))
        effects = Effects(flows=(flow("f", total, clock.now(), allowed=allowed),), messages=members)
        assert (await settle(backend, parent, effects=effects)).closed == []

    @pytest.mark.spec("D-40", "INV-05", "FLOW-19")
    async def test_the_last_member_releases_the_join(self, clock: Clock) -> None:
        async with self.open(clock) as backend:
            await self.running(backend, clock, 2)
            first, second = (await hop(backend, lease=self.long)).deliveries
            assert (await settle(backend, first, effects=Effects(marks=(mark("f", 0),)))).closed == []
            assert (await hop(backend, lease=self.long)).deliveries == []
            await clock.sleep(self.beat)
            before = clock.now()
            batch = Batch(settlements=[settlement(second, None, Effects(marks=(mark("f", 1),)))])
            answer = await backend.commit(batch, claim(9, lease=self.long))
            (closed,) = answer.closed
            assert (closed.id, closed.verdict, closed.answer, closed.succeeded) == ("f", Verdict.COMPLETED, -1, 2)
            (join,) = answer.deliveries
            assert join.message._replace(run_at=0.0) == closed.flow.join._replace(run_at=0.0)
            assert before - 1e-3 <= join.message.run_at <= clock.now() + 1e-3
            assert (await self.barrier(backend).get(["f"]))["f"].confirmed
            assert await self.barrier(backend).due(clock.now(), 9) == []

    @pytest.mark.spec("INV-05", "D-43", "FLOW-14")
    async def test_a_flow_joins_once_whatever_comes_late(self, clock: Clock) -> None:
        async with self.open(clock) as backend:
            await write(backend, Effects(flows=(flow("f", 2, clock.now()),)))
            both = Effects(marks=(mark("f", 0), mark("f", 1)))
            assert [it.id for it in (await write(backend, both)).closed] == ["f"]
            (join,) = (await hop(backend, lease=self.long)).deliveries
            await settle(backend, join)
            late = Effects(
                marks=both.marks, verdicts=(("f", Verdict.TIMED_OUT, ""),), flows=(flow("f", 2, clock.now()),)
            )
            assert (await write(backend, late)).closed == []
            assert (await hop(backend, lease=self.long)).deliveries == []

    @pytest.mark.spec("D-52", "BAR-01")
    async def test_a_second_start_of_a_flow_writes_nothing_of_it(self, clock: Clock) -> None:
        """Its members may have ended without leaving a trace: they must not come again."""
        async with self.open(clock) as backend:
            first, second = await self.one(backend, clock, "a"), await self.one(backend, clock, "b")
            now = clock.now()
            start = Effects(flows=(flow("f", 1, now),), messages=(message("f.0", now),))
            assert (await settle(backend, first, effects=start)).known == ()
            (member,) = (await hop(backend, lease=self.beat)).deliveries
            await settle(backend, member)
            again = Effects(
                flows=(flow("f", 2, now + 1, chunks=2),),
                messages=(message("f.0", now), message("f.1", now), message("child", now)),
                spreads=(("f", 2),),
                projections=(projection("f", 9, now + 1), projection("f.0", 9, now + 1), projection("other", 0, now)),
            )
            answer = await settle(backend, second, effects=again)
            assert [(it.id, it.flow.total, it.spread) for it in answer.known] == [("f", 1, 0)]
            if backend.projections is not None:
                rows = cast("ProjectionQuery", backend.projections)
                assert {*await rows.get_projections(["f", "f.0", "other"])} == {"other"}
            assert ids((await hop(backend, lease=self.beat)).deliveries) == ["child"]

    @pytest.mark.spec("BAR-09", "INV-05")
    async def test_concurrent_endings_join_once(self, clock: Clock) -> None:
        async with self.open(clock) as backend:
            await self.running(backend, clock, 20)
            deliveries = (await hop(backend, lease=self.long)).deliveries
            answers = await asyncio.gather(
                *[settle(backend, it, effects=Effects(marks=(mark("f", int(it.message.id[2:])),))) for it in deliveries]
            )
            assert [state.id for answer in answers for state in answer.closed] == ["f"]
            assert ids((await hop(backend, lease=self.long)).deliveries) == ["f.join"]

    async def test_a_flow_of_no_members_joins_with_the_ending_that_starts_it(self, clock: Clock) -> None:
        async with self.open(clock) as backend:
            delivery = await self.one(backend, clock)
            answer = await settle(backend, delivery, effects=Effects(flows=(flow("f", 0, clock.now()),)))
            assert [(it.id, it.verdict, it.confirmed) for it in answer.closed] == [("f", Verdict.COMPLETED, True)]
            assert ids((await hop(backend, lease=self.long)).deliveries) == ["f.join"]

    @pytest.mark.spec("INV-03", "INV-05")
    async def test_a_member_that_lost_its_lease_does_not_count(self, clock: Clock) -> None:
        async with self.open(clock) as backend:
            await self.running(backend, clock, 1)
            (lost,) = (await hop(backend, lease=self.beat)).deliveries
            await clock.sleep(1.1 * self.beat)
            (holder,) = (await hop(backend, lease=self.long, worker="other")).deliveries
            counted = Effects(marks=(mark("f", 0, FAIL, error="lost"),))
            answer = await settle(backend, lost, effects=counted)
            assert (answer.refused, answer.closed) == ([lost.receipt], [])
            answer = await settle(backend, holder, effects=Effects(marks=(mark("f", 0, result=b"1"),)))
            assert (answer.closed[0].succeeded, answer.closed[0].failed) == (1, 0)

    @pytest.mark.spec("D-42", "INV-06")
    async def test_neighbours_of_one_hop_are_recorded_with_the_one_that_aborts(self, clock: Clock) -> None:
        async with self.open(clock) as backend:
            await self.running(backend, clock, 4, allowed=0)
            deliveries = (await hop(backend, lease=self.long)).deliveries
            endings = [mark("f", 0), mark("f", 1, FAIL, error="no"), mark("f", 2)]
            batch = [settlement(it, None, Effects(marks=(one,))) for it, one in zip(deliveries, endings, strict=False)]
            (closed,) = (await backend.commit(Batch(settlements=batch))).closed
            assert (closed.verdict, closed.trigger, closed.remaining) == (Verdict.ABORTED, 1, 1)
            assert [it.index for it in await self.barrier(backend).get_step_results("f")] == [0, 1, 2]

    # --- deadlines and cancels ------------------------------------------------------------------------------------

    @pytest.mark.spec("D-44", "FLOW-30")
    async def test_the_last_member_comes_before_the_deadline_of_the_same_hop(self, clock: Clock) -> None:
        async with self.open(clock) as backend:
            await write(backend, Effects(flows=(flow("f", 1, clock.now()),)))
            deadline = Effects(verdicts=(("f", Verdict.TIMED_OUT, ""),))
            answer = await backend.commit(Batch(effects=[deadline, Effects(marks=(mark("f", 0),))]))
            assert [it.verdict for it in answer.closed] == [Verdict.COMPLETED]
            assert ids((await hop(backend, lease=self.long)).deliveries) == ["f.join"]

    @pytest.mark.spec("D-46", "FLOW-24", "INV-06")
    async def test_a_deadline_releases_the_join_and_later_members_count_no_more(self, clock: Clock) -> None:
        async with self.open(clock) as backend:
            await write(backend, Effects(flows=(flow("f", 2, clock.now()),), marks=(mark("f", 1, result=b"1"),)))
            verdicts = (("f", Verdict.TIMED_OUT, "too slow"), ("never", Verdict.CANCELLED, ""))
            (closed,) = (await write(backend, Effects(verdicts=verdicts))).closed
            assert (closed.verdict, closed.reason, closed.confirmed) == (Verdict.TIMED_OUT, "too slow", True)
            assert ids((await hop(backend, lease=self.long)).deliveries) == ["f.join"]
            assert (await write(backend, Effects(marks=(mark("f", 0),)))).closed == []
            assert [it.index for it in await self.barrier(backend).get_step_results("f")] == [1]

    async def test_a_confirmed_join_is_told_to_nobody(self, clock: Clock) -> None:
        async with self.open(clock) as backend:
            barrier = self.barrier(backend)
            await barrier.init_barrier([flow("f", 1, clock.now())])
            await barrier.batch_decrement_and_check([mark("f", 0)])
            await write(backend, Effects(confirms=(("f", 1),)))
            assert (await barrier.get(["f"]))["f"].answer == 0
            await write(backend, Effects(confirms=(("f", 0),)))
            assert (await barrier.get(["f"]))["f"].answer == -1

    # --- tasks that end with a flow -------------------------------------------------------------------------------

    async def test_a_held_task_ends_with_its_flow_once(self, clock: Clock) -> None:
        async with self.open(clock) as backend:
            delivery = await self.one(backend, clock)
            now = clock.now()
            await settle(backend, delivery, Hold("f"), Effects(flows=(flow("f", 1, now, parent="a"),)))
            assert (await hop(backend, lease=self.long)).deliveries == []
            where = (await backend.store.locate(["a"]))["a"]
            assert (where.state, where.held_by) == (State.HELD, "f")
            assert (await settle(backend, delivery)).refused == [delivery.receipt]

            effects = Effects(
                records=(record("a", now, status=TaskStatus.EXECUTED, result=b"1"),),
                marks=(mark("f", 0),),
                messages=(message("child", now + 9 * self.beat),),
            )
            assert (await write(backend, Effects(resolves=(Resolve("a", "g", effects),)))).closed == []
            assert (await backend.store.locate(["a", "child"])).keys() == {"a"}
            answer = await write(backend, Effects(resolves=(Resolve("a", "f", effects),)))
            assert [it.id for it in answer.closed] == ["f"]
            assert (await backend.store.locate(["a", "child"])).keys() == {"child"}
            assert (await backend.store.records(["a"]))["a"].result == b"1"
            again = Effects(records=(record("a", now, generation=1),), messages=(message("other", now),))
            assert (await write(backend, Effects(resolves=(Resolve("a", "f", again),)))).closed == []
            assert await backend.store.locate(["a", "other"]) == {}
            assert (await backend.store.records(["a"]))["a"].generation == 0

    async def test_a_join_ends_the_task_that_waits_only_with_its_own_lease(self, clock: Clock) -> None:
        async with self.open(clock) as backend:
            await settle(backend, await self.one(backend, clock), Hold("f"))
            join = await self.one(backend, clock, "f.join", lease=self.beat)
            ends = Effects(resolves=(Resolve("a", "f", Effects(records=(record("a", clock.now()),))),))
            await clock.sleep(1.1 * self.beat)
            (holder,) = (await hop(backend, lease=self.long, worker="other")).deliveries
            await settle(backend, join, effects=ends)
            assert await backend.store.records(["a"]) == {}
            await settle(backend, holder, effects=ends)
            assert (await backend.store.records(["a"])).keys() == {"a"}

    async def test_the_end_of_one_task_may_end_another(self, clock: Clock) -> None:
        async with self.open(clock) as backend:
            await settle(backend, await self.one(backend, clock, "outer"), Hold("f"))
            await settle(backend, await self.one(backend, clock, "inner"), Hold("g"))
            outer = Resolve("outer", "f", Effects(records=(record("outer", clock.now()),)))
            inner = Resolve("inner", "g", Effects(resolves=(outer,), projections=(projection("r", 1, clock.now()),)))
            await write(backend, Effects(resolves=(inner,)))
            assert await backend.store.locate(["inner", "outer"]) == {}
            assert (await backend.store.records(["outer"])).keys() == {"outer"}

    async def test_a_dead_letter_of_a_held_task_keeps_the_body_of_its_message(self, clock: Clock) -> None:
        async with self.open(clock) as backend:
            await add(backend.queue, message("a", clock.now(), body=b"the body"))
            (delivery,) = (await hop(backend, lease=self.long)).deliveries
            await settle(backend, delivery, Hold("f"))
            dead = record("a", clock.now(), dead=True, error="the join failed")
            await write(backend, Effects(resolves=(Resolve("a", "f", Effects(records=(dead,))),)))
            assert (await backend.store.records(["a"]))["a"].body == b"the body"
            assert await backend.store.revive(["a"], clock.now()) == ["a"]
            (again,) = (await hop(backend, lease=self.long)).deliveries
            assert (again.message.body, again.message.generation) == (b"the body", 1)
            assert again.fence > delivery.fence

    async def test_only_a_dead_letter_of_its_own_that_lacks_one_takes_the_body(self, clock: Clock) -> None:
        async with self.open(clock) as backend:
            now = clock.now()
            for name in ("done", "full"):
                await settle(backend, await self.one(backend, clock, name), Hold("f"))
            done = Effects(
                records=(
                    record("done", now, status=TaskStatus.EXECUTED, result=b"1"),
                    record("other", now, dead=True, error="not this one"),
                )
            )
            full = Effects(records=(record("full", now, dead=True, body=b"its own"),))
            await write(backend, Effects(resolves=(Resolve("done", "f", done), Resolve("full", "f", full))))
            records = await backend.store.records(["done", "other", "full"])
            bodies = {name: it.body for name, it in records.items()}
            assert bodies == {"done": None, "other": None, "full": b"its own"}

    # --- again ----------------------------------------------------------------------------------------------------

    async def reopened(self, backend: Backend, clock: Clock) -> tuple[Reopen, Delivery]:
        """Abort flow f: f.0 successful, f.1 dead, f.2 running; return what opens it again, and the delivery of f.2."""
        await self.running(backend, clock, 3, allowed=0)
        *ended, running = (await hop(backend, lease=self.long)).deliveries
        for delivery, status in zip(ended, (StepStatus.SUCCESS, FAIL), strict=True):
            index = int(delivery.message.id[2:])
            dead = (record(delivery.message.id, clock.now(), dead=True, body=b"again", fence=1),)
            effects = Effects(marks=(mark("f", index, status),), records=dead if index else ())
            await settle(backend, delivery, effects=effects)
        (join,) = (await hop(backend, lease=self.long)).deliveries
        await settle(backend, join)
        reopen = Reopen(
            flow_id="f",
            generation=1,
            join=message("f.join.1", clock.now(), type="join"),
            at=clock.now(),
            stats=b'{"flow_generation":1}',
        )
        return reopen, running

    @pytest.mark.spec("INV-05")
    async def test_a_flow_is_opened_again_with_its_dead_members(self, clock: Clock) -> None:
        async with self.open(clock) as backend:
            reopen, _ = await self.reopened(backend, clock)
            for _ in range(2):
                assert (await write(backend, Effects(reopens=(reopen,)))).closed == []
            state = (await self.barrier(backend).get(["f"]))["f"]
            assert (state.flow.generation, state.remaining, state.verdict) == (1, 2, None)
            (again,) = (await hop(backend, lease=self.long)).deliveries
            assert (again.message.id, again.message.body, again.message.generation) == ("f.1", b"again", 1)
            assert (again.message.stats, again.message.attempt, again.fence) == (b'{"flow_generation":1}', 0, 2)
            assert await backend.store.records(["f.1"]) == {}
            done = Effects(marks=(mark("f", 1, generation=1), mark("f", 2, generation=1)))
            assert [it.flow.generation for it in (await settle(backend, again, effects=done)).closed] == [1]
            assert ids((await hop(backend, lease=self.long)).deliveries) == ["f.join.1"]

    async def test_a_member_that_still_runs_counts_in_any_generation(self, clock: Clock) -> None:
        """f.2 was claimed in generation 0 and fails in generation 1: its lease held, so it counts; a note would not."""
        async with self.open(clock) as backend:
            reopen, running = await self.reopened(backend, clock)
            await write(backend, Effects(reopens=(reopen,)))
            await write(backend, Effects(marks=(mark("f", 2, FAIL),)))
            assert (await self.barrier(backend).get(["f"]))["f"].failed == 0
            (closed,) = (await settle(backend, running, effects=Effects(marks=(mark("f", 2, FAIL),)))).closed
            assert (closed.verdict, closed.trigger, closed.flow.generation) == (Verdict.ABORTED, 2, 1)

    async def test_a_held_member_counts_in_any_generation(self, clock: Clock) -> None:
        """f.2 waits for a flow of its own; that it is still held is as good as a lease."""
        async with self.open(clock) as backend:
            reopen, running = await self.reopened(backend, clock)
            await settle(backend, running, Hold("g"))
            await write(backend, Effects(reopens=(reopen,)))
            ends = Resolve("f.2", "g", Effects(marks=(mark("f", 2, FAIL, error="no"),)))
            (closed,) = (await write(backend, Effects(resolves=(ends,)))).closed
            assert (closed.verdict, closed.trigger, closed.flow.generation) == (Verdict.ABORTED, 2, 1)

    @pytest.mark.spec("INV-05")
    async def test_a_flow_in_which_nobody_is_missing_joins_again_at_once(self, clock: Clock) -> None:
        async with self.open(clock) as backend:
            now = clock.now()
            await write(backend, Effects(flows=(flow("f", 1, now),), marks=(mark("f", 0),)))
            (join,) = (await hop(backend, lease=self.long)).deliveries
            await settle(backend, join)
            reopen = Reopen(flow_id="f", generation=1, join=message("f.join.1", now, type="join"), at=now)
            (closed,) = (await write(backend, Effects(reopens=(reopen,)))).closed
            assert (closed.verdict, closed.flow.generation, closed.confirmed) == (Verdict.COMPLETED, 1, True)
            assert ids((await hop(backend, lease=self.long)).deliveries) == ["f.join.1"]

    @pytest.mark.spec("INV-05", "D-40", "F-05")
    async def test_a_join_whose_id_is_there_is_not_released_twice(self, clock: Clock) -> None:
        """It waits already, or it has ended and its ending is kept."""
        async with self.open(clock) as backend:
            now = clock.now()
            await write(backend, Effects(flows=(flow("f", 1, now), flow("g", 1, now))))
            await add(backend.queue, message("f.join", now, type="join"))
            await backend.store.record([record("g.join", now)])
            answer = await write(backend, Effects(marks=(mark("f", 0), mark("g", 0))))
            assert [it.confirmed for it in answer.closed] == [True, True]
            assert ids((await hop(backend, lease=self.long)).deliveries) == ["f.join"]
            assert (await hop(backend, lease=self.long)).deliveries == []

    @pytest.mark.spec("D-54", "D-40", "INV-02")
    async def test_flows_and_joins_outlive_the_process(self, clock: Clock) -> None:
        async with self.open(clock) as backend:
            reopened = self.again(backend, clock)
            await self.running(backend, clock, 1)
            (delivery,) = (await hop(backend, lease=self.long)).deliveries
            await backend.close()
            async with reopened as later:
                answer = await settle(later, delivery, effects=Effects(marks=(mark("f", 0),)))
                assert [it.id for it in answer.closed] == ["f"]
                assert ids((await hop(later, lease=self.long)).deliveries) == ["f.join"]
