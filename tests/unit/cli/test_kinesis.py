"""`tq kinesis` shows leases on shards, moves checkpoints, and takes shards from their readers."""

from collections.abc import Callable
from typing import Any, cast

import pytest

from tests.unit.cli.conftest import Shop, Tq
from tq import TaskHandler
from tq.model import ShardLease
from tq.ports import ShardLeases

Read = Callable[..., dict[str, Any]]

ROWS = [
    ShardLease("tq:orders", "shard-1", owner="w-1", checkpoint="17", note='{"seen":"20"}'),
    ShardLease("tq:orders", "shard-2", parents=("shard-1",), checkpoint="TRIM_HORIZON"),
]


def leases_of(handler: TaskHandler) -> ShardLeases:
    return cast("ShardLeases", vars(handler.backend)["shards"])


@pytest.fixture
def rows(goods: Shop) -> Callable[[], dict[str, ShardLease]]:
    """Two leases, and what has become of them."""
    goods.do(lambda handler: leases_of(handler).create(ROWS))

    def read() -> dict[str, ShardLease]:
        found = goods.do(lambda handler: leases_of(handler).list("tq:orders"))
        return {row.shard: row for row in found}

    return read


Rows = Callable[[], dict[str, ShardLease]]


def test_shards_are_listed_with_who_reads_them(rows: Rows, read: Read, tq: Tq) -> None:
    first, second = read("kinesis", "shards", "orders")["shards"]
    assert first == {
        "shard": "shard-1",
        "owner": "w-1",
        "checkpoint": "17",
        "changes": 0,
        "parents": [],
        "note": '{"seen":"20"}',
    }
    assert (second["owner"], second["parents"]) == (None, ["shard-1"])
    assert tq("kinesis", "shards", "orders").stdout.splitlines()[1].split()[:4] == ["shard-1", "w-1", "17", "0"]
    told = " ".join(tq("kinesis", "shards", "--help").stdout.split())
    assert f"each has {', '.join(first)}." in told
    assert "nobody of group other has read orders" in tq("kinesis", "shards", "orders", "--group", "other").stderr


@pytest.mark.parametrize(
    ("place", "expected"),
    [("99", "99"), ("TRIM_HORIZON", "TRIM_HORIZON"), ("2030-01-01T00:00:00Z", "AT_TIMESTAMP 1893456000.000")],
)
def test_a_checkpoint_is_moved_and_its_reader_fenced_off(rows: Rows, tq: Tq, place: str, expected: str) -> None:
    tq("kinesis", "checkpoint", "orders", "shard-1", place, "--yes")
    assert rows()["shard-1"] == ShardLease("tq:orders", "shard-1", counter=1, checkpoint=expected)
    assert rows()["shard-2"] == ROWS[1]


def test_without_a_yes_nothing_is_changed(rows: Rows, tq: Tq) -> None:
    tq("kinesis", "checkpoint", "orders", "shard-1", "99", code=1)
    tq("kinesis", "reset", "orders", code=1)
    assert list(rows().values()) == ROWS


def test_shards_are_taken_from_their_readers(rows: Rows, tq: Tq, read: Read) -> None:
    (changed,) = read("kinesis", "reset", "orders", "shard-1", "--yes")["shards"]
    assert (changed["owner"], changed["checkpoint"], changed["note"]) == (None, "17", '{"seen":"20"}')
    assert "2 changed" in tq("kinesis", "reset", "orders", "--yes").stderr
    assert {row.counter for row in rows().values()} == {1, 2}


def test_what_is_no_shard_and_no_place_is_refused(rows: Rows, tq: Tq) -> None:
    assert "has read shard-9" in " ".join(tq("kinesis", "reset", "orders", "shard-9", "--yes", code=2).stderr.split())
    for place in ("yesterday", "2030-01-01T00:00:00"):
        tq("kinesis", "checkpoint", "orders", "shard-1", place, "--yes", code=2)
    assert list(rows().values()) == ROWS
