"""The barrier, part two: what is read from it, what a reconciler is told, how a flow is opened again, what goes."""

from __future__ import annotations

import pytest

from tq.clock import Clock
from tq.model import Flow, Reopen, StepResult, StepStatus, Verdict
from tq.ports import FlowBarrierProvider

from .suite import Suite
from .values import flow, mark, message

__all__ = ["Following"]

FAIL, CANCELLED = StepStatus.FAIL, StepStatus.CANCELLED


class Following(Suite[FlowBarrierProvider]):
    """Everything that is not the decision itself."""

    async def closed(self, barrier: FlowBarrierProvider, *flows: Flow, confirm: bool = True) -> None:
        """Store flows and close them by marking their first member failed and the others successful."""
        await barrier.init_barrier(flows)
        marks = [
            mark(it.id, index, FAIL if index == 0 else StepStatus.SUCCESS) for it in flows for index in range(it.total)
        ]
        await barrier.batch_decrement_and_check(marks)
        if confirm:
            await barrier.confirm_join([(it.id, it.generation) for it in flows])

    # --- reading --------------------------------------------------------------------------------------------------

    @pytest.mark.spec("BAR-05", "FLOW-13")
    async def test_results_come_by_index_page_by_page(self, clock: Clock) -> None:
        async with self.open(clock) as barrier:
            await barrier.init_barrier([flow("f", 40, clock.now()), flow("g", 40, clock.now())])
            for start in (30, 0, 20):
                await barrier.batch_decrement_and_check(
                    [mark("f", index, result=b"%d" % index) for index in range(start + 9, start, -1)]
                )
            await barrier.batch_decrement_and_check([mark("g", 3)])
            expected = [index for index in range(40) if index % 10 and not 10 <= index < 20]
            got: list[StepResult] = []
            while page := await barrier.get_step_results("f", got[-1].index if got else -1, 7):
                assert len(page) <= 7
                got += page
            assert [it.index for it in got] == expected
            assert [it.result for it in got] == [b"%d" % index for index in expected]
            assert await barrier.get_step_results("never") == []

    @pytest.mark.spec("BAR-05")
    async def test_a_result_comes_back_as_it_was_recorded(self, clock: Clock) -> None:
        async with self.open(clock) as barrier:
            await barrier.init_barrier([flow("f", 4, clock.now())])
            results = [
                StepResult(0, StepStatus.SUCCESS, b"null", None),
                StepResult(1, StepStatus.SUCCESS, None, None),
                StepResult(2, FAIL, None, "✗ no"),
                StepResult(3, CANCELLED, None, ""),
            ]
            await barrier.batch_decrement_and_check(
                [mark("f", it.index, it.status, result=it.result, error=it.error) for it in results]
            )
            assert list(await barrier.get_step_results("f")) == results

    @pytest.mark.spec("BAR-05")
    async def test_results_are_those_recorded_so_far(self, clock: Clock) -> None:
        async with self.open(clock) as barrier:
            await barrier.init_barrier([flow("f", 4, clock.now())])
            for index, expected in ((2, [2]), (0, [0, 2]), (3, [0, 2, 3])):
                await barrier.batch_decrement_and_check([mark("f", index)])
                assert [it.index for it in await barrier.get_step_results("f")] == expected

    @pytest.mark.spec("D-53")
    async def test_a_flow_may_have_a_hundred_thousand_members(self, clock: Clock) -> None:
        async with self.open(clock) as barrier:
            total = 100_000
            (state,) = await barrier.init_barrier([flow("f", total, clock.now())])
            for start in range(0, total, 5000):
                (state,) = await barrier.batch_decrement_and_check(
                    [mark("f", index, result=b"1") for index in range(start, start + 5000)]
                )
            assert (state.answer, state.succeeded) == (0, total)
            seen, after = 0, -1
            while page := await barrier.get_step_results("f", after, 10_000):
                assert [it.index for it in page] == list(range(after + 1, after + 1 + len(page)))
                seen, after = seen + len(page), page[-1].index
            assert seen == total

    async def test_flows_are_listed_newest_first_page_by_page(self, clock: Clock) -> None:
        async with self.open(clock) as barrier:
            now = clock.now()
            flows = [flow(f"{number * 7 % 20:02}", 2, now + number // 3) for number in range(20)]
            await barrier.init_barrier(flows)
            await barrier.batch_decrement_and_check([mark(it.id, index) for it in flows[::4] for index in (0, 1)])
            done = {it.id for it in flows[::4]}
            expected = [it.id for it in sorted(flows, key=lambda it: (it.started_at, it.id), reverse=True)]
            for active, kept in ((None, expected), (False, [it for it in expected if it in done])):
                got: list[str] = []
                after: tuple[float, str] | None = None
                while page := await barrier.list(active=active, after=after, limit=3):
                    got += [it.id for it in page]
                    after = (page[-1].flow.started_at, page[-1].id)
                assert got == kept
            active_ones = [it.id for it in await barrier.list(active=True)]
            assert active_ones == [it for it in expected if it not in done]

    # --- what is to be done ---------------------------------------------------------------------------------------

    async def due(self, barrier: FlowBarrierProvider, now: float) -> list[str]:
        """Return the ids of the flows that are due, sorted."""
        return sorted(it.id for it in await barrier.due(now, 100))

    @pytest.mark.spec("D-46")
    async def test_a_deadline_is_due_when_it_has_passed(self, clock: Clock) -> None:
        async with self.open(clock) as barrier:
            now = clock.now()
            await barrier.init_barrier(
                [flow("f", 1, now, deadline=now + 10), flow("g", 1, now, deadline=now + 20), flow("h", 1, now)]
            )
            assert await self.due(barrier, now + 9) == []
            assert await self.due(barrier, now + 10) == ["f"]
            assert await self.due(barrier, now + 21) == ["f", "g"]
            assert await self.due(barrier, now + 9) == []
            await barrier.mark_aborted("g", Verdict.TIMED_OUT)
            await barrier.confirm_join([("g", 0)])
            assert await self.due(barrier, now + 21) == ["f"]

    @pytest.mark.spec("D-40")
    async def test_a_closed_flow_is_due_until_its_join_is_confirmed(self, clock: Clock) -> None:
        async with self.open(clock) as barrier:
            now = clock.now()
            await self.closed(barrier, flow("f", 1, now, deadline=now + 5), flow("g", 2, now), confirm=False)
            assert await self.due(barrier, now) == ["f", "g"]
            await barrier.confirm_join([("g", 0)])
            assert await self.due(barrier, now + 9) == ["f"]
            await barrier.confirm_join([("f", 0)])
            assert await self.due(barrier, now + 9) == []

    async def test_a_plan_is_due_until_it_is_spread(self, clock: Clock) -> None:
        async with self.open(clock) as barrier:
            now = clock.now()
            await barrier.init_barrier([flow("f", 9, now, chunks=3, plan="p")])
            for spread, left in ((2, ["f"]), (1, ["f"]), (3, [])):
                assert await self.due(barrier, now) == ["f"]
                await barrier.advance("f", spread=spread)
                assert await self.due(barrier, now) == left
            assert (await barrier.get(["f"]))["f"].spread == 3
            await barrier.advance("f", spread=1)
            assert (await barrier.get(["f"]))["f"].spread == 3
            await barrier.advance("never", spread=1)

    async def test_siblings_are_due_to_be_cancelled_until_all_is_tidied(self, clock: Clock) -> None:
        async with self.open(clock) as barrier:
            now = clock.now()
            quorum = flow("quorum", 3, now, needed=1, cancel_siblings=True)
            await barrier.init_barrier([quorum, flow("kept", 3, now, needed=1), flow("cancelled", 3, now)])
            await barrier.batch_decrement_and_check([mark("quorum", 0), mark("kept", 0)])
            await barrier.mark_aborted("cancelled", Verdict.CANCELLED)
            await barrier.confirm_join([("quorum", 0), ("kept", 0), ("cancelled", 0)])
            assert await self.due(barrier, now) == ["cancelled", "quorum"]
            await barrier.advance("quorum", tidied=True)
            assert await self.due(barrier, now) == ["cancelled"]
            assert (await barrier.get(["quorum"]))["quorum"].tidied
            await barrier.advance("cancelled", tidied=True)
            assert await self.due(barrier, now) == []

    async def test_no_more_is_due_than_was_asked_for(self, clock: Clock) -> None:
        async with self.open(clock) as barrier:
            now = clock.now()
            await barrier.init_barrier([flow(f"{number}", 1, now, deadline=now) for number in range(9)])
            assert len(await barrier.due(now + 1, 4)) == 4

    async def test_open_flows_are_looked_over_by_id(self, clock: Clock) -> None:
        async with self.open(clock) as barrier:
            now = clock.now()
            flows = [flow(f"{number * 7 % 20:02}", 1, now - number) for number in range(20)]
            await barrier.init_barrier(flows)
            await barrier.batch_decrement_and_check([mark("03", 0), mark("11", 0)])
            expected = sorted(it.id for it in flows if it.started_at < now - 4 and it.id not in {"03", "11"})
            got: list[str] = []
            while page := await barrier.quiet(now - 4, got[-1] if got else "", 4):
                assert len(page) <= 4
                got += [it.id for it in page]
            assert got == expected

    # --- again ----------------------------------------------------------------------------------------------------

    def again_from(self, id: str, at: float, generation: int = 1, deadline: float | None = None) -> Reopen:
        """Return what opens the next generation."""
        join = message(f"{id}.join.{generation}", at, type="join")
        return Reopen(flow_id=id, generation=generation, join=join, at=at, deadline=deadline)

    async def test_a_flow_is_opened_again_for_those_without_success(self, clock: Clock) -> None:
        async with self.open(clock) as barrier:
            now = clock.now()
            await barrier.init_barrier([flow("f", 5, now, allowed=1, deadline=now + 5)])
            ended = [mark("f", 1, result=b"1"), mark("f", 2, FAIL), mark("f", 4, CANCELLED)]
            await barrier.batch_decrement_and_check(ended)
            await barrier.confirm_join([("f", 0)])
            assert [it.index for it in await barrier.get_step_results("f")] == [1, 2, 4]
            reopen = self.again_from("f", now + 7, deadline=now + 50)
            assert await barrier.reopen(reopen) == [0, 2, 3, 4]
            state = (await barrier.get(["f"]))["f"]
            assert (state.flow.generation, state.flow.join, state.flow.deadline) == (1, reopen.join, now + 50)
            assert (state.remaining, state.succeeded, state.failed, state.verdict) == (4, 1, 0, None)
            assert (state.closed_at, state.confirmed, state.trigger, state.answer) == (None, False, -1, 4)
            assert state.opened_at == pytest.approx(now + 7, abs=1e-3)
            assert list(await barrier.get_step_results("f")) == [StepResult(1, StepStatus.SUCCESS, b"1")]
            assert await self.due(barrier, now + 49) == []
            assert await self.due(barrier, now + 51) == ["f"]

    @pytest.mark.spec("INV-06", "D-43")
    async def test_a_success_after_the_verdict_counts_when_the_flow_is_opened_again(self, clock: Clock) -> None:
        """It leaves no trace elsewhere: who succeeded late could never run, nor be counted, again."""
        async with self.open(clock) as barrier:
            now = clock.now()
            await barrier.init_barrier([flow("f", 4, now, allowed=0)])
            await barrier.batch_decrement_and_check([mark("f", 0, result=b"0"), mark("f", 1, FAIL, error="no")])
            await barrier.confirm_join([("f", 0)])
            before = (await barrier.get(["f"]))["f"]
            late = [mark("f", 0, result=b"9"), mark("f", 1, result=b"1"), mark("f", 2, result=b"2"), mark("f", 9)]
            await barrier.batch_decrement_and_check([*late, mark("f", 2, result=b"9"), mark("f", 3, FAIL)])
            assert (await barrier.get(["f"]))["f"] == before, "until then nobody sees it"
            assert [it.index for it in await barrier.get_step_results("f")] == [0, 1]
            assert await barrier.reopen(self.again_from("f", now)) == [3]
            state = (await barrier.get(["f"]))["f"]
            assert (state.remaining, state.succeeded, state.failed, state.verdict) == (1, 3, 0, None)
            kept = [StepResult(index, StepStatus.SUCCESS, b"%d" % index) for index in range(3)]
            assert list(await barrier.get_step_results("f")) == kept
            await barrier.batch_decrement_and_check([mark("f", 3, FAIL, generation=1)])
            await barrier.confirm_join([("f", 1)])
            assert await barrier.reopen(self.again_from("f", now, generation=2)) == [3], "kept once"

    @pytest.mark.spec("INV-05")
    async def test_a_flow_is_opened_again_once_per_generation(self, clock: Clock) -> None:
        async with self.open(clock) as barrier:
            now = clock.now()
            await self.closed(barrier, flow("f", 2, now))
            assert await barrier.reopen(self.again_from("f", now, generation=2)) is None
            assert await barrier.reopen(self.again_from("f", now, generation=0)) is None
            assert await barrier.reopen(self.again_from("f", now)) == [0]
            assert await barrier.reopen(self.again_from("f", now)) is None
            assert await barrier.reopen(self.again_from("f", now, generation=2)) is None
            assert await barrier.reopen(self.again_from("never", now)) is None

    @pytest.mark.spec("D-40", "INV-05")
    async def test_a_flow_whose_join_is_not_on_its_way_is_not_opened_again(self, clock: Clock) -> None:
        """The join of the generation that ended would be lost."""
        async with self.open(clock) as barrier:
            now = clock.now()
            await self.closed(barrier, flow("f", 2, now), confirm=False)
            assert await barrier.reopen(self.again_from("f", now)) is None
            assert (await barrier.get(["f"]))["f"].answer == 0
            await barrier.confirm_join([("f", 0)])
            assert await barrier.reopen(self.again_from("f", now)) == [0]

    async def test_each_generation_is_confirmed_for_itself(self, clock: Clock) -> None:
        async with self.open(clock) as barrier:
            now = clock.now()
            await self.closed(barrier, flow("f", 2, now))
            await barrier.reopen(self.again_from("f", now))
            await barrier.confirm_join([("f", 1)])
            (state,) = await barrier.batch_decrement_and_check([mark("f", 0, generation=1)])
            assert (state.verdict, state.answer) == (Verdict.COMPLETED, 0)
            await barrier.confirm_join([("f", 0)])
            assert (await barrier.get(["f"]))["f"].answer == 0
            await barrier.confirm_join([("f", 1)])
            assert (await barrier.get(["f"]))["f"].answer == -1

    async def test_of_an_older_generation_only_a_success_counts(self, clock: Clock) -> None:
        async with self.open(clock) as barrier:
            now = clock.now()
            await barrier.init_barrier([flow("f", 4, now)])
            await barrier.mark_aborted("f", Verdict.CANCELLED, "by hand")
            await barrier.confirm_join([("f", 0)])
            assert await barrier.reopen(self.again_from("f", now)) == [0, 1, 2, 3]
            assert (await barrier.get(["f"]))["f"].reason == ""
            old = [mark("f", 0, FAIL), mark("f", 1, CANCELLED), mark("f", 2, result=b"done")]
            (state,) = await barrier.batch_decrement_and_check(old)
            assert (state.remaining, state.succeeded, state.failed) == (3, 1, 0)
            (state,) = await barrier.batch_decrement_and_check(
                [mark("f", 0, FAIL, generation=1), mark("f", 1, generation=1)]
            )
            assert (state.remaining, state.succeeded, state.failed) == (1, 2, 1)

    async def test_a_flow_in_which_nobody_is_missing_is_complete_again_at_once(self, clock: Clock) -> None:
        async with self.open(clock) as barrier:
            now = clock.now()
            await barrier.init_barrier([flow("f", 1, now)])
            await barrier.batch_decrement_and_check([mark("f", 0)])
            await barrier.confirm_join([("f", 0)])
            assert await barrier.reopen(self.again_from("f", now)) == []
            state = (await barrier.get(["f"]))["f"]
            assert (state.verdict, state.answer, state.flow.generation) == (Verdict.COMPLETED, 0, 1)

    # --- retention ------------------------------------------------------------------------------------------------

    @pytest.mark.spec("D-48", "INV-09")
    async def test_a_closed_flow_is_remembered_then_dropped_with_its_members(self, clock: Clock) -> None:
        async with self.open(clock) as barrier:
            await self.closed(barrier, flow("f", 2, clock.now()), flow("g", 2, clock.now()))
            await clock.sleep(self.beat)
            between = clock.now()
            await clock.sleep(self.beat)
            await self.closed(barrier, flow("late", 1, between))
            assert await barrier.purge(between, 1) == 1
            assert await barrier.purge(between, 100) == 1
            assert await barrier.purge(between, 100) == 0
            assert sorted(await barrier.get(["f", "g", "late"])) == ["late"]
            assert await barrier.get_step_results("f") == []
            assert await barrier.batch_decrement_and_check([mark("f", 0)]) == []
            (state,) = await barrier.init_barrier([flow("f", 2, clock.now())])
            assert state.remaining == 2

    @pytest.mark.spec("D-48")
    async def test_a_flow_that_was_opened_again_is_remembered_from_its_last_end(self, clock: Clock) -> None:
        async with self.open(clock) as barrier:
            now = clock.now()
            await self.closed(barrier, flow("f", 2, now))
            await clock.sleep(self.beat)
            between = clock.now()
            await barrier.reopen(self.again_from("f", now))
            await clock.sleep(self.beat)
            await barrier.batch_decrement_and_check([mark("f", 0, generation=1)])
            await barrier.confirm_join([("f", 1)])
            assert await barrier.purge(between, 100) == 0
            await clock.sleep(self.beat)
            assert await barrier.purge(clock.now(), 100) == 1
            assert await barrier.purge(clock.now(), 100) == 0

    @pytest.mark.spec("D-48", "D-40")
    async def test_what_is_open_or_unconfirmed_is_never_dropped(self, clock: Clock) -> None:
        async with self.open(clock) as barrier:
            now = clock.now()
            await barrier.init_barrier([flow("open", 2, now - 1e6)])
            await self.closed(barrier, flow("unconfirmed", 2, now - 1e6), confirm=False)
            await self.closed(barrier, flow("again", 2, now - 1e6))
            await barrier.reopen(self.again_from("again", now))
            assert await barrier.purge(now + 1e6, 100) == 0
            assert sorted(await barrier.get(["open", "unconfirmed", "again"])) == ["again", "open", "unconfirmed"]
            await barrier.confirm_join([("unconfirmed", 0)])
            assert await barrier.purge(now + 1e6, 100) == 1
