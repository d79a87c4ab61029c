"""Flows that are ended by deadline or cancel, and their rows."""

from dataclasses import replace

import pytest

from tests.unit.flow.doubles import NOW, Server, request_of
from tests.unit.flow.test_plan import ITEM
from tq.errors import MissingPortError
from tq.flow import close_flows, plan_flow, verdict_rows
from tq.ids import join_id
from tq.model import Batch, Effects, Mark, StepStatus, TaskStatus, Verdict


async def start(server: Server, *ids: str) -> None:
    for id in ids:
        effects = plan_flow(request_of(2, id=id, entity=ITEM), now=NOW, origin=None, parent=None)
        await server.commit(Batch(effects=[effects]))


@pytest.mark.parametrize("atomic", [True, False])
async def test_a_cancel_closes_the_flow_and_sends_its_join(atomic: bool) -> None:  # noqa: FBT001 -- both kinds
    server = Server(atomic=atomic)
    await start(server, "f")
    (state,) = await close_flows(server.port, [("f", Verdict.CANCELLED, "no longer wanted")], NOW + 5)
    assert (state.id, state.verdict, state.reason) == ("f", Verdict.CANCELLED, "no longer wanted")
    assert join_id("f", 0) in server.sent
    (row,) = server.written[-1].projections
    assert (row.task_id, row.status, row.error) == ("f", TaskStatus.CANCELLED, "flow_cancelled")


@pytest.mark.spec("D-43", "BAR-06", "FLOW-23", "FLOW-25")
@pytest.mark.parametrize("atomic", [True, False])
async def test_a_flow_that_is_closed_stays_as_it_is(atomic: bool) -> None:  # noqa: FBT001 -- as above
    server = Server(atomic=atomic)
    await start(server, "f")
    server.barrier.mark(Mark("f", 0, StepStatus.SUCCESS), Mark("f", 1, StepStatus.SUCCESS))
    assert await close_flows(server.port, [("f", Verdict.CANCELLED, "")], NOW) == []
    assert server.barrier.states["f"].verdict is Verdict.COMPLETED
    assert await close_flows(server.port, [("unknown", Verdict.CANCELLED, "")], NOW) == []


@pytest.mark.spec("D-43")
async def test_a_second_caller_is_told_nothing_new() -> None:
    server = Server()
    await start(server, "f")
    assert len(await close_flows(server.port, [("f", Verdict.CANCELLED, "one")], NOW)) == 1
    assert await close_flows(server.port, [("f", Verdict.TIMED_OUT, "two")], NOW) == []
    assert server.barrier.states["f"].reason == "one"


@pytest.mark.spec("D-44", "FLOW-30")
async def test_steps_of_the_same_pass_come_before_a_deadline() -> None:
    server = Server()
    await start(server, "f")
    marks = tuple(Mark("f", index, StepStatus.SUCCESS) for index in range(2))
    late = Effects(verdicts=(("f", Verdict.TIMED_OUT, ""),))
    await server.commit(Batch(effects=[late, Effects(marks=marks)]))
    assert server.barrier.states["f"].verdict is Verdict.COMPLETED


async def test_nothing_to_close_asks_nobody() -> None:
    server = Server()
    assert await close_flows(server.port, [], NOW) == []
    assert server.written == []


async def test_without_a_barrier_the_missing_part_is_named() -> None:
    server = Server()
    server.barrier = None  # type: ignore[assignment]
    with pytest.raises(MissingPortError, match="barrier="):
        await close_flows(server.port, [("f", Verdict.CANCELLED, "")], NOW)


@pytest.mark.spec("FLOW-27", "D-50")
def test_only_verdicts_short_of_complete_write_a_row() -> None:
    server = Server()
    effects = plan_flow(request_of(2, entity=ITEM), now=NOW, origin=None, parent=None)
    state = server.barrier.open(effects.flows[0])
    shown = {
        verdict: [(row.status, row.error) for row in verdict_rows([replace(state, verdict=verdict)], NOW)]
        for verdict in (None, *Verdict)
    }
    assert shown == {
        None: [],
        Verdict.COMPLETED: [],
        Verdict.ABORTED: [(TaskStatus.FAILED, "flow_aborted")],
        Verdict.TIMED_OUT: [(TaskStatus.FAILED, "flow_timeout")],
        Verdict.CANCELLED: [(TaskStatus.CANCELLED, "flow_cancelled")],
    }
