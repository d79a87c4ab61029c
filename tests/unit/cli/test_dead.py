"""`tq dead` lists, replays and purges dead letters."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.cli.conftest import Shop, Tq

Read = Callable[..., dict[str, Any]]


@pytest.fixture
def lost(goods: Shop) -> list[str]:
    """Three dead letters, oldest first."""
    ids: list[str] = []
    for number in (-1, -2, -3):
        ids += goods.add(number)
        goods.work()
    return ids


def test_dead_letters_are_listed_newest_first_in_pages(lost: list[str], read: Read) -> None:
    first = read("dead", "list", "--limit", "2")
    assert [letter["id"] for letter in first["dead"]] == [lost[2], lost[1]]
    second = read("dead", "list", "--after", first["next"])
    assert [letter["id"] for letter in second["dead"]] == [lost[0]]
    assert second["next"] is None
    letter = second["dead"][0]
    assert (letter["payload"], letter["queue"], letter["status"]) == (-1, "goods", "failed")
    assert letter["error"] == "there are no -1 goods\nto be packed"


def test_the_keys_of_a_dead_letter_are_those_that_the_help_promises(lost: list[str], read: Read, tq: Tq) -> None:
    told = " ".join(tq("dead", "list", "--help").stdout.split())
    assert f"each has {', '.join(read('dead', 'list')['dead'][0])}." in told


def test_a_replayed_task_waits_again(lost: list[str], read: Read) -> None:
    assert read("dead", "replay", lost[1]) == {"replayed": [lost[1]]}
    (task,) = read("tasks", "--status", "scheduled")["tasks"]
    assert (task["id"], task["generation"]) == (lost[1], 1)


def test_limit_caps_what_is_replayed_and_purged(lost: list[str], read: Read) -> None:
    assert read("dead", "replay", "--queue", "goods", "--limit", "1") == {"replayed": [lost[2]]}
    assert read("dead", "purge", "--type", "shop.pack", "--limit", "1") == {"purged": [lost[1]]}
    assert read("dead", "purge", "--queue", "elsewhere") == {"purged": []}
    assert read("dead", "purge", "--all") == {"purged": [lost[0]]}


def test_text_names_each_id_and_their_number(lost: list[str], tq: Tq) -> None:
    result = tq("dead", "purge", *lost)
    assert sorted(result.stdout.split()) == sorted(lost)
    assert result.stderr == "3 purged\n"
    assert tq("dead", "list").stderr == "no dead letters\n"


def test_an_id_without_dead_letter_is_named_and_is_an_error(lost: list[str], tq: Tq) -> None:
    result = tq("dead", "replay", "nobody", lost[0], code=1)
    assert result.stdout == f"{lost[0]}\n"
    assert "no dead letter: nobody" in result.stderr


@pytest.mark.parametrize("what", [[], ["--all", "--queue", "goods"], ["some-id", "--all"], ["some-id", "--type", "x"]])
@pytest.mark.parametrize("verb", ["replay", "purge"])
def test_everything_is_never_chosen_by_saying_nothing(tq: Tq, verb: str, what: list[str]) -> None:
    assert "give either ids" in tq("dead", verb, *what, code=2).stderr
