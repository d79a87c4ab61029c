"""The suite of `FlowBarrierProvider`."""

from __future__ import annotations

import asyncio

import pytest

from tq.clock import Clock
from tq.model import StepStatus

from .deciding import Deciding
from .following import Following
from .values import flow, mark

__all__ = ["BarrierContract"]


class BarrierContract(Deciding, Following):
    """Decides each flow once per generation, with every member counted once; atomic across processes.

    Where flows outlive the process, `reopen` opens the same data once more; two openings stand for two processes.
    """

    @pytest.mark.spec("D-54")
    async def test_flows_outlive_the_process(self, clock: Clock) -> None:
        async with self.open(clock) as barrier, self.again(barrier, clock) as other:
            await barrier.init_barrier([flow("f", 3, clock.now(), allowed=0, deadline=clock.now() + 99)])
            await barrier.batch_decrement_and_check([mark("f", 1, result=b"1")])
            assert await other.get(["f"]) == await barrier.get(["f"])
            assert await other.get_step_results("f") == await barrier.get_step_results("f")
            (state,) = await other.batch_decrement_and_check([mark("f", 0, StepStatus.FAIL, error="no")])
            assert state.answer == 0
            assert await barrier.get(["f"]) == {"f": state}

    @pytest.mark.spec("BAR-09", "INV-05")
    async def test_processes_count_each_member_once(self, clock: Clock) -> None:
        async with self.open(clock) as barrier, self.again(barrier, clock) as other:
            await barrier.init_barrier([flow("f", 20, clock.now())])
            calls = [
                (barrier, other)[number % 2].batch_decrement_and_check([mark("f", number * 7 % 20)])
                for number in range(60)
            ]
            answers = [states[0].answer for states in await asyncio.gather(*calls)]
            assert set(answers) == set(range(20))
            assert (await other.get(["f"]))["f"].succeeded == 20
