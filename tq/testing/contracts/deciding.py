"""The barrier, part one: members are counted once, and each flow is decided once."""

from __future__ import annotations

import asyncio
from itertools import permutations

import pytest

from tq.clock import Clock
from tq.errors import ContentRefusedError
from tq.model import FlowState, Mark, StepResult, StepStatus, Verdict
from tq.ports import FlowBarrierProvider

from .suite import Suite
from .values import flow, mark

__all__ = ["Deciding"]

FAIL, SUCCESS, CANCELLED = StepStatus.FAIL, StepStatus.SUCCESS, StepStatus.CANCELLED


class Deciding(Suite[FlowBarrierProvider]):
    """From `init_barrier` to the verdict."""

    async def answers(self, barrier: FlowBarrierProvider, *marks: Mark) -> list[int]:
        """Mark one after the other; return what each was told."""
        return [(await barrier.batch_decrement_and_check([one]))[0].answer for one in marks]

    async def indexes(self, barrier: FlowBarrierProvider, flow_id: str) -> list[int]:
        """Return the members recorded."""
        return [it.index for it in await barrier.get_step_results(flow_id)]

    # --- init -----------------------------------------------------------------------------------------------------

    @pytest.mark.spec("BAR-01", "BAR-08", "D-48")
    async def test_a_flow_comes_back_as_it_was_stored(self, clock: Clock) -> None:
        async with self.open(clock) as barrier:
            now = clock.now()
            stored = flow(
                "f",
                3,
                now - 5,
                allowed=1,
                needed=2,
                deadline=now + 50,
                cancel_siblings=True,
                parent="p",
                chunks=2,
                plan="k",
            )
            (state,) = await barrier.init_barrier([stored])
            assert state.flow == stored
            assert (state.remaining, state.succeeded, state.failed, state.verdict) == (3, 0, 0, None)
            assert (state.answer, state.confirmed, state.closed_at, state.trigger) == (3, False, None, -1)
            assert (state.spread, state.tidied, state.reason) == (0, False, "")
            assert state.opened_at == pytest.approx(now - 5, abs=1e-3)
            assert await barrier.get(["f", "never"]) == {"f": state}

    @pytest.mark.spec("BAR-01", "D-48")
    async def test_opening_twice_resets_nothing(self, clock: Clock) -> None:
        async with self.open(clock) as barrier:
            now = clock.now()
            await barrier.init_barrier([flow("f", 3, now)])
            await barrier.batch_decrement_and_check([mark("f", 0)])
            state, other = await barrier.init_barrier([flow("f", 9, now + 1, allowed=0), flow("g", 1, now)])
            assert (state.flow.total, state.remaining, state.flow.allowed) == (3, 2, 3)
            assert (other.id, other.remaining) == ("g", 1)

    async def test_a_closed_flow_is_not_opened_by_opening(self, clock: Clock) -> None:
        async with self.open(clock) as barrier:
            await barrier.init_barrier([flow("f", 1, clock.now())])
            await barrier.batch_decrement_and_check([mark("f", 0)])
            (state,) = await barrier.init_barrier([flow("f", 1, clock.now())])
            assert (state.verdict, state.answer) == (Verdict.COMPLETED, 0)

    async def test_a_flow_of_no_members_is_complete_at_once(self, clock: Clock) -> None:
        async with self.open(clock) as barrier:
            (state,) = await barrier.init_barrier([flow("f", 0, clock.now(), allowed=0, needed=0)])
            assert (state.verdict, state.answer, state.remaining) == (Verdict.COMPLETED, 0, 0)
            assert state.closed_at is not None
            assert [it.id for it in await barrier.due(clock.now(), 9)] == ["f"]

    # --- counting -------------------------------------------------------------------------------------------------

    @pytest.mark.spec("BAR-02", "BAR-07")
    async def test_each_member_counts_down_by_one(self, clock: Clock) -> None:
        async with self.open(clock) as barrier:
            await barrier.init_barrier([flow("f", 3, clock.now())])
            assert await self.answers(barrier, mark("f", 2), mark("f", 0), mark("f", 1)) == [2, 1, 0]

    @pytest.mark.spec("BAR-02")
    async def test_all_members_at_once_count_down_to_nothing(self, clock: Clock) -> None:
        async with self.open(clock) as barrier:
            await barrier.init_barrier([flow("f", 3, clock.now())])
            (state,) = await barrier.batch_decrement_and_check([mark("f", index) for index in range(3)])
            assert (state.answer, state.verdict, state.succeeded) == (0, Verdict.COMPLETED, 3)
            assert state.closed_at == pytest.approx(clock.now(), abs=self.beat)

    @pytest.mark.spec("BAR-03", "INV-05")
    async def test_another_value_for_a_member_does_not_complete_for_a_missing_one(self, clock: Clock) -> None:
        async with self.open(clock) as barrier:
            await barrier.init_barrier([flow("f", 3, clock.now())])
            sent = [mark("f", 0, result=b"1"), mark("f", 0, result=b"99"), mark("f", 1, result=b"2")]
            assert await self.answers(barrier, *sent) == [2, 2, 1]
            (state,) = await barrier.batch_decrement_and_check([*sent, mark("f", 0, FAIL, error="late")])
            assert (state.answer, state.verdict, state.failed) == (1, None, 0)
            assert await self.answers(barrier, mark("f", 2)) == [0]
            results = await barrier.get_step_results("f")
            assert [it.result for it in results] == [b"1", b"2", None]

    @pytest.mark.spec("BAR-03")
    async def test_the_first_of_one_batch_wins_too(self, clock: Clock) -> None:
        async with self.open(clock) as barrier:
            await barrier.init_barrier([flow("f", 2, clock.now())])
            same = [mark("f", 0, result=b"1"), mark("f", 0, FAIL, error="no"), mark("f", 0, result=b"3")]
            (state,) = await barrier.batch_decrement_and_check(same)
            assert (state.answer, state.succeeded, state.failed) == (1, 1, 0)
            assert await barrier.get_step_results("f") == [StepResult(0, SUCCESS, b"1")]

    @pytest.mark.spec("BAR-02", "D-41")
    async def test_one_batch_may_mark_many_flows(self, clock: Clock) -> None:
        async with self.open(clock) as barrier:
            flows = [flow(f"f{number}", 2, clock.now()) for number in range(50)]
            await barrier.init_barrier(flows)
            marks = [mark(it.id, 0) for it in flows] + [mark(it.id, 1) for it in flows[::2]] + [mark("never", 0)]
            states = {it.id: it for it in await barrier.batch_decrement_and_check(marks)}
            assert sorted(states) == sorted(it.id for it in flows)
            assert {states[it.id].answer for it in flows[::2]} == {0}
            assert {states[it.id].answer for it in flows[1::2]} == {1}

    @pytest.mark.spec("F-22", "D-48")
    async def test_an_unknown_flow_records_nothing(self, clock: Clock) -> None:
        async with self.open(clock) as barrier:
            assert await barrier.batch_decrement_and_check([mark("f", 0)]) == []
            assert await barrier.batch_decrement_and_check([]) == []
            (state,) = await barrier.init_barrier([flow("f", 1, clock.now())])
            assert state.remaining == 1
            assert await barrier.get_step_results("f") == []
            assert await barrier.mark_aborted("never", Verdict.CANCELLED) is None

    async def test_a_member_that_the_flow_does_not_have_counts_for_none(self, clock: Clock) -> None:
        async with self.open(clock) as barrier:
            await barrier.init_barrier([flow("f", 2, clock.now())])
            (state,) = await barrier.batch_decrement_and_check([mark("f", 2), mark("f", -1), mark("f", 7)])
            assert state.answer == 2

    async def test_refused_content_keeps_its_whole_call_out(self, clock: Clock) -> None:
        bad = self.bad_text()
        async with self.open(clock) as barrier:
            with pytest.raises(ContentRefusedError):
                await barrier.init_barrier([flow("f", 2, clock.now()), flow("g", 2, clock.now(), parent=bad)])
            assert await barrier.get(["f", "g"]) == {}
            await barrier.init_barrier([flow("f", 2, clock.now())])
            with pytest.raises(ContentRefusedError):
                await barrier.batch_decrement_and_check([mark("f", 0), mark("f", 1, FAIL, error=bad)])
            assert (await barrier.get(["f"]))["f"].remaining == 2

    @pytest.mark.spec("BAR-09", "INV-05")
    async def test_concurrent_callers_count_each_member_once(self, clock: Clock) -> None:
        async with self.open(clock) as barrier:
            await barrier.init_barrier([flow("f", 30, clock.now())])
            marks = [mark("f", index % 30) for index in range(90)]
            answers = await asyncio.gather(*[barrier.batch_decrement_and_check([one]) for one in marks])
            counted = sorted({states[0].answer for states in answers}, reverse=True)
            assert counted == list(range(29, -1, -1))
            assert await self.indexes(barrier, "f") == list(range(30))

    # --- verdicts -------------------------------------------------------------------------------------------------

    @pytest.mark.spec("FLOW-15", "D-47")
    async def test_a_flow_that_bears_failures_completes_with_them(self, clock: Clock) -> None:
        async with self.open(clock) as barrier:
            await barrier.init_barrier([flow("f", 3, clock.now())])
            ended = [mark("f", 0, FAIL, error="no"), mark("f", 1, CANCELLED), mark("f", 2)]
            (state,) = await barrier.batch_decrement_and_check(ended)
            assert (state.verdict, state.succeeded, state.failed, state.trigger) == (Verdict.COMPLETED, 1, 2, -1)

    @pytest.mark.spec("D-42", "INV-06", "FLOW-22")
    async def test_the_member_that_aborts_is_recorded_with_its_neighbours(self, clock: Clock) -> None:
        async with self.open(clock) as barrier:
            await barrier.init_barrier([flow("f", 5, clock.now(), allowed=0)])
            await barrier.batch_decrement_and_check([mark("f", 0)])
            together = [mark("f", 1), mark("f", 2, FAIL, error="no"), mark("f", 3)]
            (state,) = await barrier.batch_decrement_and_check(together)
            assert (state.verdict, state.answer, state.trigger, state.remaining) == (Verdict.ABORTED, 0, 2, 1)
            assert (state.succeeded, state.failed) == (3, 1)
            assert await self.indexes(barrier, "f") == [0, 1, 2, 3]
            assert (await barrier.get_step_results("f"))[2] == StepResult(2, FAIL, None, "no")

    async def test_a_tolerated_failure_more_aborts(self, clock: Clock) -> None:
        async with self.open(clock) as barrier:
            await barrier.init_barrier([flow("f", 5, clock.now(), allowed=2)])
            ended = [mark("f", 0, FAIL), mark("f", 1, CANCELLED), mark("f", 2), mark("f", 3, FAIL)]
            assert await self.answers(barrier, *ended) == [4, 3, 2, 0]
            state = (await barrier.get(["f"]))["f"]
            assert (state.verdict, state.trigger) == (Verdict.ABORTED, 3)

    @pytest.mark.spec("FLC-03")
    async def test_of_failures_that_come_together_the_first_too_many_is_named(self, clock: Clock) -> None:
        async with self.open(clock) as barrier:
            for name, allowed, blamed in (("none", 0, 3), ("one", 1, 0), ("two", 2, 2)):
                await barrier.init_barrier([flow(name, 5, clock.now(), allowed=allowed)])
                together = [mark(name, 3, FAIL), mark(name, 1), mark(name, 0, CANCELLED), mark(name, 2, FAIL)]
                (state,) = await barrier.batch_decrement_and_check(together)
                assert (state.verdict, state.trigger) == (Verdict.ABORTED, blamed)

    async def test_enough_successes_complete_whatever_is_open(self, clock: Clock) -> None:
        async with self.open(clock) as barrier:
            await barrier.init_barrier([flow("f", 5, clock.now(), allowed=3, needed=2)])
            assert await self.answers(barrier, mark("f", 4), mark("f", 1, FAIL), mark("f", 0)) == [4, 3, 0]
            state = (await barrier.get(["f"]))["f"]
            assert (state.verdict, state.remaining) == (Verdict.COMPLETED, 2)

    async def test_failures_are_weighed_before_completeness(self, clock: Clock) -> None:
        """Else the order of two marks in one batch would decide, and backends would differ."""
        async with self.open(clock) as barrier:
            for number, order in enumerate(permutations([mark("f", 0), mark("f", 1, FAIL), mark("f", 2)])):
                name = f"f{number}"
                await barrier.init_barrier([flow(name, 3, clock.now(), allowed=0, needed=2)])
                (state,) = await barrier.batch_decrement_and_check([it._replace(flow_id=name) for it in order])
                assert (state.verdict, state.trigger) == (Verdict.ABORTED, 1)

    # --- after the verdict ----------------------------------------------------------------------------------------

    @pytest.mark.spec("D-40", "BAR-07")
    async def test_every_caller_is_told_until_the_join_is_confirmed(self, clock: Clock) -> None:
        async with self.open(clock) as barrier:
            await barrier.init_barrier([flow("f", 2, clock.now()), flow("g", 1, clock.now())])
            sent = [mark("f", 0), mark("f", 1)]
            assert await self.answers(barrier, *sent, *sent, mark("f", 1, FAIL)) == [1, 0, 0, 0, 0]
            await barrier.confirm_join([("f", 1), ("g", 0), ("never", 0)])
            assert await self.answers(barrier, sent[0]) == [0]
            await barrier.confirm_join([("f", 0)])
            await barrier.confirm_join([("f", 0)])
            assert await self.answers(barrier, sent[0], mark("f", 9)) == [-1, -1]
            assert (await barrier.get(["f"]))["f"].confirmed
            assert not (await barrier.get(["g"]))["g"].confirmed

    @pytest.mark.spec("INV-06", "D-43", "FLOW-23")
    async def test_a_closed_flow_records_nothing(self, clock: Clock) -> None:
        async with self.open(clock) as barrier:
            await barrier.init_barrier([flow("f", 3, clock.now(), allowed=0)])
            await barrier.batch_decrement_and_check([mark("f", 0, FAIL, error="no")])
            before = (await barrier.get(["f"]))["f"]
            (state,) = await barrier.batch_decrement_and_check([mark("f", 1), mark("f", 2)])
            assert state == before
            assert await self.indexes(barrier, "f") == [0]

    @pytest.mark.spec("BAR-06", "D-43", "FLOW-25")
    async def test_a_closed_flow_is_not_aborted(self, clock: Clock) -> None:
        async with self.open(clock) as barrier:
            await barrier.init_barrier([flow("f", 1, clock.now())])
            (before,) = await barrier.batch_decrement_and_check([mark("f", 0)])
            for verdict in (Verdict.TIMED_OUT, Verdict.CANCELLED):
                assert await barrier.mark_aborted("f", verdict, "too late") == before
            await barrier.confirm_join([("f", 0)])
            state: FlowState | None = await barrier.mark_aborted("f", Verdict.CANCELLED, "too late")
            assert state is not None
            assert (state.verdict, state.reason, state.answer) == (Verdict.COMPLETED, "", -1)

    @pytest.mark.spec("BAR-06", "FLOW-24")
    async def test_an_open_flow_is_closed_by_deadline_or_cancel_once(self, clock: Clock) -> None:
        async with self.open(clock) as barrier:
            await barrier.init_barrier([flow("f", 3, clock.now())])
            await barrier.batch_decrement_and_check([mark("f", 1)])
            state = await barrier.mark_aborted("f", Verdict.TIMED_OUT, "the first word")
            assert state is not None
            assert (state.verdict, state.reason, state.remaining) == (Verdict.TIMED_OUT, "the first word", 2)
            assert (state.answer, state.trigger) == (0, -1)
            assert state.closed_at == pytest.approx(clock.now(), abs=self.beat)
            assert await barrier.mark_aborted("f", Verdict.CANCELLED, "the second") == state
            assert await self.answers(barrier, mark("f", 0)) == [0]
            assert await self.indexes(barrier, "f") == [1]
