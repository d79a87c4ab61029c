"""What of an ending is kept."""

from typing import Any

import pytest

from tq.model import Deferred, Failed, Keep, Message, Outcome, Record, Rescheduled, Succeeded, TaskStatus

NOW = 1_900_000_000.0
MESSAGE = Message("t-1", "q", "t", b"body", NOW, 2, 1)


def record(keep: Keep, outcome: Outcome, **fields: Any) -> Record | None:
    settings: dict[str, Any] = {"stats": b"", **fields}
    return keep.record(MESSAGE, 5, outcome, NOW, **settings)


def test_a_success_leaves_nothing_unless_asked() -> None:
    assert record(Keep(), Succeeded(b"1")) is None


def test_a_result_is_kept_for_as_long_as_asked() -> None:
    kept = record(Keep(result_ttl=60.0), Succeeded(b"1"), stats=b"{}")
    assert kept == Record("t-1", "q", "t", TaskStatus.EXECUTED, NOW, NOW + 60, 2, 1, 5, False, b"1", None, b"{}", None)


def test_no_result_is_not_kept_unless_successes_are() -> None:
    assert record(Keep(result_ttl=60.0), Succeeded()) is None
    kept = record(Keep(on_success=True), Succeeded())
    assert kept is not None
    assert (kept.result, kept.expires_at) == (None, NOW + 86_400)


@pytest.mark.spec("RET-18")
def test_a_failure_is_a_dead_letter_with_its_body_and_stats() -> None:
    kept = record(Keep(), Failed("boom"), stats=b'{"last_error":"boom"}')
    assert kept is not None
    assert kept.dead
    assert (kept.error, kept.stats, kept.body) == ("boom", b'{"last_error":"boom"}', b"body")
    assert kept.expires_at == NOW + 30 * 86_400


def test_a_failure_leaves_nothing_where_that_was_asked_for_except_of_a_step() -> None:
    """A redrive needs the step's body."""
    keep = Keep(on_failure=False)
    assert record(keep, Failed("boom")) is None
    assert record(keep, Failed("boom"), member=True) is not None


def test_a_cancelled_task_is_no_dead_letter() -> None:
    kept = record(Keep(), Failed("cancelled", status=TaskStatus.CANCELLED))
    assert kept is not None
    assert not kept.dead
    assert kept.body == b"body", "a redrive may want it back"


@pytest.mark.parametrize("outcome", [Rescheduled(1.0), Deferred("f")])
def test_what_is_no_ending_leaves_no_record(outcome: Rescheduled | Deferred) -> None:
    assert record(Keep(on_success=True), outcome) is None
