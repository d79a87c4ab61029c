"""Opening a closed flow once more."""

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.flow.doubles import NOW, request_of
from tests.unit.flow.test_plan import ITEM, parent, task_in, waiting
from tq.codec import loads
from tq.errors import FlowStateError
from tq.flow import FlowMiddleware, flow_version, plan_flow, plan_redrive, reopened_row
from tq.ids import join_id
from tq.model import Ended, Failed, FlowState, Succeeded, TaskStatus, Verdict


def closed(**fields: Any) -> FlowState:
    """Return a flow that aborted at its second step, whose join is on its way."""
    task = parent(metadata={"log_context": {"tenant": "a"}})
    request = request_of(3, policy="abort", timeout=50.0, entity=ITEM, log_context={"tenant": "a"})
    (flow,) = plan_flow(request, now=NOW, origin=task, parent=waiting(task)).flows
    settings: dict[str, Any] = {
        "remaining": 1,
        "succeeded": 1,
        "failed": 1,
        "verdict": Verdict.ABORTED,
        "confirmed": True,
    }
    return FlowState(flow=flow, **(settings | fields))


def test_a_redrive_opens_the_next_generation_with_a_join_of_its_own() -> None:
    reopen = plan_redrive(closed(), NOW + 100)
    assert (reopen.flow_id, reopen.generation, reopen.at, reopen.deadline) == ("f", 1, NOW + 100, None)
    assert reopen.join.id == join_id("f", 1)
    assert reopen.join.run_at == NOW + 100
    join = task_in(reopen.join)
    assert join.id == join_id("f", 1)
    assert join.payload == {"flow_id": "f"}
    assert join.log_context == {"tenant": "a"}
    assert join.flow_meta is not None
    assert join.flow_meta["generation"] == 1
    assert "deadline" not in join.flow_meta, "that of the first generation has passed"
    timed = task_in(plan_redrive(closed(), NOW, 30.0).join)
    assert timed.flow_meta is not None
    assert timed.flow_meta["deadline"] == NOW + 30


def test_members_are_told_the_generation_in_which_they_count_and_its_deadline() -> None:
    assert loads(plan_redrive(closed(), NOW).stats) == {"flow_generation": 1}
    reopen = plan_redrive(closed(), NOW, 30.0)
    assert reopen.deadline == NOW + 30
    assert loads(reopen.stats) == {"flow_generation": 1, "flow_deadline": NOW + 30}


def test_the_new_join_knows_of_the_task_that_waited_in_case_it_waits_still() -> None:
    """Where the first verdict has ended it, it is held by nobody, and is not touched again."""
    join = task_in(plan_redrive(closed(), NOW).join)
    effects = FlowMiddleware(None).follow(Ended(task=join, outcome=Succeeded(b"1"), final=True, now=NOW))
    assert [(it.task_id, it.flow_id) for it in effects.resolves] == [("p-1", "f")]
    assert effects.confirms == (("f", 1),)


@pytest.mark.spec("D-50")
def test_the_flow_s_row_moves_on_in_the_next_generation_and_ends_there() -> None:
    state = closed()
    (row,) = reopened_row(state, NOW + 100)
    assert (row.task_id, row.status, row.created_at, row.updated_at) == ("f", TaskStatus.PROCESSING, NOW, NOW + 100)
    assert row.version == flow_version(NOW, 1, 0, TaskStatus.PROCESSING)
    assert row.version > flow_version(NOW, 0, 5, TaskStatus.FAILED), "however often its join was run again before"
    join = task_in(plan_redrive(state, NOW + 100).join)
    task = replace(join, payload={"flow_results": {"verdict": "completed"}})
    effects = FlowMiddleware(None).follow(Ended(task=task, outcome=Succeeded(b"1"), final=True, now=NOW + 200))
    (last,) = effects.projections
    assert (last.status, last.created_at) == (TaskStatus.EXECUTED, NOW)
    assert last.version == flow_version(NOW, 1, 0, TaskStatus.EXECUTED)


def test_what_a_join_comes_to_when_it_is_run_again_is_newer_whatever_comes_first() -> None:
    join = task_in(plan_redrive(closed(), NOW).join)
    versions: list[int] = []
    for generation in range(4):
        task = replace(join, generation=generation)
        (row,) = FlowMiddleware(None).follow(Ended(task=task, outcome=Failed("no"), final=True, now=NOW)).projections
        versions.append(row.version)
    assert versions == sorted(set(versions))
    assert flow_version(NOW, 1, 10**6, TaskStatus.FAILED) < flow_version(NOW, 2, 0, TaskStatus.PROCESSING)


def test_a_flow_without_an_entity_has_no_row_to_move() -> None:
    (flow,) = plan_flow(request_of(), now=NOW, origin=None, parent=None).flows
    assert reopened_row(FlowState(flow=flow, remaining=0), NOW) == ()


def test_a_second_redrive_goes_on_from_the_first() -> None:
    state = closed()
    first = plan_redrive(state, NOW)
    reopened = replace(state, flow=replace(state.flow, generation=1, join=first.join))
    second = plan_redrive(reopened, NOW)
    assert second.generation == 2
    assert second.join.id == join_id("f", 2)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"verdict": None, "confirmed": False}, "is open"),
        ({"confirmed": False}, "about to be sent"),
        ({"succeeded": 3, "failed": 0, "remaining": 0, "verdict": Verdict.COMPLETED}, "nothing is left"),
    ],
)
def test_what_cannot_be_redriven_says_why(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(FlowStateError, match=why) as refused:
        plan_redrive(closed(**fields), NOW)
    assert refused.value.flow_id == "f"
