"""How many failures a flow bears, and what becomes of the steps that are still under way when it is decided."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from tests.stories.flows import Stage, entries
from tq import Actions, FlowStep, Join, Task, quorum, tolerate
from tq.testing import VirtualClock
from tq.testing.harness import harness

POLICIES: dict[str, tuple[dict[str, Any], int, int]] = {
    "continue": ({}, 4, 4),
    "abort": ({"failure_policy": "abort"}, 0, 4),
    "tolerate 0": ({"failure_policy": tolerate(0)}, 0, 4),
    "tolerate 1": ({"failure_policy": tolerate(1)}, 1, 4),
    "tolerate a half": ({"tolerate": 0.5}, 2, 4),
    "tolerate a share that is no whole number": ({"tolerate": 0.45}, 1, 4),
    "tolerate all": ({"tolerate": 1.0}, 4, 4),
    "quorum 1": ({"failure_policy": quorum(1)}, 3, 1),
    "quorum 2": ({"quorum": 2}, 2, 2),
    "quorum of all": ({"quorum": 4}, 0, 4),
}
"""What is asked for, the failures that four steps may then have, and the successes that they need."""


def foretold(pattern: str, allowed: int, needed: int) -> tuple[str, int]:
    """Return the verdict on steps that end one after the other, "s" or "f" each, and how many have ended by then."""
    for count in range(1, len(pattern) + 1):
        ended = pattern[:count]
        if ended.count("f") > allowed:
            return "aborted", count
        if ended.count("s") >= needed or count == len(pattern):
            return "completed", count
    raise AssertionError(pattern)


@pytest.mark.spec("F-19", "FLOW-15", "FLOW-18", "FLOW-22", "FLOW-23", "D-42", "INV-05", "INV-06", "BAR-02", "BAR-07")
@pytest.mark.parametrize("cancels", [False, True], ids=["siblings run on", "siblings are cancelled"])
@pytest.mark.parametrize("name", POLICIES)
async def test_every_policy_decides_at_the_right_step(url: str, clock: VirtualClock, name: str, cancels: bool) -> None:  # noqa: FBT001 -- drawn
    """Sixteen flows, one for each way in which four steps can end; step n ends after 10·(n+1) seconds."""
    stage, (settings, allowed, needed) = Stage(), POLICIES[name]
    async with harness(stage.executors, url=url, clock=clock) as h:
        flows: dict[str, str] = {}
        for pattern in map("".join, product("sf", repeat=4)):
            orders = [
                {"sleep": 10.0 * (index + 1), **({"result": index} if kind == "s" else {"fail": f"no {index}"})}
                for index, kind in enumerate(pattern)
            ]
            flows[await stage.start(h.handler, orders, cancel_siblings=cancels, **settings)] = pattern
        began = clock.monotonic()
        await h.handler.start()
        await clock.sleep(100)
        assert len(stage.told) == len(flows), "each flow joins once, also when its last step ends long after"
        assert len({told["flow_id"] for told in stage.told}) == len(flows)
        stopped: set[str] = set()
        for told, at in zip(stage.told, stage.told_at, strict=True):
            flow = told["flow_id"]
            pattern = flows[flow]
            verdict, count = foretold(pattern, allowed, needed)
            assert (told["verdict"], told.get("aborted", False)) == (verdict, verdict == "aborted")
            assert at - began == pytest.approx(10 * count, abs=0.5), "at once, not with the last step"
            expected: list[tuple[int, str, Any]] = [
                (index, "success", index) if kind == "s" else (index, "fail", f"no {index}")
                for index, kind in enumerate(pattern[:count])
            ]
            rest = "cancelled" if cancels else "open"
            assert entries(told) == expected + [(index, rest, None) for index in range(count, 4)]
            status = await h.handler.flow(flow).status()
            assert (status.succeeded, status.failed) == (pattern[:count].count("s"), pattern[:count].count("f"))
            assert (status.verdict, status.remaining) == (verdict, 4 - count)
            stopped |= {f"{flow}.{index}" for index in range(count, 4)}
        assert set(stage.cancelled) == (stopped if cancels else set())
        assert set(stage.runs.values()) == {1}
        await h.assert_quiet()


@pytest.mark.spec("F-14")
async def test_siblings_that_have_not_begun_are_cancelled_unrun(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock, concurrency=1) as h:
        orders = [{"fail": "no"}, *[{"sleep": 5.0}] * 50]
        flow = await stage.start(h.handler, orders, failure_policy="abort", cancel_siblings=True)
        await h.handler.start()
        await clock.sleep(60)
        ran = set(stage.ran)
        assert len(ran) < 4, "what was waiting when the verdict fell did not begin"
        assert stage.only["aborted"] is True
        left = [f"{flow}.{index}" for index in range(51) if f"{flow}.{index}" not in ran]
        assert {str(await h.handler.task(step).status()) for step in left} == {"cancelled"}
        await h.assert_quiet()


async def test_without_cancel_siblings_what_waits_still_runs(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock, concurrency=1) as h:
        await stage.start(h.handler, [{"fail": "no"}, *["x"] * 20], failure_policy="abort")
        await h.drain()
        assert len(set(stage.ran)) == 21
        assert stage.only["aborted"] is True
        await h.assert_quiet()


@pytest.mark.spec("FLOW-12", "FLOW-21", "D-42")
async def test_steps_of_several_flows_that_end_together_count_each_for_their_own(url: str, clock: VirtualClock) -> None:
    stage = Stage()

    class Group:
        """Ends the steps of all flows in one pass."""

        def __init__(self) -> None:
            self.sizes: list[int] = []

        async def on_tasks(self, tasks: list[Task[Any]], actions: Actions) -> None:
            self.sizes.append(len(tasks))
            for task in tasks:
                mine = actions.fork_for_task(task)
                if task.payload == "bad":
                    mine.fail(task, "bad")
                else:
                    mine.success(task, task.payload)

    group = Group()
    stage.executors.register("grouped", group, queue="media", chunk_size=100)
    async with harness(stage.executors, url=url, clock=clock) as h:
        plans = [["a", "b"], ["c", "bad", "d"], ["e"]]
        flows: list[str] = []
        for plan, policy in zip(plans, ["continue", "abort", "continue"], strict=True):
            members = [FlowStep("grouped", queue="media", payload=payload) for payload in plan]
            flows.append(await h.handler.start_flow(members, join=Join("join"), failure_policy=policy))
        await h.drain()
        assert max(group.sizes) == 6, "the steps of one type went to the executor together (FLOW-21)"
        told = {it["flow_id"]: it for it in stage.told}
        assert len(stage.told) == 3
        assert entries(told[flows[0]]) == [(0, "success", "a"), (1, "success", "b")]
        assert entries(told[flows[1]]) == [(0, "success", "c"), (1, "fail", "bad"), (2, "success", "d")], (
            "all that ended in the pass is recorded before the flow is aborted (D-42)"
        )
        assert told[flows[1]]["aborted"] is True
        assert entries(told[flows[2]]) == [(0, "success", "e")]


@pytest.mark.spec("FLOW-03")
async def test_a_policy_says_itself_in_words(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        asked: list[tuple[dict[str, Any], str]] = [
            ({}, "continue"),
            ({"failure_policy": "abort"}, "abort"),
            ({"tolerate": 0.25}, "tolerate=0.25"),
            ({"quorum": 1}, "quorum=1"),
        ]
        for settings, words in asked:
            flow = await stage.start(h.handler, [1], **settings)
            assert words in str(await h.handler.flow(flow).explain())
            await h.drain()
            assert stage.joins[-1].flow_meta is not None
            assert stage.joins[-1].flow_meta["failure_policy"] == words
