"""Messages as records: as they were, in order, and in requests that a stream takes."""

from itertools import pairwise
from random import Random

import pytest

from tq.codec import message_of
from tq.errors import ContentRefusedError, WireError
from tq.model import Entity, Message, Task
from tq.testing.contracts.values import message
from tq_kinesis.keys import Key, key_of
from tq_kinesis.packing import Record, pack, unpack
from tq_kinesis.shipping import backoff, cut, failed

MOST = 1 << 20


def packed(*messages: Message, most: int = MOST, together: int = 1) -> list[list[Record]]:
    return pack([(it, key_of(it)) for it in messages], most=most, together=together)


def of(task: Task[object]) -> Message:
    return message_of(task, b"null", 0.0)


@pytest.mark.spec("KIN-04", "KIN-05")
def test_a_message_comes_out_as_it_went_in() -> None:
    sent = message(
        "ä-1", 1.25, type="t", body=bytes(range(256)), generation=2, attempt=3, lane="L", stats=b'{"a":1}', fence=4
    )
    [[record]] = packed(sent)
    assert unpack(record.data).messages == (sent,)
    assert record.ids == ("ä-1",)


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]\n", b"nonsense", b'{"v":1}\n', b'{"v":1,"messages":[[1]]}\n', b"\xff\n"]
)
def test_bytes_of_somebody_else_are_told_apart(data: bytes) -> None:
    with pytest.raises(WireError):
        unpack(data)


def test_a_record_that_was_cut_off_is_told_apart() -> None:
    [[record]] = packed(message("a", 0.0, body=b"12345"))
    for data in (record.data[:-1], record.data + b"!"):
        with pytest.raises(WireError):
            unpack(data)


# --- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.spec("KIN-01", "D-81")
def test_who_names_a_key_is_kept_in_order_and_others_are_spread() -> None:
    assert key_of(of(Task(type="t", id="1", partition_key="k"))) == Key("k", ordered=True)
    assert key_of(of(Task(type="t", id="1", entity=Entity("Order", "7")))) == Key("Order:7", ordered=True)
    assert key_of(of(Task(type="t", id="1", entity=Entity("Order", "7"), partition_key="k"))).text == "k"
    assert key_of(of(Task(type="t", id="1"))) == Key("1", ordered=False)
    assert key_of(of(Task(type="t", id="1")), lambda it: it.type) == Key("t", ordered=True)
    assert key_of(message("1", 0.0, lane="L", body=b'"partition_key":')) == Key("L", ordered=True)
    assert key_of(message("1", 0.0, body=b'"partition_key":')) == Key("1", ordered=False)


def test_a_key_that_is_too_long_stands_for_itself_all_the_same() -> None:
    one, other = (key_of(of(Task(type="t", id="1", partition_key="k" * 300 + end))) for end in "ab")
    assert one.text != other.text
    assert len(one.text) <= 256
    assert one == key_of(of(Task(type="t", id="2", partition_key="k" * 300 + "a")))


# --- records and requests ---------------------------------------------------------------------------------------------


def test_messages_of_one_key_share_a_record_and_others_do_not() -> None:
    [wave] = packed(*[message(f"{number}", 0.0, lane="ab"[number % 2]) for number in range(6)], message("x", 0.0))
    assert {record.key: record.ids for record in wave} == {"a": ("0", "2", "4"), "b": ("1", "3", "5"), "x": ("x",)}
    assert [unpack(record.data).ordered for record in wave] == [True, True, False]


def test_no_two_records_of_one_key_are_on_their_way_at_once() -> None:
    sent = [message(f"{number}", 0.0, lane="a", body=b"x" * 400) for number in range(5)]
    waves = packed(*sent, message("b", 0.0, lane="b"), most=1200)
    assert [[record.key for record in wave] for wave in waves] == [["a", "b"], ["a"], ["a"]]
    assert [id for wave in waves for record in wave for id in record.ids if record.key == "a"] == list("01234")


@pytest.mark.spec("D-74")
def test_many_small_ones_may_share_a_record_where_that_is_wanted() -> None:
    [wave] = packed(*[message(f"{number}", 0.0) for number in range(25)], together=10)
    assert [len(record.ids) for record in wave] == [10, 10, 5]
    assert [it.id for record in wave for it in unpack(record.data).messages] == [f"{number}" for number in range(25)]


def test_what_is_too_large_is_refused_by_name_and_with_a_way_out() -> None:
    with pytest.raises(ContentRefusedError, match=r"task big takes \d+ bytes.*record_size="):
        packed(message("big", 0.0, body=b"x" * 2000), most=1000)


def test_text_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(ContentRefusedError):
        packed(message("\ud800", 0.0))
    with pytest.raises(ContentRefusedError):
        packed(message("a", 0.0, lane="\ud800"))


@pytest.mark.spec("D-74")
@pytest.mark.parametrize("seed", range(10))
def test_requests_stay_within_what_a_stream_takes(seed: int) -> None:
    chance = Random(seed)
    records = [Record("k", b"x" * chance.randrange(1, 400), (f"{number}",)) for number in range(300)]
    requests = list(cut(records, most=20, size=3000))
    assert [record for request in requests for record in request] == records
    assert all(len(request) <= 20 for request in requests)
    assert all(sum(record.size for record in request) <= 3000 for request in requests)
    fuller = pairwise(requests)
    assert all(len(one) == 20 or sum(it.size for it in one) + other[0].size > 3000 for one, other in fuller)


def test_nothing_makes_no_request() -> None:
    assert list(cut([])) == []
    assert packed() == []


@pytest.mark.spec("KIN-02")
def test_only_what_failed_is_sent_again() -> None:
    records = [Record(key, b"", (key,)) for key in "abc"]
    assert failed(records, ["", "ProvisionedThroughputExceededException", ""]) == [records[1]]


def test_waits_grow_and_spread() -> None:
    assert [backoff(attempt, 0.2, 3.0, lambda: 1.0) for attempt in range(6)] == [0.2, 0.4, 0.8, 1.6, 3.0, 3.0]
    assert backoff(900, 0.2, 3.0, lambda: 0.5) == 1.5
