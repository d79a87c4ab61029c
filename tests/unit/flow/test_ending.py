"""How endings count, and what hangs on the end of a join."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from tests.unit.flow.doubles import NOW, request_of
from tests.unit.flow.test_plan import ITEM, task_in
from tq.codec import decode_body, dumps, loads, message_of
from tq.flow import FlowMiddleware, plan_flow
from tq.ids import join_id
from tq.model import (
    NO_EFFECTS,
    Deferred,
    Effects,
    Ended,
    Entity,
    Failed,
    Keep,
    Mark,
    Outcome,
    Projection,
    Released,
    Rescheduled,
    StepStatus,
    Succeeded,
    Task,
    TaskStatus,
    Verdict,
)

ORDER = Entity("Order", "o-1")
MIDDLEWARE = FlowMiddleware(None)


def step(index: int = 1, **fields: Any) -> Task[Any]:
    meta = {"flow_id": "f", "step_index": index, "total_steps": 3}
    given: dict[str, Any] = {"id": f"f.{index}", "metadata": {"flow_meta": meta}, **fields}
    return Task(type="resize", queue_id="media", **given)


def follow(task: Task[Any], outcome: Outcome, *, final: bool = True, **fields: Any) -> Effects:
    return MIDDLEWARE.follow(Ended(task=task, outcome=outcome, final=final, now=NOW, **fields))


def joined(
    verdict: Verdict | None = Verdict.COMPLETED,
    *,
    entity: Entity | None = ITEM,
    parent: Ended | None = None,
    flow_id: str = "f",
    total: int = 3,
) -> Task[Any]:
    """Return a join as a worker ended it: with what was attached to it."""
    origin = parent.task if parent is not None else None
    request = request_of(total, id=flow_id, entity=entity)
    (flow,) = plan_flow(request, now=NOW - 100, origin=origin, parent=parent).flows
    task = task_in(flow.join)
    if verdict is None:
        return task
    return replace(task, payload={"flow_results": {"flow_id": flow_id, "verdict": verdict.value, "steps": []}})


def row_of(effects: Effects) -> Projection:
    (row,) = effects.projections
    return row


# --- steps ------------------------------------------------------------------------------------------------------------


@pytest.mark.spec("FLOW-11")
def test_a_task_without_a_flow_brings_nothing() -> None:
    assert follow(Task[Any](type="t", id="t-1"), Succeeded(b"1")) is NO_EFFECTS


@pytest.mark.spec("FLOW-11")
@pytest.mark.parametrize(
    "meta",
    [
        "text",
        {},
        {"flow_id": "f"},
        {"flow_id": "", "step_index": 0},
        {"flow_id": "f", "step_index": "0"},
        {"flow_id": "f", "step_index": -1},
    ],
)
def test_what_a_user_wrote_in_the_place_of_flow_meta_brings_nothing(meta: object) -> None:
    assert follow(Task[Any](type="t", id="t-1", metadata={"flow_meta": meta}), Succeeded(b"1")) is NO_EFFECTS


@pytest.mark.spec("FLOW-11", "FLOW-18")
def test_a_success_is_marked_with_its_result() -> None:
    assert follow(step(), Succeeded(b'{"a":1}')).marks == (Mark("f", 1, StepStatus.SUCCESS, 0, b'{"a":1}'),)
    assert follow(step(), Succeeded()).marks == (Mark("f", 1, StepStatus.SUCCESS),)


@pytest.mark.spec("FLOW-11", "FLOW-15", "FLOW-18")
@pytest.mark.parametrize(("error", "told"), [("boom", "boom"), ("", "Step failed")])
def test_a_final_failure_is_marked_with_its_error(error: str, told: str) -> None:
    assert follow(step(), Failed(error)).marks == (Mark("f", 1, StepStatus.FAIL, 0, None, told),)


@pytest.mark.spec("RET-10", "FLOW-22")
def test_a_failure_that_is_retried_is_not_marked() -> None:
    assert follow(step(), Failed("boom"), final=False) is NO_EFFECTS


@pytest.mark.parametrize("outcome", [Rescheduled(1.0), Released(), Deferred("g")])
def test_what_is_no_ending_is_not_marked(outcome: Outcome) -> None:
    for final in (False, True):
        assert follow(step(), outcome, final=final) is NO_EFFECTS


@pytest.mark.spec("D-47", "D-35")
@pytest.mark.parametrize(
    ("status", "marked"),
    [
        (TaskStatus.FAILED, StepStatus.FAIL),
        (TaskStatus.EXPIRED, StepStatus.FAIL),
        (TaskStatus.IGNORED, StepStatus.FAIL),
        (TaskStatus.CANCELLED, StepStatus.CANCELLED),
    ],
)
def test_every_way_to_end_counts(status: TaskStatus, marked: StepStatus) -> None:
    (mark,) = follow(step(), Failed("why", final=True, status=status)).marks
    assert mark.status is marked


@pytest.mark.spec("FLOW-12")
def test_marks_of_several_flows_stay_apart() -> None:
    other = step(metadata={"flow_meta": {"flow_id": "g", "step_index": 0, "total_steps": 1}})
    both = follow(step(), Succeeded()) + follow(other, Succeeded())
    assert [(mark.flow_id, mark.index) for mark in both.marks] == [("f", 1), ("g", 0)]


def test_a_redriven_step_is_marked_in_its_generation() -> None:
    (mark,) = follow(step(execution_stats={"flow_generation": 2}), Succeeded()).marks
    assert mark.generation == 2


# --- flows that an ending starts --------------------------------------------------------------------------------------


@pytest.mark.spec("FLOW-10", "FLOW-29")
def test_flows_that_were_asked_for_come_with_the_ending() -> None:
    task = Task[Any](type="t", id="t-1")
    effects = follow(task, Succeeded(), flows=(request_of(2, id="f"), request_of(1, id="g")))
    assert [flow.id for flow in effects.flows] == ["f", "g"]
    assert len(effects.messages) == 3


@pytest.mark.spec("RET-17")
def test_flows_start_also_with_a_failure_that_is_retried() -> None:
    """What was called before the outcome stands (design 3)."""
    effects = follow(Task[Any](type="t", id="t-1"), Failed("boom"), final=False, flows=(request_of(2),))
    assert len(effects.messages) == 2


def test_the_flow_that_a_task_ends_with_knows_it_and_the_others_do_not() -> None:
    flows = (request_of(1, id="f"), request_of(1, id="g"))
    effects = follow(Task[Any](type="t", id="t-1"), Deferred("g"), final=False, flows=flows)
    assert [flow.parent for flow in effects.flows] == ["", "t-1"]


@pytest.mark.spec("FLOW-20")
def test_a_join_may_start_another_flow() -> None:
    effects = follow(joined(), Succeeded(), flows=(request_of(1, id="g"),))
    assert [flow.id for flow in effects.flows] == ["g"]
    assert effects.confirms == (("f", 0),)


# --- joins ------------------------------------------------------------------------------------------------------------


@pytest.mark.spec("FLOW-11", "FLOW-26")
def test_the_flow_s_row_is_what_its_join_came_to() -> None:
    done = row_of(follow(joined(), Succeeded(b'"ok"')))
    assert (done.task_id, done.task_type, done.queue_id) == ("f", "publish", "default")
    assert (done.status, done.result, done.error) == (TaskStatus.EXECUTED, b'"ok"', None)
    assert (done.created_at, done.updated_at) == (NOW - 100, NOW)
    failed = row_of(follow(joined(), Failed("boom")))
    assert (failed.status, failed.error) == (TaskStatus.FAILED, "boom")
    assert row_of(follow(joined(), Failed(""))).error == "Join task failed"


@pytest.mark.spec("FLOW-27", "D-50")
@pytest.mark.parametrize(
    ("verdict", "status", "error"),
    [
        (Verdict.ABORTED, TaskStatus.FAILED, "flow_aborted"),
        (Verdict.TIMED_OUT, TaskStatus.FAILED, "flow_timeout"),
        (Verdict.CANCELLED, TaskStatus.CANCELLED, "flow_cancelled"),
    ],
)
@pytest.mark.parametrize("outcome", [Succeeded(b"1"), Failed("boom")])
def test_a_flow_that_did_not_complete_stays_so_whatever_its_join_does(
    verdict: Verdict, status: TaskStatus, error: str, outcome: Outcome
) -> None:
    row = row_of(follow(joined(verdict), outcome))
    assert (row.status, row.error, row.result) == (status, error, None)


@pytest.mark.spec("FLOW-26")
def test_a_join_that_failed_before_anything_was_attached_fails_its_flow() -> None:
    row = row_of(follow(joined(None), Failed("no worker knew it", status=TaskStatus.IGNORED)))
    assert (row.status, row.error) == (TaskStatus.FAILED, "no worker knew it")


def test_attached_results_are_read_in_whatever_form_they_come() -> None:
    task = joined(Verdict.ABORTED)
    assert row_of(follow(replace(task, payload=dumps(task.payload)), Succeeded())).error == "flow_aborted"


@pytest.mark.spec("D-51")
def test_a_join_brings_no_row_where_its_flow_has_no_entity() -> None:
    assert follow(joined(entity=None), Succeeded()).projections == ()


@pytest.mark.spec("D-40")
def test_a_join_that_ended_needs_no_dispatching_any_more() -> None:
    assert follow(joined(), Succeeded()).confirms == (("f", 0),)
    assert follow(joined(), Failed("boom")).confirms == (("f", 0),)
    assert follow(joined(), Failed("boom"), final=False) is NO_EFFECTS


# --- the task that waits ----------------------------------------------------------------------------------------------


def waiting(keep: Keep | None = None, stats: dict[str, Any] | None = None, **fields: Any) -> Ended:
    """Return the ending of a task that waits for flow "f"."""
    given: dict[str, Any] = {"type": "item.process", "queue_id": "orders", "id": "p-1", "entity": ORDER, **fields}
    task = Task[Any](attempt=1, fence=3, execution_stats=stats or {}, **given)
    body = message_of(task, b'{"item":1}', NOW).body
    return Ended(task=task, outcome=Deferred("f"), final=False, now=NOW, keep=keep or Keep(), body=body)


def test_a_task_that_nobody_waits_for_resolves_nobody() -> None:
    assert follow(joined(), Succeeded()).resolves == ()


def test_the_task_that_waits_succeeds_with_the_join_s_result() -> None:
    (resolve,) = follow(joined(parent=waiting(Keep(result_ttl=60.0))), Succeeded(b"7")).resolves
    assert (resolve.task_id, resolve.flow_id) == ("p-1", "f")
    (record,) = resolve.effects.records
    assert (record.task_id, record.queue, record.type) == ("p-1", "orders", "item.process")
    assert (record.status, record.result, record.expires_at) == (TaskStatus.EXECUTED, b"7", NOW + 60)
    assert (record.attempt, record.fence) == (1, 3)
    row = row_of(resolve.effects)
    assert (row.task_id, row.entity_id, row.status, row.result) == ("p-1", "o-1", TaskStatus.EXECUTED, b"7")


def test_the_task_that_waits_fails_with_the_join_s_error_and_keeps_its_body() -> None:
    ended = waiting(stats={"retry_count": 1})
    (resolve,) = follow(joined(parent=ended), Failed("boom")).resolves
    (record,) = resolve.effects.records
    assert (record.status, record.error, record.dead) == (TaskStatus.FAILED, "boom", True)
    assert record.body == ended.body, "a dead letter can be replayed"
    assert loads(record.stats) == {"retry_count": 1, "last_error": "boom"}
    assert row_of(resolve.effects).error == "boom"


@pytest.mark.parametrize("verdict", [Verdict.ABORTED, Verdict.TIMED_OUT])
def test_the_join_has_the_last_word_on_the_task_that_waits(verdict: Verdict) -> None:
    """It may have put right what was missing: then the task has succeeded, though its flow has not."""
    (resolve,) = follow(joined(verdict, parent=waiting(Keep(on_success=True))), Succeeded(b"1")).resolves
    assert resolve.effects.records[0].status is TaskStatus.EXECUTED


@pytest.mark.parametrize("outcome", [Succeeded(b'"partial"'), Failed("no disk")])
def test_a_task_whose_flow_was_cancelled_is_cancelled_whatever_the_join_makes_of_it(outcome: Outcome) -> None:
    """It was not done: as an executed one nobody would ever run it again."""
    meta = {"flow_id": "outer", "step_index": 4, "total_steps": 9}
    ended = waiting(Keep(on_success=True), id="outer.4", metadata={"flow_meta": meta})
    (resolve,) = follow(joined(Verdict.CANCELLED, parent=ended), outcome).resolves
    (record,) = resolve.effects.records
    assert (record.status, record.result, record.dead) == (TaskStatus.CANCELLED, None, False)
    assert record.body == ended.body, "a redrive runs it again"
    assert row_of(resolve.effects).status is TaskStatus.CANCELLED
    assert resolve.effects.marks == (Mark("outer", 4, StepStatus.CANCELLED, 0, None, "cancelled"),)


def test_what_the_task_that_waits_does_not_want_kept_is_not_kept() -> None:
    keep = Keep(on_failure=False)
    (resolve,) = follow(joined(parent=waiting(keep, entity=None)), Failed("boom")).resolves
    assert resolve.effects == NO_EFFECTS
    step = {"flow_meta": {"flow_id": "outer", "step_index": 0, "total_steps": 1}}
    (resolve,) = follow(joined(parent=waiting(keep, metadata=step)), Failed("boom")).resolves
    assert resolve.effects.records[0].body, "but for a step, which a redrive may need"


def test_a_step_that_waited_counts_in_its_own_flow() -> None:
    meta = {"flow_id": "outer", "step_index": 4, "total_steps": 9}
    ended = waiting(id="outer.4", metadata={"flow_meta": meta}, stats={"flow_generation": 1})
    for outcome, mark in (
        (Succeeded(b"7"), Mark("outer", 4, StepStatus.SUCCESS, 1, b"7")),
        (Failed("boom"), Mark("outer", 4, StepStatus.FAIL, 1, None, "boom")),
    ):
        effects = follow(joined(parent=ended), outcome)
        assert effects.marks == (), "only if it is still held"
        assert effects.resolves[0].effects.marks == (mark,)


def test_a_join_that_waited_ends_its_flow_and_the_task_behind_it() -> None:
    """Task p-1 waits for flow f, whose join waits for flow g: the end of g's join ends all of them."""
    join_f = joined(Verdict.COMPLETED, parent=waiting(Keep(on_success=True)))
    body = message_of(join_f, b"null", NOW).body
    deferred = Ended(task=join_f, outcome=Deferred("g"), final=False, now=NOW, keep=Keep(on_success=True), body=body)
    join_g = joined(flow_id="g", entity=None, parent=deferred)

    (outer,) = follow(join_g, Succeeded(b"7")).resolves
    assert (outer.task_id, outer.flow_id) == (join_id("f", 0), "g")
    row = row_of(outer.effects)
    assert (row.task_id, row.status, row.result) == ("f", TaskStatus.EXECUTED, b"7")
    assert outer.effects.confirms == (("f", 0),)
    (inner,) = outer.effects.resolves
    assert (inner.task_id, inner.flow_id) == ("p-1", "f")
    assert inner.effects.records[0].result == b"7"


def test_a_join_that_waited_remembers_the_verdict_of_its_flow() -> None:
    join_f = joined(Verdict.ABORTED)
    deferred = Ended(task=join_f, outcome=Deferred("g"), final=False, now=NOW)
    (outer,) = follow(joined(flow_id="g", entity=None, parent=deferred), Succeeded(b"7")).resolves
    assert row_of(outer.effects).error == "flow_aborted"


@pytest.mark.spec("F-10")
def test_flows_that_wait_for_one_another_grow_their_joins_evenly() -> None:
    """Each join tells of the task behind it: by a constant more than the last one, not by twice as much (F10)."""
    ended = waiting()
    sizes: list[int] = []
    for depth in range(8):
        task = joined(flow_id=f"f{depth}", entity=None, parent=replace(ended, outcome=Deferred(f"f{depth}")))
        body = message_of(task, b'{"flow_id":"f"}', NOW).body
        sizes.append(len(body))
        ended = Ended(task=task, outcome=Deferred("next"), final=False, now=NOW, body=body)
    growth = [after - before for before, after in pairwise(sizes[1:])]
    assert max(growth) - min(growth) < 64
    assert decode_body(ended.body)["metadata"]["flow_meta"]["parent"]["id"] == join_id("f6", 0)
