"""Options of executors: what is not given has its default. Refusals stand in tests/stories/test_registration.py."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tq.errors import RegistrationError
from tq.model import Backoff
from tq.runner.options import ExecutorOptions, options_from


def test_what_is_not_given_has_its_default() -> None:
    options = options_from("executor 'x'")
    assert options == ExecutorOptions()
    assert (options.retries, options.max_crashes, options.store_on_failure, options.store_on_success) == (
        0,
        3,
        True,
        False,
    )
    assert (options.timeout, options.handoff_timeout, options.cancel_grace, options.result_ttl) == (
        None,
        None,
        10.0,
        0.0,
    )
    assert (options.concurrency, options.multiple, options.parallel, options.chunk_size) == (None, False, False, 100)
    assert options.backoff == Backoff(base=2.0, cap=300.0, jitter=0.1)


def test_durations_may_be_numbers_or_timedeltas_and_are_seconds() -> None:
    options = options_from(
        "x", timeout=timedelta(minutes=1), handoff_timeout=5, cancel_grace=timedelta(0), result_ttl=timedelta(days=2)
    )
    assert (options.timeout, options.handoff_timeout, options.cancel_grace, options.result_ttl) == (60, 5, 0, 172_800)
    assert options_from("x", result_ttl=None).result_ttl == 0


def test_a_number_as_backoff_is_its_base() -> None:
    assert options_from("x", backoff=7).backoff == Backoff(base=7)
    assert options_from("x", backoff=Backoff(jitter=0)).backoff.jitter == 0


def test_what_is_kept_follows_from_the_options() -> None:
    keep = options_from("x", store_on_failure=False, store_on_success=True, result_ttl=60).keep
    assert (keep.on_failure, keep.on_success, keep.result_ttl) == (False, True, 60)


@pytest.mark.spec("HND-01")
def test_only_executors_of_one_task_at_a_time_are_handed_over() -> None:
    assert options_from("x", handoff_timeout=5, parallel=False).handoff_timeout == 5
    with pytest.raises(RegistrationError, match=r"'x'.*handoff_timeout is for executors of one task"):
        options_from("executor 'x'", handoff_timeout=5, multiple=True)
    with pytest.raises(RegistrationError, match=r"handoff_timeout"):
        options_from("executor 'x'", handoff_timeout=5, parallel=True)
