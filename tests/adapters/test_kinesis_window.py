"""The window of a shard: any order of endings, one order of giving up."""

import math
from random import Random

import pytest

from tq.model import Claim, Delivery, Message
from tq.testing.contracts.values import claim, ids, message
from tq_kinesis.window import Past, Window


def window(records: int = 100, size: int = 1000) -> Window:
    return Window(records, size)


def filled(count: int, *, line: str = "", size: int = 1) -> Window:
    made = window()
    for number in range(1, count + 1):
        made.add(f"{number}", [message(f"m{number}", 0.0)], line=line, size=size)
    return made


def asked(limit: int = 100, lease: float = 10.0, **more: object) -> Claim:
    return claim(limit, lease=lease, **more)  # type: ignore[arg-type]


def settle(made: Window, *deliveries: Delivery) -> list[bool]:
    return [made.settle(delivery.receipt) for delivery in deliveries]


def test_records_come_out_in_order_and_never_twice() -> None:
    made = filled(5)
    assert ids(made.take(asked(2), 0.0)) == ["m1", "m2"]
    assert ids(made.take(asked(9), 0.0)) == ["m3", "m4", "m5"]
    assert made.take(asked(), 0.0) == []
    assert made.out == 5


@pytest.mark.spec("INV-11", "SHC-06", "D-65")
def test_the_checkpoint_is_the_prefix_of_what_has_ended() -> None:
    made = filled(4)
    first, second, third, fourth = made.take(asked(), 0.0)
    settle(made, third, second)
    assert made.checkpoint == ""
    settle(made, first)
    assert made.checkpoint == "3"
    assert not made.empty
    settle(made, fourth)
    assert (made.checkpoint, made.empty, made.size) == ("4", True, 0)


@pytest.mark.spec("INV-11")
@pytest.mark.parametrize("seed", range(20))
def test_the_checkpoint_never_passes_what_has_not_ended_and_never_goes_back(seed: int) -> None:
    chance = Random(seed)
    made, open_at, out, last, now = window(10_000, 10**9), dict[str, set[str]](), list[Delivery](), 0, 0.0
    for position in range(1, 400):
        batch = [message(f"{position}.{n}", 0.0) for n in range(chance.randrange(4))]
        made.add(f"{position}", batch, line=chance.choice(["", "a", "b"]), size=len(batch))
        open_at[f"{position}"] = {it.id for it in batch}
        now += chance.choice([0.0, 1.0, 30.0]) if chance.random() < 0.1 else 0.1
        out += made.take(asked(chance.randrange(5), lease=20.0), now)
        chance.shuffle(out)
        while out and chance.random() < 0.6:
            delivery = out.pop()
            if made.settle(delivery.receipt):
                open_at[delivery.message.id.partition(".")[0]].remove(delivery.message.id)
        reached = int(made.checkpoint or 0)
        assert reached >= last
        assert not any(open_at[f"{number}"] for number in range(1, reached + 1))
        assert reached == position or open_at[f"{reached + 1}"], "it goes as far as it may"
        last = reached


def test_a_record_of_several_messages_is_given_up_when_the_last_has_ended() -> None:
    made = window()
    made.add("1", [message("a", 0.0), message("b", 0.0)], size=7)
    a, b = made.take(asked(), 0.0)
    settle(made, b)
    assert (made.checkpoint, made.size) == ("", 7)
    settle(made, a)
    assert (made.checkpoint, made.size) == ("1", 0)


def test_a_record_without_messages_is_passed_at_its_turn() -> None:
    made = filled(1)
    made.add("2", [])
    assert made.checkpoint == ""
    settle(made, *made.take(asked(), 0.0))
    assert made.checkpoint == "2"


def test_bounds_stop_reading_and_drop_nothing() -> None:
    by_number, by_size = window(records=3), window(size=10)
    for number in range(3):
        assert by_number.room
        by_number.add(f"{number}", [message(f"{number}", 0.0)], size=1)
    assert not by_number.room
    by_size.add("1", [message("large", 0.0)], size=64)
    assert not by_size.room
    settle(by_size, *by_size.take(asked(), 0.0))
    assert by_size.room
    assert len(by_number.take(asked(), 0.0)) == 3


# --- order ------------------------------------------------------------------------------------------------------------


def test_of_a_line_one_is_out_at_a_time_while_lines_run_side_by_side() -> None:
    made = window()
    for number, line in enumerate(["a", "b", "a", "", "b", ""]):
        made.add(f"{number}", [message(f"{line}{number}", 0.0)], line=line)
    first = made.take(asked(), 0.0)
    assert ids(first) == ["a0", "b1", "3", "5"]
    settle(made, first[1])
    second = made.take(asked(), 0.0)
    assert ids(second) == ["b4"]
    settle(made, first[0], *second)
    assert ids(made.take(asked(), 0.0)) == ["a2"]


def test_what_becomes_free_goes_before_what_came_after_it() -> None:
    made = window()
    for number, line in enumerate(["a", "a", "b", "c"]):
        made.add(f"{number}", [message(f"{line}{number}", 0.0)], line=line)
    settle(made, *made.take(asked(1), 0.0))
    assert ids(made.take(asked(), 0.0)) == ["a1", "b2", "c3"]


def test_the_same_message_twice_is_out_once_at_a_time() -> None:
    made = window()
    made.add("1", [message("m", 0.0)])
    made.add("2", [message("m", 0.0)])
    (first,) = made.take(asked(), 0.0)
    assert made.take(asked(), 0.0) == []
    settle(made, first)
    (second,) = made.take(asked(), 0.0)
    assert (second.message.id, second.fence) == ("m", 1)


def test_other_queues_and_kinds_without_a_slot_stay_and_hold_nobody_up() -> None:
    made = window()
    kinds = [("q", "slow"), ("q", "slow"), ("r", "t"), ("q", "fast"), ("q", "slow")]
    for number, (queue, type) in enumerate(kinds):
        made.add(f"{number}", [message(f"{number}", 0.0, queue=queue, type=type)])
    assert ids(made.take(asked(caps={("q", "slow"): 2}), 0.0)) == ["0", "1", "3"]
    assert ids(made.take(asked(queues=("q", "r")), 0.0)) == ["2", "4"]


def test_a_message_of_no_queue_goes_to_whoever_asks() -> None:
    made = window()
    made.add("1", [Message("raw", "", "", b"?", 0.0)])
    (delivery,) = made.take(asked(queues=("orders", "q")), 0.0)
    assert delivery.message.queue == "orders"


# --- leases -----------------------------------------------------------------------------------------------------------


def test_a_lease_that_runs_out_is_a_crash_and_the_old_receipt_is_worth_nothing() -> None:
    made = filled(2)
    first, second = made.take(asked(lease=10.0), 0.0)
    found = made.find(second.receipt)
    assert found is not None
    made.renew(found, 25.0)
    assert made.take(asked(), 9.9) == []
    (again,) = made.take(asked(), 10.0)
    assert (again.message.id, again.fence, again.crashes, again.solo_crashes) == ("m1", 2, 1, 0)
    assert settle(made, first, again, second) == [False, True, True]
    assert settle(made, second) == [False]


def test_a_crash_alone_is_counted_as_such() -> None:
    made = filled(1)
    (first,) = made.take(asked(lease=1.0), 0.0)
    found = made.find(first.receipt)
    assert found is not None
    found.alone = True
    (second,) = made.take(asked(lease=1.0), 1.0)
    (third,) = made.take(asked(lease=1.0), 2.0)
    assert (second.crashes, second.solo_crashes) == (1, 1)
    assert (third.crashes, third.solo_crashes) == (2, 1)


def test_what_others_made_of_it_is_counted_on() -> None:
    made = window()
    made.add("1", [message("a", 0.0, fence=4), message("b", 0.0)], past=[Past(2, 1, 1), Past()])
    a, b = made.take(asked(), 0.0)
    assert (a.fence, a.crashes, a.solo_crashes) == (7, 1, 1)
    assert (b.fence, b.crashes, b.solo_crashes) == (1, 0, 0)


def test_the_end_of_the_first_lease_is_known() -> None:
    made = filled(2)
    assert made.ends_at == math.inf
    made.take(asked(1, lease=9.0), 0.0)
    made.take(asked(1, lease=5.0), 0.0)
    assert made.ends_at == 5.0
