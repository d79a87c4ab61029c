"""Who reads what: everything has an owner, nobody has much more than another, and what is well stays."""

from collections import Counter
from random import Random

import pytest

from tq.model import ShardLease
from tq_kinesis.assign import Sightings, assign


def lease(shard: int, owner: str = "") -> ShardLease:
    return ShardLease("s", f"shard-{shard:03}", owner=owner)


def owned(**counts: int) -> list[ShardLease]:
    owners = [owner for owner, count in counts.items() for _ in range(count)]
    return [lease(number, owner) for number, owner in enumerate(owners)]


def givers(workers: dict[str, int]) -> list[str]:
    return [me for me in workers if assign(me, owned(**workers), [], workers).give_up]


def test_what_is_free_is_shared_without_a_quarrel() -> None:
    free = [lease(number) for number in range(4)]
    taken = {me: assign(me, [], free, ["a", "b", "c"]).take for me in "abc"}
    assert {me: len(got) for me, got in taken.items()} == {"a": 2, "b": 1, "c": 1}
    assert sorted(it for got in taken.values() for it in got) == free


@pytest.mark.spec("D-78", "REB-01")
def test_what_is_free_goes_to_whoever_has_least() -> None:
    free = [lease(number) for number in range(90, 93)]
    leases = owned(a=3, b=1)
    assert assign("a", leases, free, ["a", "b"]).take == (free[2],)
    assert assign("b", leases, free, ["a", "b"]).take == (free[0], free[1])


def test_a_worker_counts_itself_before_others_have_heard_of_it() -> None:
    assert len(assign("new", owned(a=2), [lease(9)], ["a"]).take) == 1


@pytest.mark.parametrize("counts", [{"a": 1}, {"a": 2, "b": 1}, {"a": 3, "b": 3, "c": 2}, {"a": 1, "b": 0}])
def test_where_shares_differ_by_one_nothing_moves(counts: dict[str, int]) -> None:
    assert givers(counts) == []


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"a": 2, "b": 2, "c": 0}, ["a"]),
        ({"a": 4, "b": 2, "c": 2}, ["a"]),
        ({"a": 8, "b": 0}, ["a"]),
        ({"a": 3, "b": 3, "c": 3, "d": 1}, ["a"]),
        ({"a": 1, "b": 5, "c": 6, "d": 0}, ["b", "c"]),
    ],
)
def test_as_many_give_one_up_as_have_to(counts: dict[str, int], expected: list[str]) -> None:
    assert givers(counts) == expected


def test_nobody_gives_up_while_what_is_free_makes_it_even() -> None:
    assert not assign("a", owned(a=2), [lease(8), lease(9)], ["a", "b"]).give_up
    assert assign("a", owned(a=4), [lease(9)], ["a", "b"]).give_up


@pytest.mark.spec("D-78", "REB-01")
@pytest.mark.parametrize("seed", range(30))
def test_rounds_end_in_balance_with_no_more_moves_than_needed(seed: int) -> None:
    chance = Random(seed)
    workers = [f"w{number}" for number in range(chance.randrange(1, 7))]
    rows = [lease(number, chance.choice([*workers, ""])) for number in range(chance.randrange(30))]
    started = Counter(row.owner for row in rows if row.owner)
    least = len(rows) // len(workers)
    moves = 0
    for _ in range(100):
        free = [row for row in rows if not row.owner]
        plans = {me: assign(me, [row for row in rows if row.owner], free, workers) for me in workers}
        new = {row.shard: me for me, plan in plans.items() for row in plan.take}
        assert len(new) == len(free), "everything that is free is taken, by one"
        rows = [row._replace(owner=new.get(row.shard, row.owner)) for row in rows]
        for me, plan in plans.items():
            if plan.give_up:
                moves += 1
                index = next(number for number, row in enumerate(rows) if row.owner == me)
                rows[index] = rows[index]._replace(owner="")
        if not any(plan.give_up for plan in plans.values()):
            break
    counts = Counter(row.owner for row in rows)
    assert "" not in counts
    assert max(counts.values(), default=0) - min((counts[me] for me in workers), default=0) <= 1
    assert moves <= sum(max(started[me] - least, 0) for me in workers)


# --- sightings --------------------------------------------------------------------------------------------------------


def test_a_row_is_as_old_as_it_was_seen_to_stand_still() -> None:
    seen = Sightings()
    row = lease(1, "a")
    assert seen.age(row, 50.0) == 0.0
    seen.look([row], 100.0)
    seen.look([row], 107.0)
    assert seen.age(row, 109.0) == 9.0
    seen.look([row._replace(counter=1)], 110.0)
    assert seen.age(row, 111.0) == 1.0


def test_a_row_that_was_gone_is_new_when_it_comes_back() -> None:
    seen = Sightings()
    seen.look([lease(1)], 0.0)
    seen.look([], 5.0)
    seen.look([lease(1)], 9.0)
    assert seen.age(lease(1), 10.0) == 1.0
