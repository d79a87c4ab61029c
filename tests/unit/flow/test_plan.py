"""What is written when a flow starts."""

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.flow.doubles import NOW, request_of
from tq.codec import decode_body, loads, message_of, task_of
from tq.flow import WIDTH, about, plan_flow, split_wide
from tq.flow.membership import member_width
from tq.ids import join_id, step_id
from tq.model import Deferred, Ended, Entity, FlowState, Member, Message, Task, TaskStatus
from tq.model.plan import PART, digest_of

ITEM = Entity("Item", "item-123")


def task_in(message: Message) -> Task[Any]:
    """Return the task that a message carries, its payload decoded."""
    body = decode_body(message.body)
    return task_of(body, payload=loads(body["payload"]))


def parent(**fields: Any) -> Task[Any]:
    given: dict[str, Any] = {"type": "item.process", "queue_id": "default", "id": "p-1", **fields}
    return Task(**given)


def waiting(task: Task[Any], flow_id: str = "f") -> Ended:
    return Ended(task=task, outcome=Deferred(flow_id), final=False, now=NOW)


@pytest.mark.spec("FLOW-01", "MOD-04")
def test_steps_know_their_flow_their_place_and_their_number() -> None:
    effects = plan_flow(request_of(3, policy="abort"), now=NOW, origin=None, parent=None)
    tasks = [task_in(message) for message in effects.messages]
    assert [task.id for task in tasks] == [step_id("f", index) for index in range(3)]
    assert [task.payload for task in tasks] == [{"n": 0}, {"n": 1}, {"n": 2}], "the payload is untouched"
    for index, task in enumerate(tasks):
        assert task.flow_meta == {
            "flow_id": "f",
            "step_index": index,
            "total_steps": 3,
            "join": {"type": "publish", "queue": "default"},
            "failure_policy": "abort",
        }


@pytest.mark.spec("FLOW-04")
def test_steps_are_due_at_once_and_made_now() -> None:
    (message, *_) = plan_flow(request_of(), now=NOW, origin=None, parent=None).messages
    assert (message.run_at, message.queue, message.type) == (NOW, "media", "resize")
    created_at = task_in(message).created_at
    assert created_at is not None
    assert created_at.timestamp() == NOW


def test_a_step_keeps_its_own_options() -> None:
    member = Member("resize", "media", b"1", None, 4, 7.5, "key")
    (message,) = plan_flow(request_of(members=[member]), now=NOW, origin=None, parent=None).messages
    task = task_in(message)
    assert (task.retries, task.retry_after, task.partition_key) == (4, 7.5, "key")


@pytest.mark.spec("FLOW-06", "FLOW-07")
def test_the_flow_s_entity_is_known_to_its_steps_beside_their_own() -> None:
    own = Entity("Image", "img-1")
    members = [Member("resize", "media", b"1"), Member("resize", "media", b"2", own)]
    effects = plan_flow(request_of(members=members, entity=ITEM), now=NOW, origin=None, parent=None)
    first, second = (task_in(message) for message in effects.messages)
    assert first.flow_meta is not None
    assert first.flow_meta["entity"] == {"type": "Item", "id": "item-123"}
    assert (first.entity, second.entity) == (None, own)


@pytest.mark.spec("FLOW-07", "ENT-01")
def test_a_step_with_an_entity_has_a_scheduled_row() -> None:
    members = [Member("resize", "media", b'{"entity":["x"]}'), Member("resize", "media", b"2", Entity("Image", "i"))]
    (row,) = plan_flow(request_of(members=members), now=NOW, origin=None, parent=None).projections
    assert (row.task_id, row.entity_id, row.status) == (step_id("f", 1), "i", TaskStatus.SCHEDULED)


@pytest.mark.spec("FLOW-08", "LOG-08", "D-51")
def test_steps_and_join_inherit_the_log_context() -> None:
    origin = parent(metadata={"log_context": {"tenant": "a"}})
    effects = plan_flow(request_of(log_context={"tenant": "b"}), now=NOW, origin=origin, parent=None)
    for message in (*effects.messages, effects.flows[0].join):
        assert task_in(message).log_context == {"tenant": "b"}
    bare = plan_flow(request_of(), now=NOW, origin=origin, parent=None)
    assert task_in(bare.messages[0]).log_context == {}, "what is inherited, the request says"


@pytest.mark.spec("FLOW-09")
def test_a_flow_with_an_entity_has_a_row_of_its_own() -> None:
    (row,) = plan_flow(request_of(entity=ITEM), now=NOW, origin=None, parent=None).projections
    assert row[:5] == ("f", "item-123", "Item", "publish", "default")
    assert (row.status, row.version) == (TaskStatus.PROCESSING, 1)
    assert (row.created_at, row.updated_at) == (NOW, NOW)


def test_a_flow_without_an_entity_has_none() -> None:
    assert plan_flow(request_of(), now=NOW, origin=None, parent=None).projections == ()


@pytest.mark.spec("FLOW-17", "D-51")
def test_the_join_is_held_knows_its_flow_and_has_no_entity() -> None:
    (flow,) = plan_flow(request_of(entity=ITEM), now=NOW, origin=None, parent=None).flows
    task = task_in(flow.join)
    assert flow.join.id == task.id == join_id("f", 0)
    assert (flow.join.type, flow.join.queue) == ("publish", "default")
    assert task.payload == {"flow_id": "f"}
    assert task.entity is None
    assert task.flow_meta is not None
    assert task.flow_meta["is_join"] is True
    assert task.flow_meta["step_index"] == -1


@pytest.mark.spec("D-48", "FLOW-22")
def test_the_barrier_is_made_with_the_steps_and_holds_policy_and_deadline() -> None:
    request = request_of(4, policy="abort", cancel_siblings=True, timeout=300.0)
    (flow,) = plan_flow(request, now=NOW, origin=None, parent=None).flows
    assert (flow.id, flow.total, flow.allowed, flow.needed) == ("f", 4, 0, 4)
    assert flow.cancel_siblings
    assert (flow.started_at, flow.deadline, flow.generation) == (NOW, NOW + 300, 0)
    assert (flow.chunks, flow.plan, flow.parent) == (0, "", "")


@pytest.mark.spec("D-46", "D-45")
def test_a_flow_without_timeout_has_no_deadline_and_no_task_stands_for_one() -> None:
    effects = plan_flow(request_of(2), now=NOW, origin=None, parent=None)
    assert effects.flows[0].deadline is None
    timed = plan_flow(request_of(2, timeout=1.0), now=NOW, origin=None, parent=None)
    assert len(timed.messages) == 2


@pytest.mark.spec("FLC-01", "FLC-05")
def test_what_events_tell_is_kept_with_the_flow() -> None:
    members = [Member(type, "media", b"1") for type in ("b", "a", "b")]
    request = request_of(members=members, entity=ITEM, quorum=2)
    told = about(plan_flow(request, now=NOW, origin=None, parent=None).flows[0])
    assert told.step_types == ("b", "a", "b"), "in order, duplicates kept"
    assert dict(told.type_counts) == {"b": 2, "a": 1}
    assert (told.policy, told.join, told.entity) == ("quorum=2", request.join, ITEM)
    assert (told.worker_id, told.consumer_id) == ("w1", "c1")


@pytest.mark.spec("D-52")
def test_the_same_request_gives_the_same_ids() -> None:
    first, again = (plan_flow(request_of(), now=now, origin=parent(), parent=None) for now in (NOW, NOW + 60))
    assert [message.id for message in first.messages] == [message.id for message in again.messages]
    assert first.flows[0].join.id == again.flows[0].join.id


def test_an_empty_flow_has_a_barrier_and_a_join() -> None:
    effects = plan_flow(request_of(0), now=NOW, origin=None, parent=None)
    assert not effects.messages
    assert not effects.chunks
    assert effects.flows[0].total == 0


# --- the task that waits for the flow ---------------------------------------------------------------------------------


def test_the_flow_names_the_task_that_waits_for_it() -> None:
    task = parent()
    (flow,) = plan_flow(request_of(), now=NOW, origin=task, parent=waiting(task)).flows
    assert flow.parent == "p-1"
    meta = task_in(flow.join).flow_meta
    assert meta is not None
    assert meta["parent"]["id"] == "p-1"


@pytest.mark.parametrize(
    ("timeout", "outer", "deadline"),
    [(None, 50.0, 50.0), (10.0, 50.0, 10.0), (100.0, 50.0, 50.0), (100.0, None, 100.0)],
)
def test_a_flow_ends_by_the_deadline_of_the_flow_that_waits_for_it(
    timeout: float | None, outer: float | None, deadline: float
) -> None:
    meta = {"flow_id": "outer", "step_index": 1, "total_steps": 2, "deadline": None if outer is None else NOW + outer}
    task = parent(metadata={"flow_meta": meta})
    (flow,) = plan_flow(request_of(timeout=timeout), now=NOW, origin=task, parent=waiting(task)).flows
    assert flow.deadline == NOW + deadline
    (loose,) = plan_flow(request_of(timeout=timeout), now=NOW, origin=task, parent=None).flows
    assert loose.deadline == (None if timeout is None else NOW + timeout), "only a flow that is waited for is bound"


def test_a_flow_that_a_join_waits_for_is_not_bound_by_the_flow_that_is_over() -> None:
    meta = {"flow_id": "outer", "step_index": -1, "total_steps": 2, "is_join": True, "deadline": NOW - 1}
    task = parent(metadata={"flow_meta": meta})
    (flow,) = plan_flow(request_of(), now=NOW, origin=task, parent=waiting(task)).flows
    assert flow.deadline is None


def test_a_redriven_step_is_bound_by_the_deadline_of_its_present_generation() -> None:
    meta = {"flow_id": "outer", "step_index": 1, "total_steps": 2, "deadline": NOW - 1000}
    task = parent(metadata={"flow_meta": meta}, execution_stats={"flow_generation": 1})
    (flow,) = plan_flow(request_of(), now=NOW, origin=task, parent=waiting(task)).flows
    assert flow.deadline is None
    later = parent(metadata={"flow_meta": meta}, execution_stats={"flow_generation": 2, "flow_deadline": NOW + 5})
    (bound,) = plan_flow(request_of(), now=NOW, origin=later, parent=waiting(later)).flows
    assert bound.deadline == NOW + 5


# --- wide plans -------------------------------------------------------------------------------------------------------


def test_as_many_members_as_one_commit_holds_are_written_with_the_flow() -> None:
    effects = plan_flow(request_of(WIDTH), now=NOW, origin=None, parent=None)
    assert len(effects.messages) == WIDTH
    assert effects.chunks == ()
    assert effects.flows[0].chunks == 0


@pytest.mark.parametrize("total", [WIDTH + 1, 1000, 1234])
def test_a_wider_plan_goes_into_chunks_in_which_every_member_stands_once(total: int) -> None:
    effects = plan_flow(request_of(total), now=NOW, origin=parent(attempt=1, fence=4), parent=None)
    (flow,) = effects.flows
    assert effects.messages == ()
    assert [chunk.number for chunk in effects.chunks] == list(range(flow.chunks))
    assert {chunk.plan for chunk in effects.chunks} == {flow.plan}
    assert max(len(chunk.messages) for chunk in effects.chunks) <= WIDTH
    ids = [message.id for chunk in effects.chunks for message in chunk.messages]
    assert ids == [step_id("f", index) for index in range(total)]
    for index in range(0, total, 77):
        chunk = effects.chunks[index // member_width(flow)]
        assert step_id("f", index) in {message.id for message in chunk.messages}, "a member is found by arithmetic"


def test_the_messages_of_a_wide_plan_are_made_when_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """All at once they would be seconds in which nothing else moves, and memory that nobody has asked for."""
    made: list[str] = []

    def noting(task: Task[Any], *args: Any, **said: Any) -> Message:
        made.append(task.id)
        return message_of(task, *args, **said)

    monkeypatch.setattr("tq.flow.plan.message_of", noting)
    effects = plan_flow(request_of(10_000), now=NOW, origin=None, parent=None)
    assert len(made) <= 2, "the join, and one member to see how large they are"
    made.clear()
    chunk = effects.chunks[7].whole()
    assert made == [message.id for message in chunk.messages] == [step_id("f", index) for index in range(3500, 4000)]
    assert [message.id for message in effects.chunks[7].messages[1:3]] == made[1:3]


def test_the_digest_of_a_plan_is_the_same_however_it_was_taken() -> None:
    request = request_of(1_234)
    parts = tuple([digest_of(request.members[start : start + PART]) for start in range(0, 1_234, PART)])
    assert replace(request, parts=parts).digest == request.digest
    others = [
        request_of(1_235),
        replace(request, members=(*request.members[:-1], request.members[-1]._replace(payload=b'{"n":0}'))),
        replace(request, members=(*request.members[:-1], request.members[-1]._replace(queue="other"))),
        replace(request, timeout=1.0),
    ]
    assert request.digest not in {other.digest for other in others}
    assert len({other.digest for other in others}) == len(others)


def test_large_members_make_small_chunks() -> None:
    payload = b'"%b"' % (b"x" * 200_000)
    members = [Member("resize", "media", payload) for _ in range(60)]
    effects = plan_flow(request_of(members=members), now=NOW, origin=None, parent=None)
    sizes = [sum(len(message.body) for message in chunk.messages) for chunk in effects.chunks]
    assert max(sizes) <= 1.1 * (1 << 20)
    assert effects.flows[0].chunks == len(sizes) == 12


@pytest.mark.spec("D-52")
def test_plans_of_different_hand_outs_never_share_a_key() -> None:
    """A redelivered executor may plan differently: chunks of two plans must not be taken for one."""
    plans = {
        plan_flow(request_of(501), now=NOW, origin=parent(attempt=attempt, fence=fence), parent=None).flows[0].plan
        for attempt, fence in ((0, 1), (0, 2), (1, 3))
    }
    assert len(plans) == 3


def test_a_wide_plan_is_parted_from_its_seal() -> None:
    effects = plan_flow(request_of(1100, entity=ITEM), now=NOW, origin=None, parent=None)
    preparatory, seal = split_wide(effects)
    assert [len(part.chunks) for part in preparatory] == [1, 1, 1]
    assert all(not part.flows and not part.projections for part in preparatory), "nothing counts before the seal"
    assert seal.chunks == ()
    assert seal.flows == effects.flows
    assert seal.projections == effects.projections


def test_a_huge_flow_tells_of_its_types_in_short() -> None:
    members = [Member("a" if number % 2 else "b", "media", b"1") for number in range(2000)]
    (flow,) = plan_flow(request_of(members=members), now=NOW, origin=None, parent=None).flows
    told = about(flow)
    assert told.step_types == ()
    assert dict(told.type_counts) == {"b": 1000, "a": 1000}
    assert len(flow.meta) < 500
    assert FlowState(flow=flow, remaining=2000).answer == 2000
