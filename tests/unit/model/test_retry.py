"""When a failed attempt is tried again: pure arithmetic."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tq.errors import InvalidInputError
from tq.model import Backoff, attempts_left, retry_count, retry_delay


@pytest.mark.spec("RET-01")
@pytest.mark.parametrize(("attempt", "delay"), [(0, 2.0), (1, 8.0), (2, 18.0), (3, 32.0)])
def test_the_delay_grows_with_the_square_of_the_attempt(attempt: int, delay: float) -> None:
    assert retry_delay(attempt, 2.0) == delay


@pytest.mark.spec("RET-01")
def test_the_delay_ends_at_its_cap() -> None:
    assert retry_delay(10, 60.0) == 300.0
    assert retry_delay(10, 60.0, cap=50.0) == 50.0


@pytest.mark.spec("RET-02")
@pytest.mark.parametrize(
    ("retry_after", "delay"), [(None, 2.0), (0, 0.0), (0.0, 0.0), (-5.0, 0.0), (7.0, 7.0), (0.5, 0.5)]
)
def test_an_absent_base_is_two_seconds_and_zero_or_less_is_now(retry_after: float | None, delay: float) -> None:
    assert retry_delay(0, retry_after) == delay
    assert Backoff().delay(0, retry_after, 0.0) == delay, "what a worker asks"


@pytest.mark.spec("RET-02")
@given(st.integers(0, 10_000), st.floats(-1e6, 1e6) | st.none(), st.floats(-0.1, 0.1))
def test_a_retry_is_never_due_in_the_past_nor_beyond_the_cap(
    attempt: int, retry_after: float | None, jitter: float
) -> None:
    assert 0 <= retry_delay(attempt, retry_after, jitter=jitter) <= 300


def test_jitter_stretches_and_shrinks_by_a_share() -> None:
    assert retry_delay(0, 10.0, jitter=0.1) == pytest.approx(11.0)
    assert retry_delay(0, 10.0, jitter=-0.1) == pytest.approx(9.0)


@pytest.mark.spec("RET-03")
@pytest.mark.parametrize("found", [None, "3", 2.0, True, -1, [], {}])
def test_a_count_that_is_no_count_is_zero(found: object) -> None:
    assert retry_count({"retry_count": found}) == 0


@pytest.mark.spec("RET-03")
def test_a_missing_count_is_zero_and_a_count_is_kept() -> None:
    assert retry_count({}) == 0
    assert retry_count({"retry_count": 4}) == 4


@pytest.mark.spec("RET-04")
@pytest.mark.parametrize(("attempt", "left"), [(0, True), (1, True), (2, False), (3, False)])
def test_the_attempt_that_reaches_the_limit_is_the_last(attempt: int, left: bool) -> None:  # noqa: FBT001 -- a table
    assert attempts_left(attempt, 2, 0) is left


@pytest.mark.spec("RET-04")
def test_without_retries_the_first_failure_is_final() -> None:
    assert not attempts_left(0, None, 0)


@pytest.mark.spec("RET-05")
def test_the_task_s_own_limit_comes_before_the_executor_s_also_when_it_is_zero() -> None:
    assert attempts_left(0, None, 1)
    assert not attempts_left(0, 0, 5)
    assert attempts_left(4, 5, 0)


def test_a_backoff_spaces_retries_its_own_way() -> None:
    backoff = Backoff(base=1.0, cap=10.0, jitter=0.5)
    assert backoff.delay(0, None, 0.0) == 1.0
    assert backoff.delay(2, None, 0.0) == 9.0
    assert backoff.delay(5, None, 0.0) == 10.0
    assert backoff.delay(0, 3.0, 0.0) == 3.0, "the task's own base comes first"
    assert backoff.delay(0, None, 1.0) == 1.5
    assert backoff.delay(0, None, -1.0) == 0.5


def test_a_backoff_of_zero_does_not_wait_and_jitter_does_not_lengthen_the_longest_wait() -> None:
    assert [Backoff(base=0).delay(attempt, None, 1.0) for attempt in range(3)] == [0.0, 0.0, 0.0]
    assert Backoff().delay(0, 0.0, 1.0) == 0.0, "the task's own zero is one, too"
    assert Backoff().delay(100, None, 1.0) == 300.0
    assert Backoff().delay(100, None, -1.0) == pytest.approx(270.0), "still spread"


def test_jitter_can_be_switched_off() -> None:
    backoff = Backoff(jitter=0)
    assert backoff.delay(0, None, 1.0) == backoff.delay(0, None, -1.0) == 2.0


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        ("backoff.base", {"base": -1.0}),
        ("backoff.cap", {"cap": float("inf")}),
        ("backoff.jitter", {"jitter": 1.0}),
        ("backoff.jitter", {"jitter": -0.1}),
    ],
)
def test_a_backoff_that_makes_no_sense_is_refused_by_field(field: str, settings: dict[str, float]) -> None:
    with pytest.raises(InvalidInputError) as refused:
        Backoff(**settings)
    assert refused.value.field == field
