"""How a task becomes a row."""

from typing import Any

import pytest

from tq.clock import to_datetime
from tq.errors import InvalidInputError
from tq.model import (
    Deferred,
    Entity,
    Failed,
    Succeeded,
    Task,
    TaskStatus,
    build_projection,
    ending_projection,
    projection_version,
)

NOW = 1_900_000_000.0
ORDER = Entity("Order", "o-17")


def task(**fields: Any) -> Task[object]:
    given: dict[str, Any] = {"type": "render", "queue_id": "q", "id": "t-1", "entity": ORDER, **fields}
    return Task(**given)


@pytest.mark.spec("ENT-10")
def test_a_task_without_entity_has_no_row() -> None:
    assert build_projection(task(entity=None), TaskStatus.SCHEDULED, now=NOW) is None
    assert build_projection(task(entity=None, id=""), TaskStatus.SCHEDULED, now=NOW) is None


@pytest.mark.spec("ENT-10")
def test_an_entity_without_an_id_is_refused_with_the_way_out() -> None:
    with pytest.raises(InvalidInputError, match=r"Order 'o-17'.*force_store.*store_on_failure") as refused:
        build_projection(task(id=""), TaskStatus.SCHEDULED, now=NOW)
    assert refused.value.field == "task.id"


@pytest.mark.spec("ENT-16")
def test_a_row_tells_when_the_task_was_made_and_when_it_changed() -> None:
    row = build_projection(task(created_at=to_datetime(NOW - 60)), TaskStatus.PROCESSING, now=NOW)
    assert row is not None
    assert (row.created_at, row.updated_at) == (NOW - 60, NOW)
    fresh = build_projection(task(), TaskStatus.SCHEDULED, now=NOW)
    assert fresh is not None
    assert (fresh.created_at, fresh.updated_at) == (NOW, NOW)


def test_a_row_names_task_and_entity() -> None:
    row = build_projection(task(), TaskStatus.SCHEDULED, now=NOW)
    assert row is not None
    assert row[:6] == ("t-1", "o-17", "Order", "render", "q", TaskStatus.SCHEDULED)
    assert row.payload is None


@pytest.mark.spec("ENT-04")
def test_a_success_is_executed_with_its_result() -> None:
    row = ending_projection(task(), Succeeded(b'{"pages":3}'), now=NOW)
    assert row is not None
    assert (row.status, row.result, row.error) == (TaskStatus.EXECUTED, b'{"pages":3}', None)


@pytest.mark.spec("ENT-05")
@pytest.mark.parametrize(
    ("error", "discarded", "told"),
    [
        ("disk full", False, "disk full"),
        ("disk full", True, "disk full"),
        ("", False, "Task failed"),
        ("", True, "Task exhausted all retries"),
    ],
)
def test_a_failure_tells_its_error_or_that_there_was_one(error: str, discarded: bool, told: str) -> None:  # noqa: FBT001 -- a table
    row = ending_projection(task(), Failed(error), now=NOW, discarded=discarded)
    assert row is not None
    assert (row.status, row.error, row.result) == (TaskStatus.FAILED, told, None)


@pytest.mark.spec("D-55", "D-35")
@pytest.mark.parametrize(
    ("status", "shown"),
    [
        (TaskStatus.FAILED, TaskStatus.FAILED),
        (TaskStatus.EXPIRED, TaskStatus.FAILED),
        (TaskStatus.IGNORED, TaskStatus.FAILED),
        (TaskStatus.CANCELLED, TaskStatus.CANCELLED),
    ],
)
def test_every_way_to_end_has_a_last_row(status: TaskStatus, shown: TaskStatus) -> None:
    row = ending_projection(task(), Failed("why", status=status), now=NOW)
    assert row is not None
    assert row.status is shown


def test_waiting_for_a_flow_is_no_ending() -> None:
    assert ending_projection(task(), Deferred("f"), now=NOW) is None


@pytest.mark.spec("INV-07", "ENT-07")
def test_versions_rise_with_making_then_generation_then_rank_and_endings_share_one() -> None:
    versions = [
        projection_version(made, generation, status)
        for made in (NOW, NOW + 0.001)
        for generation in (0, 1, 511)
        for status in (TaskStatus.SCHEDULED, TaskStatus.PROCESSING, TaskStatus.EXECUTED)
        if (generation, status) != (0, TaskStatus.SCHEDULED)
    ]
    assert projection_version(NOW, 0, TaskStatus.SCHEDULED) == 0, "it may be an id that is added again"
    assert versions == sorted(set(versions))
    assert all(version == int(float(version)) for version in versions)
    endings = {projection_version(NOW, 0, status) for status in TaskStatus if status.terminal}
    assert len(endings) == 1
