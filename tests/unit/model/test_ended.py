"""What of an ending is kept."""

from typing import Any

import pytest

from tq.model import Deferred, Failed, Keep, Rescheduled, Succeeded, Task, TaskStatus

NOW = 1_900_000_000.0
STEP = {"flow_meta": {"flow_id": "f", "step_index": 0, "total_steps": 1}}
JOIN = {"flow_meta": {"flow_id": "f", "step_index": -1, "is_join": True}}


def task(**fields: Any) -> Task[object]:
    given: dict[str, Any] = {"type": "t", "queue_id": "q", "id": "t-1", **fields}
    return Task(**given)


def test_a_success_leaves_nothing_unless_asked() -> None:
    assert Keep().record(task(), Succeeded(b"1"), NOW) is None


def test_a_result_is_kept_for_as_long_as_asked() -> None:
    record = Keep(result_ttl=60.0).record(task(generation=2, attempt=1, fence=5), Succeeded(b"1"), NOW)
    assert record is not None
    assert (record.status, record.result, record.expires_at) == (TaskStatus.EXECUTED, b"1", NOW + 60)
    assert (record.generation, record.attempt, record.fence, record.dead) == (2, 1, 5, False)


def test_no_result_is_not_kept_unless_successes_are() -> None:
    assert Keep(result_ttl=60.0).record(task(), Succeeded(), NOW) is None
    record = Keep(on_success=True).record(task(), Succeeded(), NOW)
    assert record is not None
    assert (record.result, record.expires_at) == (None, NOW + 86_400)


@pytest.mark.spec("RET-18")
def test_a_failure_is_a_dead_letter_with_its_body_and_stats() -> None:
    record = Keep().record(task(), Failed("boom"), NOW, stats=b'{"last_error":"boom"}', body=b"body")
    assert record is not None
    assert record.dead
    assert (record.error, record.stats, record.body) == ("boom", b'{"last_error":"boom"}', b"body")
    assert record.expires_at == NOW + 30 * 86_400


def test_a_failure_leaves_nothing_where_that_was_asked_for_except_of_a_step() -> None:
    """A redrive needs the step's body."""
    keep = Keep(on_failure=False)
    assert keep.record(task(), Failed("boom"), NOW) is None
    assert keep.record(task(metadata=JOIN), Failed("boom"), NOW) is None
    assert keep.record(task(metadata=STEP), Failed("boom"), NOW) is not None


def test_a_cancelled_task_is_no_dead_letter() -> None:
    record = Keep().record(task(), Failed("cancelled", status=TaskStatus.CANCELLED), NOW, body=b"body")
    assert record is not None
    assert not record.dead
    assert record.body == b"body", "a redrive may want it back"


@pytest.mark.parametrize("outcome", [Rescheduled(1.0), Deferred("f")])
def test_what_is_no_ending_leaves_no_record(outcome: Rescheduled | Deferred) -> None:
    assert Keep(on_success=True).record(task(), outcome, NOW) is None
