"""How many failures a flow may bear, and what a flow is made of."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tq.errors import InvalidInputError
from tq.model import FailurePolicy, FlowStep, Join, decide, quorum, tolerate
from tq.model.plan import Tolerance


@pytest.mark.spec("FLOW-03")
def test_continue_bears_every_failure() -> None:
    policy = FailurePolicy.compile("continue", 5)
    assert (policy.allowed, policy.needed, policy.words) == (5, 5, "continue")


@pytest.mark.spec("FLOW-22")
def test_abort_bears_none() -> None:
    policy = FailurePolicy.compile("abort", 5)
    assert (policy.allowed, policy.needed, policy.words) == (0, 5, "abort")


@pytest.mark.parametrize(
    ("count", "allowed"), [(0, 0), (2, 2), (9, 9), (0.0, 0), (0.29, 2), (0.3, 3), (0.5, 5), (0.99, 9), (1.0, 10)]
)
def test_tolerate_bears_a_number_or_a_share_rounded_down(count: float, allowed: int) -> None:
    assert FailurePolicy.compile("continue", 10, tolerate=count).allowed == allowed
    assert FailurePolicy.compile(tolerate(count), 10).allowed == allowed


def test_a_share_does_not_lose_a_member_to_binary_fractions() -> None:
    assert FailurePolicy.compile("continue", 100, tolerate=0.29).allowed == 29


def test_quorum_needs_so_many_and_bears_the_rest() -> None:
    policy = FailurePolicy.compile("continue", 5, quorum=2)
    assert (policy.allowed, policy.needed, policy.words) == (3, 2, "quorum=2")
    assert FailurePolicy.compile(quorum(2), 5) == policy


def test_cancelling_siblings_is_asked_for_in_either_place() -> None:
    assert FailurePolicy.compile("abort", 3, cancel_siblings=True).cancel_siblings
    assert FailurePolicy.compile(quorum(1, cancel_siblings=True), 3).cancel_siblings
    assert FailurePolicy.compile(tolerate(1), 3, cancel_siblings=True).cancel_siblings
    assert not FailurePolicy.compile(tolerate(1), 3).cancel_siblings


@pytest.mark.spec("D-49")
@pytest.mark.parametrize(
    ("policy", "settings", "field"),
    [
        ("never", {}, "failure_policy"),
        ("", {}, "failure_policy"),
        ("continue", {"tolerate": 1, "quorum": 1}, "quorum"),
        ("abort", {"tolerate": 1}, "failure_policy"),
        (tolerate(1), {"quorum": 1}, "failure_policy"),
        ("continue", {"tolerate": -1}, "tolerate"),
        ("continue", {"tolerate": 1.5}, "tolerate"),
        ("continue", {"tolerate": math.nan}, "tolerate"),
        ("continue", {"tolerate": math.inf}, "tolerate"),
        ("continue", {"tolerate": True}, "tolerate"),
        ("continue", {"quorum": 0}, "quorum"),
        ("continue", {"quorum": 4}, "quorum"),
        ("continue", {"quorum": 0.5}, "quorum"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_by_name(
    policy: str | Tolerance, settings: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInputError) as refused:
        FailurePolicy.compile(policy, 3, **settings)
    assert refused.value.field == field


def test_an_empty_flow_takes_any_policy() -> None:
    """Producers of a computed list need no special case for a list that came out empty."""
    for policy in ("continue", "abort", tolerate(0.5), quorum(1)):
        compiled = FailurePolicy.compile(policy, 0)
        assert (
            decide(remaining=0, succeeded=0, failed=0, allowed=compiled.allowed, needed=compiled.needed) == "completed"
        )


@pytest.mark.spec("D-49")
@pytest.mark.parametrize("make", [FlowStep, Join])
@pytest.mark.parametrize(("type", "queue"), [("", "default"), ("resize", ""), (None, "default"), ("resize", None)])
def test_a_step_or_join_without_a_target_is_refused(make: type[FlowStep | Join], type: str, queue: str) -> None:
    with pytest.raises(InvalidInputError):
        make(type, queue=queue)


POLICIES = st.one_of(
    st.just("continue"),
    st.just("abort"),
    st.builds(tolerate, st.integers(0, 30) | st.floats(0, 1)),
    st.builds(quorum, st.integers(1, 20)),
)


@given(POLICIES, st.lists(st.booleans(), min_size=1, max_size=20))
def test_every_flow_is_decided_once_its_last_member_has_ended(policy: str | Tolerance, ends: list[bool]) -> None:
    """Whatever the policy and the order: never without a verdict at the end, never two different ones."""
    total = len(ends)
    try:
        compiled = FailurePolicy.compile(policy, total)
    except InvalidInputError:
        assert isinstance(policy, Tolerance)
        assert policy.kind == "quorum"
        assert policy.count > total
        return
    verdicts = [
        decide(
            remaining=total - seen,
            succeeded=sum(ends[:seen]),
            failed=seen - sum(ends[:seen]),
            allowed=compiled.allowed,
            needed=compiled.needed,
        )
        for seen in range(1, total + 1)
    ]
    first = next(index for index, verdict in enumerate(verdicts) if verdict is not None)
    succeeded, failed = sum(ends[: first + 1]), first + 1 - sum(ends[: first + 1])
    if verdicts[first] == "aborted":
        assert failed > compiled.allowed
        assert succeeded < compiled.needed, "no success that would have completed it was overlooked"
    else:
        assert succeeded >= compiled.needed or first + 1 == total
