"""How a verdict follows from counts, and what callers are told of it."""

import pytest

from tests.unit.flow.doubles import flow_of
from tq.model import FlowState, Verdict, decide


@pytest.mark.spec("FLOW-14")
def test_a_flow_with_members_missing_is_open() -> None:
    assert decide(remaining=1, succeeded=2, failed=0, allowed=3, needed=3) is None


@pytest.mark.spec("FLOW-15")
def test_a_flow_that_bears_its_failures_completes_when_nobody_is_missing() -> None:
    assert decide(remaining=0, succeeded=1, failed=2, allowed=3, needed=3) is Verdict.COMPLETED


@pytest.mark.spec("FLOW-22")
def test_one_failure_too_many_aborts_at_once() -> None:
    assert decide(remaining=5, succeeded=0, failed=1, allowed=0, needed=6) is Verdict.ABORTED


@pytest.mark.spec("D-42")
def test_failures_are_weighed_before_completeness() -> None:
    """Both hold when the last mark of a step is one failure too many: every backend must say the same (F19)."""
    assert decide(remaining=0, succeeded=2, failed=1, allowed=0, needed=3) is Verdict.ABORTED


def test_enough_successes_complete_whatever_is_open() -> None:
    assert decide(remaining=3, succeeded=2, failed=0, allowed=3, needed=2) is Verdict.COMPLETED


@pytest.mark.spec("BAR-02", "D-40")
def test_the_answer_is_what_is_missing_then_zero_until_the_join_is_confirmed_then_minus_one() -> None:
    flow = flow_of(total=3)
    assert FlowState(flow=flow, remaining=2).answer == 2
    assert FlowState(flow=flow, remaining=0, verdict=Verdict.COMPLETED).answer == 0
    assert FlowState(flow=flow, remaining=2, verdict=Verdict.ABORTED).answer == 0
    assert FlowState(flow=flow, remaining=0, verdict=Verdict.COMPLETED, confirmed=True).answer == -1
