"""A flow explained in plain words."""

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.flow.doubles import NOW, Server, request_of
from tests.unit.flow.test_reconcile import end, record_of, start
from tq.errors import UnknownFlowError
from tq.flow import explain
from tq.ids import join_id, step_id
from tq.model import Mark, State, StepStatus, TaskStatus, Verdict

AT_NOW = "2030-03-17 17:46:40+00:00"


async def text(server: Server, now: float = NOW + 30) -> str:
    return str(await explain(server.port, "f", now))


def put(server: Server, index: int, **fields: Any) -> None:
    live = server.queue.live[step_id("f", index)]
    server.queue.live[step_id("f", index)] = live._replace(**fields)


async def test_an_open_flow_says_since_when_what_is_missing_and_what_comes_next() -> None:
    server = Server()
    await start(server, 3, timeout=300.0)
    end(server, 0)
    told = await explain(server.port, "f", NOW + 30)
    assert (told.total, told.succeeded, told.failed, told.remaining) == (3, 1, 0, 2)
    assert [member.index for member in told.members] == [1, 2]
    words = str(told)
    assert f"Flow f is open since {AT_NOW} (continue): 1 of 3 succeeded, 0 failed, 2 missing." in words
    assert f"step 1 (resize on media) is due since {AT_NOW} and waits for a worker" in words
    assert "completes when nobody is missing: now 2." in words
    assert "deadline is 2030-03-17 17:51:40+00:00" in words


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"run_at": NOW + 60}, "waits until 2030-03-17 17:47:40"),
        ({"attempt": 2, "run_at": NOW + 60}, "is retried: attempt 3 is due at 2030-03-17 17:47:40"),
        (
            {"state": State.RUNNING, "token": "w7:1", "lease_until": NOW + 60},
            "runs at worker w7, attempt 1, under a lease until 2030-03-17 17:47:40",
        ),
        (
            {"state": State.RUNNING, "token": "w7:1", "lease_until": NOW},
            f"was left by worker w7 at {AT_NOW}",
        ),
        ({"state": State.HELD, "held_by": "g"}, "waits for its own flow g"),
    ],
)
async def test_a_missing_member_is_where_it_is(fields: dict[str, Any], words: str) -> None:
    server = Server()
    await start(server, 1)
    put(server, 0, **fields)
    assert words in await text(server)


async def test_a_member_in_the_store_is_found_there() -> None:
    server = Server()
    await start(server, 1)
    server.store.live[step_id("f", 0)] = server.queue.live.pop(step_id("f", 0))
    assert "waits for a worker" in await text(server)


async def test_a_dead_letter_that_was_not_counted_is_named_with_its_error() -> None:
    server = Server()
    await start(server, 1)
    server.queue.live.clear()
    server.kept[step_id("f", 0)] = record_of(0, TaskStatus.FAILED, dead=True, error="boom")
    assert "ended as dead letter (boom) at 2030-03-17 17:46:50+00:00 and is not counted yet" in await text(server)


async def test_a_member_that_is_nowhere_is_said_to_be_nowhere() -> None:
    server = Server()
    await start(server, 1)
    server.queue.live.clear()
    assert "step 0 (resize) is nowhere to be found" in await text(server)


async def test_of_many_missing_members_twenty_are_listed_and_the_rest_counted() -> None:
    server = Server()
    await start(server, 120)
    end(server, *range(50))
    told = await explain(server.port, "f", NOW + 30)
    assert [member.index for member in told.members] == list(range(50, 70))
    assert told.more == 50
    assert "and 50 more" in str(told)


async def test_missing_members_are_found_far_into_a_wide_flow_and_in_its_plan() -> None:
    server = Server()
    await start(server, 6000)
    end(server, *range(5995))
    words = await text(server)
    assert "step 5999 (resize) stands in the plan and is not written yet" in words
    assert "12 of 12 parts of its plan are still to be written" in words


async def test_a_quorum_says_how_many_successes_and_failures_are_left() -> None:
    server = Server()
    await start(server, 5, quorum=3)
    server.barrier.mark(Mark("f", 0, StepStatus.SUCCESS), Mark("f", 1, StepStatus.FAIL, 0, None, "boom"))
    words = await text(server)
    assert "completes at 3 successes, 2 more than now" in words
    assert "aborted at 3 failures, 2 more than now" in words
    assert "has no deadline" in words


async def test_a_closed_flow_says_why_and_where_its_join_is() -> None:
    server = Server()
    state = await start(server, 3, policy="abort", cancel_siblings=True)
    server.barrier.mark(Mark("f", 1, StepStatus.FAIL, 0, None, "boom"))
    server.barrier.states["f"] = replace(server.barrier.states["f"], trigger=1)
    words = await text(server)
    assert f"Flow f was aborted at {AT_NOW}, by step 1: 0 of 3 succeeded, 1 failed, 2 missing." in words
    assert f"Its join {join_id('f', 0)} (publish on default) is about to be sent." in words
    assert "2 members that had not ended are being cancelled" in words
    server.add(state.flow.join)
    assert "(publish on default) is due since" in await text(server)
    running = server.queue.live[state.flow.join.id]
    server.queue.live[state.flow.join.id] = running._replace(state=State.RUNNING, token="w2:5", lease_until=NOW + 60)
    assert "(publish on default) runs at worker w2" in await text(server)


async def test_the_end_of_a_join_is_told_as_far_as_it_was_kept() -> None:
    server = Server()
    await start(server, 1)
    end(server, 0)
    server.barrier.states["f"] = replace(server.barrier.states["f"], confirmed=True)
    assert "was sent and has ended; nothing of it was kept" in await text(server)
    server.kept[join_id("f", 0)] = record_of(0, TaskStatus.FAILED, error="boom")
    assert "ended as failed at 2030-03-17 17:46:50+00:00: boom." in await text(server)


async def test_a_cancelled_flow_says_the_reason() -> None:
    server = Server()
    await start(server, 1)
    server.barrier.close("f", Verdict.CANCELLED, "no longer wanted")
    assert "was cancelled" in await text(server)
    assert "because no longer wanted" in await text(server)


async def test_a_later_generation_is_named() -> None:
    server = Server()
    state = await start(server, 1)
    server.barrier.states["f"] = replace(state, flow=replace(state.flow, generation=2))
    assert "(continue, generation 2)" in await text(server)


async def test_an_unknown_flow_is_an_error_that_says_so() -> None:
    with pytest.raises(UnknownFlowError, match="never began, or was forgotten"):
        await explain(Server().port, "f", NOW)


async def test_a_flow_of_no_steps_is_explained_too() -> None:
    server = Server()
    effects = request_of(0)
    assert effects.members == ()
    await start(server, 0)
    assert "Flow f was completed" in await text(server)
