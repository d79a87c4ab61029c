"""Which shards are read, and when: parents before children, none twice, none left out."""

import pytest

from tq.model import ShardLease
from tq_kinesis.position import ENDED, HORIZON, iterator_after, since, up_to
from tq_kinesis.topology import Shard, forgotten, is_readable, unknown

SPLIT = [Shard("0", closed=True), Shard("1", ("0",)), Shard("2", ("0",)), Shard("3")]
MERGED = [Shard("0", closed=True), Shard("1", closed=True), Shard("2", ("0", "1"))]


def rows(*leases: ShardLease) -> dict[str, ShardLease]:
    return {lease.shard: lease for lease in leases}


def lease(shard: str, checkpoint: str = HORIZON, parents: tuple[str, ...] = ()) -> ShardLease:
    return ShardLease("s", shard, parents, checkpoint=checkpoint)


def test_from_the_horizon_every_shard_is_read() -> None:
    found = unknown("s", SPLIT, {}, HORIZON)
    assert found == [lease("0"), lease("1", parents=("0",)), lease("2", parents=("0",)), lease("3")]


def test_from_an_instant_what_was_closed_by_then_is_left_out_for_good() -> None:
    start = since(7.0)
    found = rows(*unknown("s", SPLIT, {}, start))
    assert found == rows(lease("1", start), lease("2", start), lease("3", start))
    assert unknown("s", SPLIT, found, start) == []
    assert all(is_readable(row, found) for row in found.values())


@pytest.mark.spec("D-71")
def test_children_begin_where_their_parents_end() -> None:
    start = since(7.0)
    before = rows(lease("0", start), lease("3", start))
    assert unknown("s", SPLIT, before, start) == [lease("1", parents=("0",)), lease("2", parents=("0",))]


def test_two_generations_that_came_between_two_looks_are_both_found() -> None:
    shards = [Shard("0", closed=True), Shard("1", ("0",), closed=True), Shard("2", ("1",))]
    found = unknown("s", shards, rows(lease("0", since(1.0))), HORIZON)
    assert [it.shard for it in found] == ["1", "2"]


@pytest.mark.spec("D-71")
@pytest.mark.parametrize("ended", [(), ("0",), ("1",), ("0", "1")])
def test_after_a_merge_both_parents_have_to_end(ended: tuple[str, ...]) -> None:
    found = rows(*unknown("s", MERGED, {}, HORIZON))
    found |= rows(*[lease(shard, ENDED) for shard in ended])
    assert is_readable(found["2"], found) is (len(ended) == 2)


def test_an_ended_shard_is_not_read_again() -> None:
    assert not is_readable(lease("0", ENDED), rows(lease("0", ENDED)))


def test_a_parent_that_nobody_knows_any_more_holds_nobody_up() -> None:
    assert is_readable(lease("1", parents=("0",)), rows(lease("1", parents=("0",))))


def test_a_lease_is_dropped_when_it_has_ended_and_the_stream_has_forgotten_its_shard() -> None:
    found = rows(lease("0", ENDED), lease("8", ENDED), lease("9", "17"))
    assert forgotten(SPLIT, found) == [lease("8", ENDED)]


def test_a_dropped_shard_does_not_come_back() -> None:
    found = rows(lease("0", ENDED), lease("1", "5"), lease("2", "5"), lease("3", "5"))
    del found["0"]
    assert unknown("s", SPLIT, found, HORIZON) == []


# --- places -----------------------------------------------------------------------------------------------------------


def test_a_place_says_how_reading_goes_on() -> None:
    assert iterator_after(HORIZON) == {"ShardIteratorType": "TRIM_HORIZON"}
    assert iterator_after("") == {"ShardIteratorType": "TRIM_HORIZON"}
    assert iterator_after("17") == {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": "17"}
    found = iterator_after(since(1_900_000_000.5))
    assert found["Timestamp"].timestamp() == 1_900_000_000.5


def test_only_numbers_and_the_end_are_further_than_others() -> None:
    assert up_to("9", "10")
    assert up_to("10", "10")
    assert up_to("10", ENDED)
    assert not up_to("11", "10")
    assert not up_to("", "10")
    assert not up_to("10", HORIZON)
    assert not up_to("10", since(3.0))
