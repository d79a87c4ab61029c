"""What a task refuses at the door, and what it says of itself."""

from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tq.errors import InvalidInputError
from tq.model import MISSING, Entity, Task
from tq.model.task import amended, trusted

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


@pytest.mark.spec("MOD-01")
def test_a_task_may_name_an_entity_and_need_not() -> None:
    assert Task[object](type="t").entity is None
    assert Task[object](type="t", entity=Entity("Order", "o-1")).entity == Entity("Order", "o-1")


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("type", {"type": ""}),
        ("type", {"type": None}),
        ("type", {"type": 7}),
        ("queue_id", {"queue_id": ""}),
        ("queue_id", {"queue_id": None}),
        ("id", {"id": None}),
        ("id", {"id": "x" * 201}),
        ("retries", {"retries": -1}),
        ("retries", {"retries": True}),
        ("retries", {"retries": 1.5}),
        ("retry_after", {"retry_after": -1.0}),
        ("retry_after", {"retry_after": timedelta(seconds=-1)}),
        ("retry_after", {"retry_after": float("nan")}),
        ("retry_after", {"retry_after": "2"}),
        ("execute_at", {"execute_at": datetime(2030, 1, 1)}),  # noqa: DTZ001 -- the point of the test
        ("expires_at", {"expires_at": datetime(2030, 1, 1)}),  # noqa: DTZ001 -- as above
        ("created_at", {"created_at": datetime(2030, 1, 1)}),  # noqa: DTZ001 -- as above
        ("execute_at", {"execute_at": 1_900_000_000.0}),
        ("entity", {"entity": ("Order", "o-1")}),
        ("metadata", {"metadata": "log"}),
    ],
)
def test_what_makes_no_sense_is_refused_by_field_and_value_with_a_way_out(field: str, given: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"type": "t", **given}
    with pytest.raises(InvalidInputError) as refused:
        Task(**fields)
    assert refused.value.field == field
    assert refused.value.value is given[field] or refused.value.value == given[field] or field == "retry_after"
    assert refused.value.way_out in str(refused.value)


def test_what_makes_sense_is_accepted() -> None:
    task = Task(
        type="t",
        payload={"a": 1},
        queue_id="q",
        id="x" * 200,
        execute_at=NOON,
        expires_at=NOON + timedelta(hours=1),
        created_at=NOON,
        retries=0,
        retry_after=timedelta(seconds=3),
        metadata={"log_context": {"tenant": "a"}},
    )
    assert task.log_context == {"tenant": "a"}
    assert task.flow_meta is None


@pytest.mark.parametrize(("type", "id"), [("", "o-1"), ("Order", ""), (None, "o-1"), ("Order", 7)])
def test_an_entity_without_type_or_id_is_refused(type: str, id: str) -> None:
    with pytest.raises(InvalidInputError):
        Entity(type, id)


@pytest.mark.spec("FLOW-31")
def test_a_member_reads_its_place_in_the_flow() -> None:
    task = Task[object](type="t", metadata={"flow_meta": {"flow_id": "f", "step_index": 2, "total_steps": 3}})
    assert task.flow_meta is not None
    assert task.flow_meta["step_index"] == 2


@pytest.mark.spec("MOD-06")
def test_the_idempotency_key_is_the_same_for_every_attempt_of_a_generation() -> None:
    first = Task[object](type="t", id="a", attempt=0, fence=1)
    again = Task[object](type="t", id="a", attempt=3, fence=9)
    replayed = Task[object](type="t", id="a", generation=1)
    assert first.idempotency_key == again.idempotency_key != replayed.idempotency_key


def test_a_task_may_be_made_of_a_payload_type_and_never_changes() -> None:
    """A frozen dataclass with slots cannot be made as `Task[int](...)` on Python 3.11 without help."""
    task = Task[int](type="t", payload=1)
    assert task == Task(type="t", payload=1)
    for name in ("type", "note"):
        with pytest.raises(FrozenInstanceError):
            setattr(task, name, "x")


def test_a_task_that_is_not_checked_again_is_the_task_that_was_checked() -> None:
    task = Task[object](type="t", payload=[1], retries=2, entity=Entity("Order", "o"), metadata={"a": "b"})
    assert trusted({"type": "t"}) == Task(type="t")
    assert trusted(vars(task)) == task
    changed = amended(task, id="x", payload=None)
    assert changed == Task(type="t", id="x", retries=2, entity=Entity("Order", "o"), metadata={"a": "b"})
    assert task.payload == [1]
    with pytest.raises(FrozenInstanceError):
        setattr(changed, "id", "y")  # noqa: B010 -- a type checker would refuse the plain way


def test_missing_is_not_none_and_counts_as_nothing() -> None:
    missing: object = MISSING
    assert missing is not None
    assert not missing
    assert repr(missing) == "MISSING"
