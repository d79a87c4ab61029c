"""The life of a task as rows."""

from typing import Any

import pytest

from tq.codec import message_of
from tq.model import (
    NO_EFFECTS,
    Deferred,
    Ended,
    Entity,
    Failed,
    Keep,
    Outcome,
    Projection,
    Released,
    Rescheduled,
    Succeeded,
    Task,
    TaskStatus,
)
from tq.projection import ProjectionFold

NOW = 1_900_000_000.0
FOLD = ProjectionFold()
WITH_PAYLOAD = ProjectionFold(include_payload=True)


def task(**fields: Any) -> Task[Any]:
    given: dict[str, Any] = {"type": "render", "queue_id": "q", "id": "t-1", "entity": Entity("Order", "o-1"), **fields}
    return Task(**given)


def ended(outcome: Outcome, *, final: bool = True, **fields: Any) -> Ended:
    given = fields.pop("task", None) or task()
    return Ended(task=given, outcome=outcome, final=final, now=NOW, **fields)


def row_of(fold: ProjectionFold, end: Ended) -> Projection:
    (row,) = fold.follow(end).projections
    return row


# --- scheduled --------------------------------------------------------------------------------------------------------


@pytest.mark.spec("ENT-01", "ENT-02")
def test_only_tasks_with_an_entity_have_a_scheduled_row() -> None:
    messages = [
        message_of(task(id=f"t-{number}", entity=Entity("Order", "o") if number % 3 == 0 else None), b"1", NOW)
        for number in range(9)
    ]
    rows = FOLD.scheduled_rows(messages, NOW)
    assert [row.task_id for row in rows] == ["t-0", "t-3", "t-6"]
    assert {row.status for row in rows} == {TaskStatus.SCHEDULED}


@pytest.mark.spec("ENT-02")
def test_a_task_without_entity_is_not_even_decoded() -> None:
    message = message_of(task(entity=None), b"1", NOW)._replace(body=b"no body at all")
    assert FOLD.scheduled_rows([message], NOW) == ()


def test_a_payload_that_looks_like_an_entity_is_none() -> None:
    assert FOLD.scheduled_rows([message_of(task(entity=None), b'{"entity":["a","b"]}', NOW)], NOW) == ()


def test_a_replayed_task_is_scheduled_in_its_generation() -> None:
    first, again = (message_of(task(), b"1", NOW)._replace(generation=generation) for generation in (0, 1))
    assert FOLD.scheduled_rows([again], NOW)[0].version > FOLD.scheduled_rows([first], NOW)[0].version + 2


@pytest.mark.spec("ENT-10", "ENT-11", "D-55")
def test_a_row_that_cannot_be_built_is_left_out_alone_and_told(caplog: pytest.LogCaptureFixture) -> None:
    messages = [message_of(task(id=id), b"1", NOW) for id in ("t-1", "", "t-2")]
    assert [row.task_id for row in FOLD.scheduled_rows(messages, NOW)] == ["t-1", "t-2"]
    assert "gets no projection row" in caplog.text
    assert "Order 'o-1'" in caplog.text


# --- processing -------------------------------------------------------------------------------------------------------


@pytest.mark.spec("ENT-03")
def test_processing_is_told_before_the_first_attempt_only() -> None:
    (row,) = FOLD.begin(task(), NOW).projections
    assert (row.task_id, row.status) == ("t-1", TaskStatus.PROCESSING)
    assert FOLD.begin(task(attempt=1), NOW) is NO_EFFECTS
    assert FOLD.begin(task(attempt=0, generation=1), NOW).projections[0].version > row.version


@pytest.mark.spec("ENT-02")
def test_a_task_without_entity_begins_unseen() -> None:
    assert FOLD.begin(task(entity=None), NOW) is NO_EFFECTS


# --- endings ----------------------------------------------------------------------------------------------------------


@pytest.mark.spec("ENT-04")
def test_a_success_is_executed_with_its_result() -> None:
    row = row_of(FOLD, ended(Succeeded(b"7")))
    assert (row.status, row.result) == (TaskStatus.EXECUTED, b"7")


@pytest.mark.spec("ENT-05")
def test_a_final_failure_is_failed_with_its_error() -> None:
    row = row_of(FOLD, ended(Failed("boom")))
    assert (row.status, row.error) == (TaskStatus.FAILED, "boom")
    assert row_of(FOLD, ended(Failed(""))).error == "Task failed"
    assert row_of(FOLD, ended(Failed(""), keep=Keep(on_failure=False))).error == "Task exhausted all retries"


@pytest.mark.spec("ENT-06", "RET-10")
@pytest.mark.parametrize("outcome", [Failed("boom"), Rescheduled(1.0), Released(), Deferred("f")])
def test_what_is_not_final_writes_nothing(outcome: Outcome) -> None:
    assert FOLD.follow(ended(outcome, final=False)) is NO_EFFECTS


@pytest.mark.spec("D-51")
def test_a_task_that_waits_for_its_flow_has_not_ended() -> None:
    assert FOLD.follow(ended(Deferred("f"))) is NO_EFFECTS


@pytest.mark.spec("ENT-02")
def test_a_task_without_entity_ends_unseen() -> None:
    assert FOLD.follow(ended(Succeeded(), task=task(entity=None))) is NO_EFFECTS


@pytest.mark.spec("ENT-14")
def test_each_task_of_a_batch_has_its_own_status() -> None:
    ends = [ended(Succeeded(), task=task(id="a")), ended(Failed("boom"), task=task(id="b"))]
    assert [row_of(FOLD, end).status for end in ends] == [TaskStatus.EXECUTED, TaskStatus.FAILED]


@pytest.mark.spec("ENT-15", "ENT-07")
def test_a_full_life_is_one_row_of_each_kind_each_newer_than_the_last() -> None:
    rows = [
        *FOLD.scheduled_rows([message_of(task(), b"1", NOW)], NOW),
        *FOLD.begin(task(), NOW).projections,
        *FOLD.follow(ended(Failed("boom"), final=False)).projections,
        *FOLD.begin(task(attempt=1), NOW).projections,
        *FOLD.follow(ended(Succeeded(), task=task(attempt=1))).projections,
    ]
    assert [row.status for row in rows] == [TaskStatus.SCHEDULED, TaskStatus.PROCESSING, TaskStatus.EXECUTED]
    assert [row.version for row in rows] == sorted({row.version for row in rows})


@pytest.mark.spec("ENT-10", "D-55")
def test_a_task_without_id_ends_without_a_row_and_without_trouble() -> None:
    assert FOLD.follow(ended(Succeeded(), task=task(id=""))) is NO_EFFECTS
    assert FOLD.begin(task(id=""), NOW) is NO_EFFECTS


# --- payload ----------------------------------------------------------------------------------------------------------


@pytest.mark.spec("ENT-12")
def test_the_payload_is_shown_only_when_asked_for() -> None:
    message = message_of(task(), b'{"order":1}', NOW)
    running = task(payload={"order": 1})
    end = ended(Succeeded(), task=running, body=message.body)
    for fold, shown in ((FOLD, None), (WITH_PAYLOAD, b'{"order":1}')):
        assert fold.scheduled_rows([message], NOW)[0].payload == shown
        assert fold.begin(running, NOW).projections[0].payload == shown
        assert row_of(fold, end).payload == shown


def test_the_payload_is_shown_as_its_producer_wrote_it_where_that_is_known() -> None:
    class Order:
        """What an executor may be given: no JSON."""

    message = message_of(task(), b'{"order":1}', NOW)
    seen = task(payload=Order())
    assert row_of(WITH_PAYLOAD, ended(Succeeded(), task=seen, body=message.body)).payload == b'{"order":1}'
    assert row_of(WITH_PAYLOAD, ended(Succeeded(), task=seen)).payload is None
    assert WITH_PAYLOAD.begin(seen, NOW).projections[0].payload is None
    assert WITH_PAYLOAD.begin(task(payload=b"[1]"), NOW).projections[0].payload == b"[1]"


def test_a_body_that_cannot_be_read_costs_the_row_and_nothing_else() -> None:
    assert WITH_PAYLOAD.follow(ended(Succeeded(), body=b"no body")) is NO_EFFECTS
