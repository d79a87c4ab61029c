"""The clock, and durations and instants at the door."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from tq.clock import SystemClock, seconds, to_datetime, to_instant
from tq.errors import InvalidInputError


def test_instants_and_datetimes_are_two_forms_of_one_thing() -> None:
    noon = datetime(2030, 1, 1, 12, tzinfo=UTC)
    assert to_datetime(to_instant("at", noon)) == noon
    assert to_datetime(0.0).tzinfo is UTC
    elsewhere = datetime(2030, 1, 1, 14, tzinfo=timezone(timedelta(hours=2)))
    assert to_instant("at", elsewhere) == to_instant("at", noon)


def test_a_naive_datetime_is_refused_by_field() -> None:
    with pytest.raises(InvalidInputError, match=r"execute_at is refused.*aware"):
        to_instant("execute_at", datetime(2030, 1, 1))  # noqa: DTZ001 -- the point of the test


@pytest.mark.parametrize(("year", "hours"), [(1, 14), (9999, -14)])
def test_an_instant_that_utc_has_no_year_for_is_refused_by_field(year: int, hours: int) -> None:
    first, last = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    edge = first if year == 1 else last
    with pytest.raises(InvalidInputError, match=r"execute_at is refused.*years 1 to 9999 in UTC"):
        to_instant("execute_at", edge.replace(tzinfo=timezone(timedelta(hours=hours))))
    assert to_datetime(to_instant("execute_at", edge)) == edge


@pytest.mark.parametrize(
    ("duration", "expected"), [(0, 0.0), (2, 2.0), (0.5, 0.5), (timedelta(minutes=1), 60.0), (timedelta(0), 0.0)]
)
def test_durations_are_seconds_or_timedeltas(duration: float | timedelta, expected: float) -> None:
    found = seconds("timeout", duration)
    assert found == expected
    assert isinstance(found, float)


@pytest.mark.parametrize(
    "duration", [-1, -0.001, timedelta(seconds=-1), float("nan"), float("inf"), float("-inf"), True, "2", None]
)
def test_durations_that_are_none_are_refused_by_field(duration: float) -> None:
    with pytest.raises(InvalidInputError, match="timeout is refused"):
        seconds("timeout", duration)


def test_zero_is_refused_where_it_makes_no_sense() -> None:
    with pytest.raises(InvalidInputError, match="more than zero"):
        seconds("lease", 0, zero=False)


@pytest.mark.realtime
async def test_the_system_clock_moves_forward_and_waits() -> None:
    clock = SystemClock()
    assert clock.virtual is False
    began, at = clock.monotonic(), clock.now()
    await clock.sleep(0.01)
    await clock.sleep(-1)
    assert clock.monotonic() >= began + 0.009
    assert clock.now() >= at
    with pytest.raises(TimeoutError):
        async with clock.timeout(0.001):
            await clock.sleep(1)
