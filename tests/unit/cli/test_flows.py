"""`tq flows` lists flows; `tq flow` shows one, cancels it, or runs its failures again."""

from collections.abc import Callable
from typing import Any

from tests.unit.cli.conftest import Shop, Tq

Read = Callable[..., dict[str, Any]]


def test_an_open_flow_names_what_is_missing_and_what_comes_next(goods: Shop, read: Read, tq: Tq) -> None:
    flow = goods.start_flow(1, 2, -3)
    found = read("flow", flow)
    assert found["status"] == "open"
    assert found["members"] == {"success": 0, "fail": 0, "cancelled": 0, "missing": 3}
    assert [(one["index"], one["standing"]) for one in found["waiting"]] == [
        (0, "waiting"),
        (1, "waiting"),
        (2, "waiting"),
    ]
    assert found["join"] == {"id": f"{flow}.join", "type": "shop.send", "queue": "post", "status": None}
    text = tq("flow", flow).stdout
    assert text.startswith(f"flow {flow} is open: continue, started ")
    assert "├── 3 missing" in text
    assert "└── join shop.send on post: held back" in text


def test_a_closed_flow_names_its_failures_and_its_join(goods: Shop, read: Read, tq: Tq) -> None:
    flow = goods.start_flow(1, 2, -3)
    goods.work()
    found = read("flow", flow)
    assert (found["status"], found["succeeded"], found["failed"], found["missing"]) == ("completed", 2, 1, 0)
    assert found["failures"] == [
        {"index": 2, "id": f"{flow}.2", "status": "fail", "error": "there are no -3 goods\nto be packed"}
    ]
    assert found["join"]["status"] == "executed"
    assert found["entity"] == {"type": "Order", "id": "o-1"}
    assert "step 2 fail there are no -3 goods…" in tq("flow", flow).stdout


def test_flows_are_listed_newest_first_in_pages(goods: Shop, read: Read, tq: Tq) -> None:
    old, new = goods.start_flow(1), goods.start_flow()
    page = read("flows", "--limit", "1")
    assert [flow["id"] for flow in page["flows"]] == [new]
    rest = read("flows", "--after", page["next"])
    assert [flow["id"] for flow in rest["flows"]] == [old]
    assert rest["next"] is None
    assert [flow["id"] for flow in read("flows", "--open")["flows"]] == [old]
    assert [flow["id"] for flow in read("flows", "--closed")["flows"]] == [new]
    assert tq("flows").stdout.splitlines()[1].split()[:2] == [new, "completed"]


def test_the_keys_of_a_flow_are_those_that_the_help_promises(goods: Shop, read: Read, tq: Tq) -> None:
    goods.start_flow(1)
    told = " ".join(tq("flows", "--help").stdout.split())
    for key in read("flows")["flows"][0]:
        assert key in told


def test_cancel_closes_a_flow_once(goods: Shop, read: Read, tq: Tq) -> None:
    flow = goods.start_flow(1)
    found = read("flow", flow, "--cancel")
    assert (found["status"], found["reason"]) == ("cancelled", "cancelled from the command line")
    assert "it was closed already" in tq("flow", flow, "--cancel").stderr


def test_redrive_runs_what_did_not_succeed_again(goods: Shop, read: Read, tq: Tq) -> None:
    flow = goods.start_flow(1, -1)
    goods.work()
    assert "1 members run again" in tq("flow", flow, "--redrive").stderr
    found = read("flow", flow)
    assert (found["status"], found["generation"], found["missing"]) == ("open", 1, 1)


def test_what_cannot_be_redriven_is_said_in_one_line(goods: Shop, tq: Tq) -> None:
    flow = goods.start_flow(1)
    assert tq("flow", flow, "--redrive", code=1).stderr.count("\n") == 1
    tq("flow", flow, "--redrive", "--cancel", code=2)


def test_an_unknown_flow_is_said_in_one_line(goods: Shop, tq: Tq) -> None:
    goods.work()
    assert tq("flow", "nobody", code=1).stderr == (
        "tq: nothing is stored about flow nobody: it never began, or was forgotten\n"
    )
    assert tq("flows").stderr == "no such flows\n"
