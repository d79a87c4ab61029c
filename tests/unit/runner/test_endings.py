"""Where executions end: once each, and always."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from tq import Task
from tq.model import NO_EFFECTS, Effects, Ended, Failed, Remove, Succeeded
from tq.ports import Continuation
from tq.runner.endings import Endings
from tq.runner.execution import Execution, Interruption
from tq.testing import VirtualClock

from .making import delivery, execution, message


class Broken(Continuation):
    """Raises whatever it is asked."""

    def begin(self, task: Task[Any], now: float) -> Effects:
        return NO_EFFECTS

    def follow(self, ended: Ended) -> Effects:
        raise ZeroDivisionError("a fault of tq's own")


def held(endings: Endings, id: str = "t-1", **fields: Any) -> Execution:
    one = execution(delivery(message(id, **fields)))
    endings.held[id] = one
    return one


@pytest.mark.spec("CON-02", "INV-01")
async def test_a_continuations_fault_ends_its_task_as_a_dead_letter(
    clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    endings = Endings(clock, [Broken()])
    concerned, plain = held(endings, "a", metadata={"x": 1}), held(endings, "b")
    with caplog.at_level(logging.ERROR):
        assert endings.finish(concerned, Succeeded())
    assert endings.finish(plain, Succeeded())
    first, second = endings.take()
    [record] = first.settlement.effects.records
    assert (first.settlement.ending, record.dead, record.error) == (
        Remove(),
        True,
        "what follows it could not be decided: a fault of tq's own",
    )
    assert second.settlement.effects is NO_EFFECTS
    assert "what follows task a cannot be decided" in caplog.text


@pytest.mark.spec("INV-01", "D-10", "ACT-03")
async def test_an_execution_ends_once(clock: VirtualClock) -> None:
    endings = Endings(clock, [])
    one = held(endings)
    assert endings.finish(one, Succeeded())
    assert not endings.finish(one, Failed("late"))
    assert [type(item.outcome) for item in endings.take()] == [Succeeded]
    assert endings.take() == []


async def test_what_lost_its_lease_is_let_go_unwritten(clock: VirtualClock) -> None:
    endings = Endings(clock, [])
    one = held(endings)
    one.interrupt(Interruption.LOST)
    endings.finish(one, Succeeded())
    assert endings.take() == []
    assert endings.deliveries() == []


async def test_what_is_settled_stays_leased_until_it_is_written(clock: VirtualClock) -> None:
    endings = Endings(clock, [])
    one = held(endings)
    endings.finish(one, Succeeded())
    assert endings.deliveries() == [one.delivery]
    endings.let_go(one.delivery.receipt._replace(token="w:0"))
    assert endings.deliveries() == [one.delivery], "the receipt of an older hand-out lets nothing go"
    endings.let_go(one.delivery.receipt)
    assert endings.deliveries() == []
