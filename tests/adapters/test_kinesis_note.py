"""What one reader of a shard leaves to the next: who may be suspected, and who is convicted."""

import pytest

from tq_kinesis.note import BOUNDS, Note
from tq_kinesis.window import Past


def died(note: Note) -> Note:
    return note.inherited(died=True)


def test_a_note_survives_being_written() -> None:
    note = died(Note(seen="12", alone=("7/1",)))._replace(seen="40", alone=("13/0",))
    assert Note.read(note.text) == note
    assert Note().text == ""


@pytest.mark.parametrize("text", ["", "nonsense", "[]", "3", '{"bounds":[1]}', '{"alone":7}', '{"solo":[["a"]]}'])
def test_a_text_that_is_no_note_counts_nothing(text: str) -> None:
    assert Note.read(text) == Note()


@pytest.mark.spec("D-66")
def test_a_death_counts_for_what_may_have_been_handed_out() -> None:
    note = died(Note(seen="20"))
    assert note.past("19", 0) == note.past("20", 3) == Past(1, 1, 0)
    assert note.past("21", 0) == Past()


def test_numbers_are_compared_as_numbers() -> None:
    assert died(Note(seen="100")).past("99", 0).crashes == 1
    assert died(Note(seen="99")).past("100", 0).crashes == 0


def test_deaths_add_up_for_what_they_have_in_common() -> None:
    note = died(died(Note(seen="20"))._replace(seen="30"))
    assert [note.past(position, 0).crashes for position in ("5", "20", "21", "30", "31")] == [2, 2, 1, 1, 0]


def test_a_hand_over_is_a_hand_out_and_no_crash() -> None:
    note = Note(seen="20", alone=("3/0",)).inherited(died=False)
    assert note.past("3", 0) == Past(1, 0, 0)
    assert note.alone == ()


def test_a_reader_that_handed_nothing_out_leaves_no_trace() -> None:
    assert died(Note()) == Note()


@pytest.mark.spec("D-66")
def test_only_what_ran_alone_dies_alone() -> None:
    note = died(Note(seen="20", alone=("7/1",)))
    assert note.past("7", 1) == Past(1, 1, 1)
    assert note.past("7", 0) == Past(1, 1, 0)
    again = died(note._replace(seen="20", alone=("7/1",)))
    assert again.past("7", 1) == Past(2, 2, 2)


def test_what_has_ended_is_forgotten() -> None:
    note = died(died(Note(seen="20", alone=("7/1", "18/0")))._replace(seen="30", alone=("18/0",)))
    assert note.after("7").past("7", 1).solo_crashes == 0
    assert note.after("20").past("25", 0).crashes == 1
    assert note.after("30") == note.after("SHARD_END") == Note()
    assert Note(seen="20").after("19").seen == "20"
    assert Note(seen="20").after("AT_TIMESTAMP 3.0").seen == "20"


def test_however_many_die_the_note_stays_small() -> None:
    note = Note()
    for number in range(1, 4 * BOUNDS):
        note = died(note._replace(seen=f"{number}"))
    assert len(note.bounds) == BOUNDS
    assert sum(bound.deaths for bound in note.bounds) == 4 * BOUNDS - 1
    assert note.past(f"{4 * BOUNDS - 1}", 0).crashes == 1
    for _ in range(50):
        note = died(note._replace(seen="900"))
    assert note.past("900", 0).crashes == 50
