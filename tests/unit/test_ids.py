"""Ids: new ones are ordered, derived ones follow from their cause."""

from hypothesis import given
from hypothesis import strategies as st

from tq import ids

NOW = 1_900_000_000.0


def test_new_ids_sort_by_time_then_by_order_of_making() -> None:
    made = [ids.new_id(NOW + number // 10 * 0.001) for number in range(1000)]
    assert made == sorted(made)
    assert len(set(made)) == 1000
    assert {len(id) for id in made} == {26}


def test_a_new_id_tells_when_it_was_made() -> None:
    """48 bits of milliseconds come first, five bits a letter."""
    alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
    for instant in (0.0, 1_700_000_000.123, 4_102_444_800.999):
        id = ids.new_id(instant)
        assert ids.is_new(id)
        value = 0
        for letter in id:
            value = value * 32 + alphabet.index(letter)
        assert value >> 82 == int(instant * 1000)


def test_derived_ids_are_the_same_for_the_same_cause() -> None:
    first = ids.child_id("parent", 5.0, 0, "resize", "media", b"{}", 0)
    assert first == ids.child_id("parent", 5.0, 0, "resize", "media", b"{}", 0)
    assert ids.flow_id("t", 5.0, 0, "0") == ids.flow_id("t", 5.0, 0, "0")


def test_every_part_of_a_cause_tells() -> None:
    made = {
        ids.child_id("p", 5.0, 0, "a", "q", b"{}", 0),
        ids.child_id("p2", 5.0, 0, "a", "q", b"{}", 0),
        ids.child_id("p", 6.0, 0, "a", "q", b"{}", 0),
        ids.child_id("p", 5.0, 1, "a", "q", b"{}", 0),
        ids.child_id("p", 5.0, 0, "a2", "q", b"{}", 0),
        ids.child_id("p", 5.0, 0, "a", "q2", b"{}", 0),
        ids.child_id("p", 5.0, 0, "a", "q", b"[]", 0),
        ids.child_id("p", 5.0, 0, "a", "q", b"{}", 1),
        ids.flow_id("p", 5.0, 0, "a"),
        ids.flow_id("p", 5.0, 1, "a"),
        ids.flow_id("p", 6.0, 0, "a"),
        ids.flow_id("p", 5.0, 0, "b"),
    }
    assert len(made) == 12


@given(st.text(), st.text(), st.text(), st.text())
def test_parts_that_run_into_each_other_are_kept_apart(a: str, b: str, c: str, d: str) -> None:
    same = ids.child_id("p", 5.0, 0, a, b, b"", 0) == ids.child_id("p", 5.0, 0, c, d, b"", 0)
    assert same == ((a, b) == (c, d))


def test_members_and_joins_stand_in_their_flow_s_range_and_others_do_not() -> None:
    low, high = ids.step_range("f")
    inside = [ids.step_id("f", 0), ids.step_id("f", 99_999), ids.join_id("f", 0), ids.join_id("f", 3)]
    assert all(low <= id < high for id in inside)
    assert len(set(inside)) == 4
    outside = [ids.step_id("f1", 0), ids.join_id("e", 0), "f", ids.step_id("ff", 0)]
    assert not any(low <= id < high for id in outside)


def test_a_join_is_told_by_its_id() -> None:
    assert all(ids.is_join(ids.join_id("f", generation)) for generation in (0, 1, 12))
    others = [ids.step_id("f", 0), ids.step_id("join", 0), "join", "f.join.x", "f.joins", "", ids.new_id(0.0)]
    assert not any(ids.is_join(id) for id in others)


def test_only_ids_that_tq_makes_for_members_and_joins_name_one() -> None:
    for flow in (ids.new_id(1.0), ids.flow_id("t", 5.0, 0, "k")):
        for id in (ids.step_id(flow, 0), ids.step_id(flow, 99_999), ids.join_id(flow, 0), ids.join_id(flow, 3)):
            assert ids.names_member(id)
        for id in (flow, f"{flow}.", f"{flow}.a", f"{flow}.join.x", f"{flow}.1.2", f"{flow}x.1", f"x.{flow}.1"):
            assert not ids.names_member(id)
    for id in ("order.17", "report.join", "2026.11", ".0", ""):
        assert not ids.names_member(id)
