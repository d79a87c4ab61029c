"""`tq tasks` lists what is live and what has ended."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.cli.conftest import Shop, Tq

Read = Callable[..., dict[str, Any]]


def test_live_tasks_come_first_then_ended_ones(goods: Shop, read: Read) -> None:
    done = goods.add(1)
    goods.work()
    waiting = goods.add(2, 3)
    found = read("tasks")
    assert [task["id"] for task in found["tasks"]] == [*waiting, *done]
    assert [task["status"] for task in found["tasks"]] == ["scheduled", "scheduled", "executed"]
    assert found["next"] is None


def test_the_keys_of_a_task_are_those_that_the_help_promises(goods: Shop, read: Read, tq: Tq) -> None:
    goods.add(1, -1)
    goods.work()
    goods.add(2)
    told = " ".join(tq("tasks", "--help").stdout.split())
    for task in read("tasks")["tasks"]:
        assert f"Each task has {', '.join(task)}." in told


def test_pages_join_up_without_gap_or_overlap(goods: Shop, read: Read) -> None:
    goods.add(*range(5))
    goods.work()
    goods.add(*range(4))
    whole = [task["id"] for task in read("tasks")["tasks"]]
    seen: list[str] = []
    following: str | None = None
    for _ in range(9):
        page = read("tasks", "--limit", "2", *(["--after", following] if following else []))
        seen += [task["id"] for task in page["tasks"]]
        if (following := page["next"]) is None:
            break
    assert seen == whole
    assert len(whole) == 9


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--status", "failed"], 1),
        (["--status", "executed"], 2),
        (["--status", "executed", "--status", "failed"], 3),
        (["--status", "scheduled"], 1),
        (["--queue", "goods"], 4),
        (["--queue", "post"], 0),
        (["--type", "shop.pack"], 4),
        (["--type", "shop.send"], 0),
    ],
)
def test_filters_narrow_the_list(goods: Shop, read: Read, options: list[str], expected: int) -> None:
    goods.add(1, 2, -1)
    goods.work()
    goods.add(3)
    assert len(read("tasks", *options)["tasks"]) == expected


def test_text_is_one_line_per_task_with_the_first_line_of_its_error(goods: Shop, tq: Tq) -> None:
    (id,) = goods.add(-1)
    goods.work()
    head, line = tq("tasks").stdout.splitlines()
    assert head.split() == ["ID", "STATUS", "TYPE", "QUEUE", "ATTEMPT", "AT", "DETAIL"]
    assert line.startswith(id)
    assert line.split()[1:5] == ["failed", "shop.pack", "goods", "0"], "one numbering, that of task.attempt"
    assert line.endswith("there are no -1 goods…")


def test_nothing_to_list_is_said_beside_the_output(goods: Shop, tq: Tq) -> None:
    goods.work()
    result = tq("tasks")
    assert result.stdout == ""
    assert result.stderr == "no such tasks\n"


@pytest.mark.parametrize("after", ["nonsense", "ended:x:1", "ended:1", "gone:1"])
def test_a_place_that_no_page_named_is_refused(goods: Shop, tq: Tq, after: str) -> None:
    goods.work()
    assert "after is refused" in tq("tasks", "--after", after, code=1).stderr


def test_an_unknown_status_is_a_usage_error(tq: Tq) -> None:
    assert "sleeping" in tq("tasks", "--status", "sleeping", code=2).stderr
