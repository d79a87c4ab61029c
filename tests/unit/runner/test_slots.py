"""Who may run now: slots, lines of executors with a limit, and what may be claimed for them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tq.runner.registry import Registration
from tq.runner.slots import Line, Slots

from .making import delivery, execution, message, registration


def offer(slots: Slots, by: Registration, *ids: str) -> None:
    for id in ids:
        slots.offer(execution(delivery(message(id, by.type)), by), by)


def started(slots: Slots) -> list[tuple[Line, list[str]]]:
    return [(line, [one.id for one in slots.group(line)]) for line in iter(slots.start, None)]


def names(groups: list[tuple[Line, list[str]]]) -> list[str]:
    return [id for _, group in groups for id in group]


def test_no_more_run_than_there_are_slots_and_the_next_comes_when_one_is_free() -> None:
    slots, free = Slots(2), registration(type="free")
    offer(slots, free, "a", "b", "c")
    running = started(slots)
    assert names(running) == ["a", "b"]
    assert (slots.running, slots.waiting, slots.ready) == (2, 1, False)
    slots.end(running[0][0])
    assert slots.ready
    assert names(started(slots)) == ["c"]


@pytest.mark.spec("EXE-03")
def test_an_executor_with_a_limit_runs_in_order_within_it() -> None:
    slots, single = Slots(10), registration(type="single", concurrency=1)
    offer(slots, single, "a", "b", "c")
    order: list[str] = []
    while running := started(slots):
        assert len(running) == 1
        order += names(running)
        slots.end(running[0][0])
    assert order == ["a", "b", "c"]


def test_lines_take_turns() -> None:
    slots, x, y = Slots(4), registration(type="x"), registration(type="y")
    offer(slots, x, "x1", "x2", "x3")
    offer(slots, y, "y1", "y2", "y3")
    assert names(started(slots)) == ["x1", "y1", "x2", "y2"]


def test_a_full_line_does_not_hold_back_the_others() -> None:
    slots, single, free = Slots(3), registration(type="single", concurrency=1), registration(type="free")
    offer(slots, single, "s1", "s2", "s3")
    offer(slots, free, "f1", "f2")
    assert sorted(names(started(slots))) == ["f1", "f2", "s1"]


@pytest.mark.spec("EXE-05")
def test_a_multi_executor_takes_groups_and_a_group_is_one_slot() -> None:
    slots, multi = Slots(1), registration(type="m", multiple=True, chunk_size=2)
    offer(slots, multi, "a", "b", "c")
    [(line, group)] = started(slots)
    assert (group, slots.running) == (["a", "b"], 1)
    slots.end(line, len(group))
    assert names(started(slots)) == ["c"]


def test_what_has_not_started_is_given_up_on_request() -> None:
    slots, single = Slots(5), registration(type="single", concurrency=1)
    offer(slots, single, "a", "b", "c")
    running = started(slots)
    assert [one.id for one in slots.drop_waiting()] == ["b", "c"]
    slots.end(running[0][0])
    assert started(slots) == []


def test_executors_with_a_limit_are_capped_before_their_first_task_and_others_never() -> None:
    limited, free = registration(type="limited", concurrency=3), registration(type="free")
    slots = Slots(10, [limited, free])
    caps = slots.caps()
    assert set(caps) == {("default", "limited")}
    assert caps["default", "limited"] >= 3


def test_a_multi_executor_is_claimed_for_by_whole_groups() -> None:
    multi = registration(type="m", multiple=True, chunk_size=5)
    slots = Slots(10, [multi])
    assert slots.caps() == {("default", "m"): 5}
    offer(slots, multi, "a", "b")
    assert slots.caps() == {("default", "m"): 3}
    started(slots)
    assert slots.caps() == {("default", "m"): 0}


def test_room_for_a_group_is_claimed_for_beside_the_free_slots_and_for_nobody_else() -> None:
    multi, free = registration(type="m", multiple=True, chunk_size=50), registration(type="free")
    slots = Slots(10, [multi, free])
    assert slots.claimable(10) == (59, {("default", "m"): 50, ("default", "free"): 10})
    offer(slots, multi, *[f"{number}" for number in range(50)])
    [(line, group)] = started(slots)
    assert (slots.running, slots.beside) == (1, 49)
    assert slots.claimable(9) == (9, {("default", "m"): 0})
    slots.end(line, len(group))
    assert (slots.running, slots.beside) == (0, 0)


def test_where_there_are_no_groups_no_more_is_claimed_than_slots_are_free() -> None:
    assert Slots(10, [registration(type="free")]).claimable(7) == (7, {})


def test_a_slow_line_is_not_filled_up_for_ever() -> None:
    """What waits here behind slow bodies could run elsewhere."""
    slow = registration(type="slow", concurrency=1)
    slots = Slots(10, [slow])
    waiting = 0
    for _ in range(20):
        cap = slots.caps()["default", "slow"]
        offer(slots, slow, *[f"{waiting + number}" for number in range(cap)])
        waiting += cap
        started(slots)
    assert waiting <= 4


def test_a_quick_line_is_given_more_ahead() -> None:
    quick = registration(type="quick", concurrency=1)
    slots = Slots(10, [quick])
    claimed: list[int] = []
    for _ in range(8):
        claimed.append(slots.caps()["default", "quick"])
        offer(slots, quick, *[f"{number}" for number in range(claimed[-1])])
        while running := started(slots):
            slots.end(running[0][0])
    assert claimed == sorted(claimed)
    assert claimed[-1] > 20


@given(
    st.integers(1, 5),
    st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=60),
)
def test_slots_never_overrun_and_lose_nobody(concurrency: int, moves: list[tuple[int, bool]]) -> None:
    kinds = [registration(type="one", concurrency=1), registration(type="two", concurrency=2), registration(type="any")]
    slots = Slots(concurrency, kinds)
    offered: list[str] = []
    begun: list[str] = []
    running: list[tuple[Line, list[str]]] = []
    for kind, ends in moves:
        if ends and running:
            slots.end(running.pop(0)[0])
        else:
            offered.append(f"{len(offered)}")
            offer(slots, kinds[kind], offered[-1])
        fresh = started(slots)
        running += fresh
        begun += names(fresh)
        assert slots.running == len(running) <= concurrency
        for by in kinds:
            assert by.limit is None or sum(line.registration is by for line, _ in running) <= by.limit
    while running:
        slots.end(running.pop(0)[0])
        fresh = started(slots)
        running += fresh
        begun += names(fresh)
    assert sorted(begun, key=int) == offered
    assert (slots.running, slots.waiting) == (0, 0)
