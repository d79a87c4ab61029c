"""The wire format: written and read back whole, refused when it is not ours."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tq import codec
from tq.errors import PayloadError, UnknownFormatError, WireError
from tq.ids import new_id
from tq.model import Delivery, Entity, Message, Projection, Task, TaskStatus

NOW = 1_900_000_000.0
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)

FULL = Task[object](
    type="render",
    queue_id="media",
    id="t-1",
    execute_at=NOON,
    expires_at=NOON + timedelta(hours=1),
    created_at=NOON - timedelta(hours=1),
    retries=0,
    retry_after=2.5,
    force_store=True,
    partition_key="k",
    task_group="g",
    task_hash="h",
    entity=Entity("Order", "o-1"),
    metadata={"log_context": {"tenant": "a"}},
    execution_stats={"retry_count": 1},
)


def read(message: Message, delivery: Delivery | None = None) -> Task[Any]:
    body = codec.decode_body(message.body)
    return codec.task_of(body, delivery, codec.loads(body["payload"]))


@pytest.mark.spec("MOD-01", "MOD-03")
def test_every_field_of_a_task_comes_back() -> None:
    task = read(codec.message_of(FULL, b"null", NOW))
    assert task == FULL


@pytest.mark.spec("MOD-04")
def test_the_payload_comes_back_as_it_was_dumped() -> None:
    payload = b'{"a": 1,  "b":[1.50, "\\u00e9"]}'
    message = codec.message_of(FULL, payload, NOW)
    assert codec.decode_body(message.body)["payload"] == payload


def test_a_retry_base_may_be_a_timedelta() -> None:
    task = read(codec.message_of(Task[object](type="t", retry_after=timedelta(seconds=3)), b"1", NOW))
    assert task.retry_after == 3.0


def test_a_small_task_has_a_small_body() -> None:
    body = codec.message_of(Task[object](type="t", id="t-1"), b"1", NOW).body
    assert len(body) < 70, "fields at their default are left out"


@pytest.mark.parametrize(("execute_at", "run_at"), [(None, NOW), (NOON, NOON.timestamp())])
def test_a_message_is_due_when_its_task_is(execute_at: datetime | None, run_at: float) -> None:
    message = codec.message_of(Task[object](type="t", queue_id="q", id="t-1", execute_at=execute_at), b"1", NOW)
    assert (message.id, message.queue, message.type, message.run_at) == ("t-1", "q", "t", run_at)


def test_a_delivery_gives_the_task_its_counters_and_stats() -> None:
    message = codec.message_of(FULL, b"1", NOW)._replace(generation=2, attempt=3, stats=b'{"retry_count":3}')
    task = read(message, Delivery(message, "w:1", 7))
    assert (task.generation, task.attempt, task.fence) == (2, 3, 7)
    assert task.execution_stats == {"retry_count": 3}
    assert codec.stats_of(message) == {"retry_count": 3}
    assert codec.stats_of(message._replace(stats=b"")) == {}


def test_metadata_may_be_given_in_the_task_s_place() -> None:
    message = codec.message_of(FULL, b"1", NOW, metadata={"flow_meta": {"flow_id": "f"}})
    assert read(message).metadata == {"flow_meta": {"flow_id": "f"}}


def test_a_body_may_be_amended_around_its_payload() -> None:
    payload = b'{"a":\n1}'
    body = codec.amend_body(codec.message_of(FULL, payload, NOW).body, id="t-2", metadata={})
    fields = codec.decode_body(body)
    assert (fields["id"], fields["metadata"], fields["type"], fields["payload"]) == ("t-2", {}, "render", payload)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text",
        b"[]\n1",
        b"1\n1",
        b'{"type":"t"}\n1',
        b'{"v":1,"queue":"q"}\n1',
        b'{"v":1,"type":"t"}\n1',
        b'{"v":1,"type":1,"queue":"q"}\n1',
        b'{"v":1,"type":"t","queue":"q"}',
        b"\xff\xfe\n1",
    ],
)
def test_bytes_that_are_no_task_of_ours_are_refused_with_the_bytes(data: bytes) -> None:
    with pytest.raises(WireError) as refused:
        codec.decode_body(data)
    assert refused.value.raw == data
    assert not isinstance(refused.value, UnknownFormatError)


@pytest.mark.parametrize("version", [0, 2, 99, "1", None])
def test_a_newer_format_is_told_apart_from_nonsense(version: object) -> None:
    data = codec.dumps({"v": version, "type": "t", "queue": "q"}) + b"\n1"
    with pytest.raises(UnknownFormatError) as refused:
        codec.decode_body(data)
    assert (refused.value.version, refused.value.raw) == (version, data)


def test_only_tasks_that_name_an_entity_are_found_among_messages() -> None:
    plain = codec.message_of(Task[object](type="t", id="a"), b'{"entity":["x","y"]}', NOW)
    named = codec.message_of(FULL, b"[1]", NOW)._replace(generation=3)
    ((task, payload),) = codec.entity_tasks([plain, named])
    assert (task.id, task.entity, task.generation, payload) == ("t-1", Entity("Order", "o-1"), 3, b"[1]")


def test_an_id_was_made_for_its_task_unless_the_producer_gave_it() -> None:
    made, ours = new_id(NOW), Task[object](type="t")
    assert codec.is_made(codec.message_of(ours, b"1", NOW, id=made))
    assert codec.is_made(codec.message_of(ours, b'{"given":true}', NOW, id=made)), "a payload may say what it likes"
    assert not codec.is_made(codec.message_of(ours, b"1", NOW, id=made, given=True))
    assert not codec.is_made(codec.message_of(ours, b"1", NOW, id="order-17"))
    assert not codec.is_made(codec.message_of(ours, b"1", NOW, id="f.3"))


def test_what_json_does_not_know_is_refused_with_the_value() -> None:
    value = object()
    with pytest.raises(PayloadError) as refused:
        codec.dumps({"a": value})
    assert refused.value.field == "value"
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(PayloadError):
        codec.dumps(deep)
    while deep:  # taken apart by hand: the interpreter would recurse as deep
        (deep,) = deep


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(WireError):
        codec.loads(b"{")


ROWS = st.builds(
    Projection,
    task_id=st.text(),
    entity_id=st.text(),
    entity_type=st.text(),
    task_type=st.text(),
    queue_id=st.text(),
    status=st.sampled_from(TaskStatus),
    version=st.integers(0, 1000),
    created_at=st.floats(0, 1e10),
    updated_at=st.floats(0, 1e10),
    payload=st.none() | st.just(b'{"a":"\xc3\xa9"}'),
    result=st.none() | st.just(b"null"),
    error=st.none() | st.text(),
)


@given(ROWS)
def test_a_row_comes_back_from_the_outbox_as_it_went_in(row: Projection) -> None:
    found = codec.decode_projection(codec.encode_projection(row))
    assert found == row
    assert isinstance(found.status, TaskStatus)
