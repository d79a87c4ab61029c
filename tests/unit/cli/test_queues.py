"""`tq queues` counts, pauses and resumes."""

from collections.abc import Callable
from typing import Any

from tests.unit.cli.conftest import Shop, Tq

Read = Callable[..., dict[str, Any]]


def test_a_queue_tells_what_it_holds(goods: Shop, read: Read, tq: Tq) -> None:
    goods.add(1, 2)
    (queue,) = read("queues")["queues"]
    assert queue == {
        "queue": "goods",
        "waiting": 2,
        "delayed": 0,
        "running": 0,
        "held": 0,
        "served": False,
        "paused": False,
    }
    assert tq("queues").stdout.splitlines()[1].split() == ["goods", "2", "0", "0", "0", "no", "open"]


def test_a_paused_queue_hands_out_nothing_until_it_is_resumed(goods: Shop, read: Read) -> None:
    goods.add(1)
    (queue,) = read("queues", "--pause", "goods")["queues"]
    assert queue["paused"] is True
    goods.work()
    assert read("queues")["queues"][0]["waiting"] == 1
    assert read("queues", "--resume", "goods")["queues"][0]["paused"] is False
    goods.work()
    assert read("tasks", "--status", "scheduled")["tasks"] == []


def test_pause_and_resume_of_one_queue_at_once_is_refused(tq: Tq) -> None:
    tq("queues", "--pause", "goods", "--resume", "goods", code=2)


def test_a_queue_of_which_nothing_is_known_is_refused_unless_forced(goods: Shop, tq: Tq, read: Read) -> None:
    goods.add(1)
    for option in ("--pause", "--resume"):
        assert "nobody serves good, and" in " ".join(tq("queues", option, "good", code=2).stderr.split())
    assert [queue["queue"] for queue in read("queues")["queues"]] == ["goods"]
    assert [queue["queue"] for queue in read("queues", "--pause", "good", "--force")["queues"]] == ["good", "goods"]
    tq("queues", "--resume", "good")


def test_no_queue_at_all_is_said(goods: Shop, tq: Tq) -> None:
    goods.do(lambda handler: handler.backend.queue.counts())
    assert tq("queues").stderr == "no queue holds anything\n"
