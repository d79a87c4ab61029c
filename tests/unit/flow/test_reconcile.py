"""What the reconciler derives from what is stored."""

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.flow.doubles import NOW, Server, place_of, request_of
from tq.clock import SystemClock
from tq.codec import dumps, message_of
from tq.errors import BackendUnavailableError, InvalidInputError
from tq.flow import Reconciler, plan_flow, split_wide
from tq.flow.membership import generation_stats
from tq.flow.waiting import waiting_note
from tq.ids import join_id, step_id
from tq.model import (
    Batch,
    Deferred,
    Ended,
    Entity,
    FlowState,
    Keep,
    Mark,
    Member,
    Record,
    State,
    StepStatus,
    Task,
    TaskStatus,
    Verdict,
)

LATER = NOW + 1000.0


def reconciler(server: Server, **settings: Any) -> Reconciler:
    return Reconciler(server.port, SystemClock(), **settings)


async def start(server: Server, count: int = 3, **fields: Any) -> FlowState:
    """Start a flow as a worker does: chunks first, then the seal."""
    settings = dict(fields)
    parent = settings.pop("parent", None)
    effects = plan_flow(request_of(count, **settings), now=NOW, origin=None, parent=parent)
    preparatory, seal = split_wide(effects)
    for part in (*preparatory, seal):
        await server.commit(Batch(effects=[part]))
    return server.barrier.states[settings.get("id", "f")]


def end(server: Server, *indexes: int, flow: str = "f") -> None:
    """Let members end and count, as their workers do."""
    for index in indexes:
        server.queue.live.pop(step_id(flow, index), None)
    server.barrier.mark(*[Mark(flow, index, StepStatus.SUCCESS) for index in indexes])


def record_of(index: int, status: TaskStatus = TaskStatus.EXECUTED, **fields: Any) -> Record:
    return Record(step_id("f", index), "media", "resize", status, NOW + 10, NOW + 1e6)._replace(**fields)


# --- deadlines --------------------------------------------------------------------------------------------------------


@pytest.mark.spec("FLOW-24", "D-45", "D-46")
@pytest.mark.parametrize("atomic", [True, False])
async def test_a_deadline_closes_the_flow_and_sends_its_join(atomic: bool) -> None:  # noqa: FBT001 -- both kinds
    server = Server(atomic=atomic)
    await start(server, timeout=60.0)
    early = await reconciler(server).tick_due(NOW + 59)
    assert early.closed == []
    tick = await reconciler(server).tick_due(NOW + 60)
    assert [state.verdict for state in tick.closed] == [Verdict.TIMED_OUT]
    assert join_id("f", 0) in server.sent
    assert server.barrier.states["f"].verdict is Verdict.TIMED_OUT


@pytest.mark.spec("FLOW-25", "D-43")
@pytest.mark.parametrize("atomic", [True, False])
async def test_a_deadline_after_the_end_does_nothing(atomic: bool) -> None:  # noqa: FBT001 -- as above
    server = Server(atomic=atomic)
    await start(server, timeout=60.0)
    end(server, 0, 1, 2)
    for _ in range(3):
        tick = await reconciler(server).tick_due(LATER)
        assert tick.closed == []
    assert server.barrier.states["f"].verdict is Verdict.COMPLETED


@pytest.mark.spec("FLOW-27")
async def test_a_flow_with_an_entity_is_shown_as_failed_when_its_deadline_passes() -> None:
    server = Server()
    await start(server, timeout=60.0, entity=Entity("Item", "i"))
    await reconciler(server).tick_due(LATER)
    (row,) = server.written[-1].projections
    assert (row.task_id, row.status, row.error) == ("f", TaskStatus.FAILED, "flow_timeout")


# --- joins ------------------------------------------------------------------------------------------------------------


@pytest.mark.spec("D-40", "INV-05", "FLOW-23")
@pytest.mark.parametrize("atomic", [True, False])
async def test_a_join_that_nobody_sent_is_sent_once(atomic: bool) -> None:  # noqa: FBT001 -- as above
    """The worker died between the last mark and the join."""
    server = Server(atomic=atomic)
    await start(server)
    end(server, 0, 1, 2)
    assert join_id("f", 0) not in server.sent
    first = await reconciler(server).tick_due(LATER)
    assert first.dispatched == 1
    assert server.sent[join_id("f", 0)].run_at == LATER
    server.sent.clear()
    again = await reconciler(server).tick_due(LATER)
    assert again.dispatched == 0
    assert not server.sent


async def test_a_join_that_is_on_its_way_is_not_sent_twice() -> None:
    server = Server()
    state = await start(server)
    end(server, 0, 1, 2)
    server.add(state.flow.join)
    server.sent.clear()
    await reconciler(server).tick_due(LATER)
    assert not server.sent
    assert server.barrier.states["f"].confirmed


@pytest.mark.spec("D-41")
async def test_a_join_that_is_refused_does_not_hold_back_the_others() -> None:
    server = Server()
    for id in "abcde":
        await start(server, 1, id=id)
        end(server, 0, flow=id)
    server.refuse = {join_id("c", 0)}
    tick = await reconciler(server).tick_due(LATER)
    assert tick.dispatched == 4
    assert {id for id in "abcde" if server.barrier.states[id].confirmed} == set("abde")
    server.refuse.clear()
    assert (await reconciler(server).tick_due(LATER)).dispatched == 1


# --- wide plans -------------------------------------------------------------------------------------------------------


async def test_a_sealed_plan_is_spread_in_chunks_with_the_place_kept() -> None:
    server = Server()
    members = [Member("resize", "media", b"1", Entity("Image", "i") if n == 700 else None) for n in range(1200)]
    await start(server, members=members)
    assert not server.sent
    small = reconciler(server, members=500)
    first = await small.tick_due(NOW + 1)
    assert first.more
    assert first.spread == 400
    assert server.barrier.states["f"].spread == 1
    while (await reconciler(server, members=500).tick_due(NOW + 2)).spread:
        pass
    assert len(server.sent) == 1200
    rows = [row for effects in server.written for row in effects.projections]
    assert [(row.task_id, row.status) for row in rows] == [(step_id("f", 700), TaskStatus.SCHEDULED)]


async def test_spreading_twice_writes_nobody_twice() -> None:
    server = Server()
    await start(server, 1200)
    await reconciler(server).tick_due(NOW + 1)
    server.barrier.states["f"] = replace(server.barrier.states["f"], spread=0)  # the note of it was lost
    before = dict(server.queue.live)
    await reconciler(server).tick_due(NOW + 2)
    assert server.queue.live == before


async def test_a_chunk_that_is_gone_does_not_hold_up_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    server = Server()
    state = await start(server, 1200)
    del server.chunks[(state.flow.plan, 1)]
    await reconciler(server).tick_due(NOW + 1)
    assert len(server.sent) == 800
    assert server.barrier.states["f"].spread == 3
    assert "chunk 1 of the plan of flow f is gone" in caplog.text


async def test_members_of_a_cancelled_flow_are_not_begun() -> None:
    server = Server()
    await start(server, 1200)
    server.barrier.close("f", Verdict.CANCELLED)
    await reconciler(server).tick_due(NOW + 1)
    assert set(server.sent) == {join_id("f", 0)}
    assert (await reconciler(server).tick_due(NOW + 2)).spread == 0


# --- cancelling members -----------------------------------------------------------------------------------------------


async def test_members_that_have_not_ended_are_cancelled_once_with_the_flow() -> None:
    server = Server()
    await start(server, 5)
    end(server, 1, 3)
    server.store.live[step_id("f", 4)] = server.queue.live.pop(step_id("f", 4))
    server.barrier.close("f", Verdict.CANCELLED)
    tick = await reconciler(server).tick_due(LATER)
    assert tick.cancelled == 3
    assert server.cancelled == [step_id("f", index) for index in (0, 2, 4)]
    assert server.barrier.states["f"].tidied
    assert (await reconciler(server).tick_due(LATER)).cancelled == 0


@pytest.mark.parametrize("cancel_siblings", [True, False])
async def test_an_aborted_flow_cancels_its_siblings_only_if_asked(cancel_siblings: bool) -> None:  # noqa: FBT001 -- both
    server = Server()
    await start(server, 3, policy="abort", cancel_siblings=cancel_siblings)
    server.barrier.mark(Mark("f", 0, StepStatus.FAIL, 0, None, "boom"))
    server.queue.live.pop(step_id("f", 0))
    await reconciler(server).tick_due(LATER)
    assert server.cancelled == ([step_id("f", 1), step_id("f", 2)] if cancel_siblings else [])


async def test_members_of_a_flow_whose_deadline_passed_are_cancelled_if_asked_at_the_next_tick() -> None:
    server = Server()
    await start(server, 2, timeout=60.0, cancel_siblings=True)
    first = await reconciler(server).tick_due(LATER)
    assert first.more, "so that it comes soon"
    assert (await reconciler(server).tick_due(LATER)).cancelled == 2


async def test_nobody_is_looked_for_where_everybody_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    await start(server, 3, cancel_siblings=True)
    end(server, 0, 1, 2)
    looked: list[object] = []
    monkeypatch.setattr("tq.flow.reconcile.cancel_members", looked.append)
    await reconciler(server).tick_due(LATER)
    assert looked == []
    assert server.barrier.states["f"].tidied


async def test_cancelling_goes_on_where_the_last_tick_stopped() -> None:
    server = Server()
    await start(server, 50)
    server.barrier.close("f", Verdict.CANCELLED)
    small = reconciler(server, members=20)
    found: list[tuple[int, bool]] = []
    for _ in range(3):
        tick = await small.tick_due(LATER)
        found.append((tick.cancelled, tick.more))
    assert found == [(20, True), (20, True), (10, False)]
    assert server.barrier.states["f"].tidied


async def test_a_cancel_reaches_the_flow_that_a_member_waits_for() -> None:
    server = Server()
    await start(server, 2)
    waiting = Task[Any](type="resize", id=step_id("f", 1), metadata={"flow_meta": {"flow_id": "f", "step_index": 1}})
    ended = Ended(task=waiting, outcome=Deferred("inner"), final=False, now=NOW)
    await start(server, 2, id="inner", parent=ended)
    held = server.queue.live.pop(step_id("f", 1))
    server.store.live[held.id] = held._replace(state=State.HELD, held_by="inner")
    server.barrier.close("f", Verdict.CANCELLED)
    await reconciler(server).tick_due(LATER)
    inner = server.barrier.states["inner"]
    assert inner.verdict is Verdict.CANCELLED
    assert "flow f" in inner.reason
    assert join_id("inner", 0) in server.sent


# --- members that nobody has heard of ---------------------------------------------------------------------------------


async def test_flows_that_were_opened_just_now_are_left_alone() -> None:
    server = Server()
    await start(server)
    server.queue.live.clear()
    server.kept[step_id("f", 0)] = record_of(0)
    assert (await reconciler(server, quiet_after=60.0).tick_quiet(NOW + 60)).repairs == 0
    assert (await reconciler(server, quiet_after=60.0).tick_quiet(NOW + 61)).marked == 1


async def test_members_that_are_alive_are_nobody_s_business() -> None:
    server = Server()
    await start(server)
    server.store.live[step_id("f", 2)] = server.queue.live.pop(step_id("f", 2))
    assert (await reconciler(server).tick_quiet(LATER * 2)).repairs == 0
    assert server.barrier.states["f"].remaining == 3


@pytest.mark.spec("D-41", "D-47")
@pytest.mark.parametrize(
    ("status", "marked"),
    [
        (TaskStatus.EXECUTED, StepStatus.SUCCESS),
        (TaskStatus.FAILED, StepStatus.FAIL),
        (TaskStatus.EXPIRED, StepStatus.FAIL),
        (TaskStatus.IGNORED, StepStatus.FAIL),
        (TaskStatus.CANCELLED, StepStatus.CANCELLED),
    ],
)
async def test_a_member_that_ended_uncounted_is_counted_from_its_record(
    status: TaskStatus, marked: StepStatus, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server()
    await start(server)
    server.queue.live.pop(step_id("f", 1))
    server.kept[step_id("f", 1)] = record_of(1, status, result=b"7" if status is TaskStatus.EXECUTED else None)
    tick = await reconciler(server).tick_quiet(LATER)
    assert (tick.marked, tick.repairs) == (1, 1)
    step = server.barrier.results["f"][1]
    assert step.status is marked
    assert step.result == (b"7" if status is TaskStatus.EXECUTED else None)
    assert step_id("f", 1) in caplog.text


async def test_in_the_first_generation_a_record_counts_whatever_the_clocks_say() -> None:
    """Records carry a worker's time, flows that of another: a little behind is not an earlier generation."""
    server = Server()
    await start(server)
    server.queue.live.pop(step_id("f", 1))
    server.kept[step_id("f", 1)] = record_of(1, TaskStatus.FAILED, body=b"body", at=NOW - 5)
    tick = await reconciler(server).tick_quiet(LATER)
    assert (tick.marked, tick.revived) == (1, 0)


async def test_the_last_mark_that_was_lost_closes_the_flow_when_it_is_found() -> None:
    server = Server()
    await start(server)
    end(server, 0, 2)
    server.queue.live.clear()
    server.kept[step_id("f", 1)] = record_of(1, TaskStatus.FAILED, error="boom")
    tick = await reconciler(server).tick_quiet(LATER)
    assert [state.id for state in tick.closed] == ["f"]
    assert join_id("f", 0) in server.sent


async def test_a_member_that_ends_while_it_is_looked_for_is_not_repaired() -> None:
    """It is gone from the queue because it ended a moment ago; it is counted, and must not run or fail again."""
    server = Server()
    await start(server, 1200)
    await reconciler(server).tick_due(NOW + 1)

    def ends() -> None:
        end(server, 5)

    server.queue.live.pop(step_id("f", 5))
    server.after_locate = ends  # type: ignore[method-assign]
    server.sent.clear()
    tick = await reconciler(server, lost_after=0.0).tick_quiet(LATER)
    assert tick.repairs == 0
    assert not server.sent


async def test_the_members_of_a_flow_are_looked_for_together() -> None:
    server = Server()
    await start(server, 1200)
    await reconciler(server).tick_due(NOW + 1)
    server.queue.live.clear()
    server.barrier.calls.clear()
    assert (await reconciler(server).tick_quiet(LATER)).respread == 1200
    assert len(server.barrier.calls) < 20, "not one call for each of them"


async def test_a_member_that_is_nowhere_is_written_again_from_the_plan() -> None:
    server = Server()
    await start(server, 1200)
    await reconciler(server).tick_due(NOW + 1)
    for index in (7, 450, 1199):
        server.queue.live.pop(step_id("f", index))
    tick = await reconciler(server).tick_quiet(LATER)
    assert tick.respread == 3
    assert len(server.queue.live) == 1200
    assert server.queue.live[step_id("f", 450)].run_at == LATER


async def test_a_member_that_still_stands_in_the_plan_is_not_missed() -> None:
    server = Server()
    await start(server, 1200)
    await reconciler(server, members=500).tick_due(NOW + 1)
    tick = await reconciler(server, lost_after=0.0).tick_quiet(LATER)
    assert tick.repairs == 0
    assert len(server.sent) == 400


async def test_a_member_that_is_nowhere_without_a_plan_is_lost_after_a_longer_grace(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = Server()
    await start(server)
    server.queue.live.pop(step_id("f", 1))
    assert (await reconciler(server).tick_quiet(NOW + 3599)).repairs == 0
    tick = await reconciler(server).tick_quiet(NOW + 3600)
    assert tick.lost == 1
    step = server.barrier.results["f"][1]
    assert step.status is StepStatus.FAIL
    assert step.error is not None
    assert step.error.startswith("lost:")
    assert "nowhere to be found" in caplog.text


@pytest.mark.spec("FLOW-27")
async def test_a_flow_that_a_repair_aborts_is_shown_as_aborted() -> None:
    server = Server()
    await start(server, policy="abort", entity=Entity("Item", "i"))
    server.queue.live.pop(step_id("f", 1))
    tick = await reconciler(server).tick_quiet(NOW + 3600)
    assert [state.verdict for state in tick.closed] == [Verdict.ABORTED]
    (row,) = server.written[-1].projections
    assert (row.task_id, row.error) == ("f", "flow_aborted")


async def test_nobody_is_called_lost_where_the_queue_cannot_tell() -> None:
    server = Server(locates=False)
    await start(server)
    server.queue.live.pop(step_id("f", 1))
    assert (await reconciler(server).tick_quiet(NOW + 1e6)).repairs == 0
    server.kept[step_id("f", 1)] = record_of(1)
    assert (await reconciler(server).tick_quiet(NOW + 1e6)).marked == 1, "a record tells, also there"


# --- later generations ------------------------------------------------------------------------------------------------


async def redriven(server: Server) -> None:
    """Flow f in generation 1, opened at NOW + 100, its only missing member not alive."""
    state = await start(server)
    flow = replace(state.flow, generation=1, deadline=LATER * 2)
    end(server, 0, 2)
    server.queue.live.clear()
    server.barrier.states["f"] = replace(server.barrier.states["f"], flow=flow, opened_at=NOW + 100)


@pytest.mark.parametrize("stats", [b"", dumps({}), dumps({"retry_count": 2})])
async def test_an_old_failure_is_run_again_where_the_redrive_did_not(stats: bytes) -> None:
    server = Server()
    await redriven(server)
    server.kept[step_id("f", 1)] = record_of(1, TaskStatus.FAILED, body=b"body", stats=stats)
    tick = await reconciler(server).tick_quiet(LATER)
    assert (tick.revived, tick.marked) == (1, 0)
    message = server.sent[step_id("f", 1)]
    assert message.generation == 1
    assert message.stats == generation_stats(1, LATER * 2)


async def test_an_old_failure_that_another_reconciler_revives_at_the_same_instant_is_not_counted() -> None:
    server = Server()
    await redriven(server)
    server.kept[step_id("f", 1)] = record_of(1, TaskStatus.FAILED, body=b"body")

    def other() -> None:
        server.kept.clear()  # this one has read the record already, and finds nothing to revive any more

    server.after_records = other  # type: ignore[method-assign]
    tick = await reconciler(server).tick_quiet(LATER)
    assert (tick.repairs, tick.closed) == (0, [])
    assert server.barrier.states["f"].remaining == 1


async def test_a_failure_of_the_present_generation_counts() -> None:
    server = Server()
    await redriven(server)
    stats = dumps({"flow_generation": 1})
    server.kept[step_id("f", 1)] = record_of(1, TaskStatus.FAILED, body=b"body", stats=stats, at=NOW + 99)
    assert (await reconciler(server).tick_quiet(LATER)).marked == 1


async def test_an_old_success_counts() -> None:
    server = Server()
    await redriven(server)
    server.kept[step_id("f", 1)] = record_of(1, result=b"1", body=b"body")
    assert (await reconciler(server).tick_quiet(LATER)).marked == 1
    assert server.barrier.results["f"][1].status is StepStatus.SUCCESS


async def test_an_old_failure_that_cannot_be_run_again_counts_lest_the_flow_hang() -> None:
    server = Server()
    await redriven(server)
    server.kept[step_id("f", 1)] = record_of(1, TaskStatus.FAILED, body=None)
    assert (await reconciler(server).tick_quiet(LATER)).marked == 1


# --- how much one tick does -------------------------------------------------------------------------------------------


async def test_open_flows_are_gone_through_page_by_page_not_read_again_at_every_tick() -> None:
    server = Server()
    for number in range(25):
        await start(server, 1, id=f"f{number:02}")
    looker = reconciler(server, page=10)
    seen: list[list[str]] = []
    for _ in range(4):
        server.barrier.calls.clear()
        await looker.tick_quiet(LATER)
        seen.append([call.split()[1] for call in server.barrier.calls if call.startswith("get_step_results")])
    names = [f"f{number:02}" for number in range(25)]
    assert seen == [names[:10], names[10:20], names[20:], names[:10]]


async def test_a_large_flow_is_looked_over_in_several_ticks() -> None:
    server = Server()
    await start(server, 450, id="a")
    await start(server, 10, id="b")
    server.queue.live.pop(step_id("b", 3))
    server.queue.live.pop(step_id("a", 449))
    looker = reconciler(server, members=200, lost_after=0.0)
    assert [(await looker.tick_quiet(LATER)).lost for _ in range(4)] == [0, 0, 2, 0]


async def test_trouble_with_one_flow_stays_there(caplog: pytest.LogCaptureFixture) -> None:
    server = Server()
    await start(server, 600, id="a")
    await start(server, 600, id="b")
    server.refuse = {step_id("a", 0)}
    tick = await reconciler(server).tick_due(NOW + 1)
    assert tick.spread == 600
    assert "flow a could not be carried on" in caplog.text


async def test_a_server_that_is_away_is_left_to_the_next_tick() -> None:
    server = Server()
    await start(server, 600)

    async def away(plan: str, number: int) -> None:
        raise BackendUnavailableError("away")

    server.store.chunk = away  # type: ignore[method-assign]
    with pytest.raises(BackendUnavailableError):
        await reconciler(server).tick_due(NOW + 1)


async def test_without_a_given_instant_the_clock_is_asked() -> None:
    server = Server()
    await start(server, timeout=60.0)
    clock = SystemClock()
    assert clock.now() < NOW, "the doubles live in the future"
    assert (await reconciler(server).tick_due()).closed == []
    assert (await reconciler(server).tick_quiet()).repairs == 0


def test_a_negative_grace_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="quiet_after"):
        reconciler(Server(), quiet_after=-1.0)


# --- held tasks -------------------------------------------------------------------------------------------------------


def waiting(task_id: str = "p-1", **fields: Any) -> Ended:
    """Return the ending of a task that waits for flow "inner"."""
    task = Task[Any](type="t", id=task_id, entity=Entity("Item", "i"), fence=2, **fields)
    body = message_of(task, b'{"item":1}', NOW).body
    return Ended(task=task, outcome=Deferred("inner"), final=False, now=NOW, keep=Keep(on_success=True), body=body)


async def over(server: Server, task_id: str = "p-1", *, parent: Ended | None = None, **record: Any) -> None:
    """A task is held by flow "inner", whose join ended before."""
    await start(server, 1, id="inner", parent=parent)
    end(server, 0, flow="inner")
    inner = server.barrier.states["inner"]
    server.barrier.states["inner"] = replace(inner, confirmed=True, closed_at=NOW + 10)
    place = place_of(inner.flow.join)._replace(id=task_id, state=State.HELD, held_by="inner", generation=0)
    server.store.live[task_id] = place
    if record:
        server.kept[join_id("inner", 0)] = record_of(0)._replace(task_id=join_id("inner", 0), **record)


ENDINGS: list[tuple[dict[str, Any], TaskStatus]] = [
    ({}, TaskStatus.EXECUTED),
    ({"result": b"7"}, TaskStatus.EXECUTED),
    ({"status": TaskStatus.FAILED, "error": "boom"}, TaskStatus.FAILED),
]


@pytest.mark.parametrize(("record", "status"), ENDINGS)
async def test_a_held_task_whose_flow_is_over_ends_as_its_join_did(record: dict[str, Any], status: TaskStatus) -> None:
    server = Server()
    await over(server, parent=waiting(), **record)
    assert (await reconciler(server).tick_quiet(NOW + 69)).resolved == 0
    assert (await reconciler(server).tick_quiet(NOW + 70)).resolved == 1
    assert "p-1" not in server.store.live
    kept = server.kept["p-1"]
    assert (kept.status, kept.result, kept.error) == (status, record.get("result"), record.get("error"))
    assert [row.status for row in server.written[-1].projections] == [status]


@pytest.mark.parametrize(("record", "status"), ENDINGS)
async def test_a_held_task_that_its_flow_does_not_know_ends_by_its_note(
    record: dict[str, Any], status: TaskStatus
) -> None:
    server = Server()
    await over(server, **record)
    await server.store.put_outgoing([waiting_note(waiting(), "inner")])
    assert (await reconciler(server).tick_quiet(LATER)).resolved == 0
    tick = await reconciler(server).tick_due(NOW + 10)
    assert (tick.woken, tick.more) == (1, True)
    kept = server.kept["p-1"]
    assert (kept.status, kept.result, kept.error) == (status, record.get("result"), record.get("error"))
    assert bool(kept.body) == kept.dead == (status is TaskStatus.FAILED), "a dead letter like any other"
    assert (await reconciler(server).tick_due(NOW + 11)).woken == 0
    assert not server.notes


async def test_a_held_task_whose_join_is_alive_waits_for_it() -> None:
    server = Server()
    await over(server, parent=waiting())
    await server.store.put_outgoing([waiting_note(waiting(), "inner")])
    server.add(server.barrier.states["inner"].flow.join)
    assert (await reconciler(server).tick_quiet(LATER)).resolved == 0
    assert (await reconciler(server).tick_due(LATER)).woken == 0
    assert server.notes


async def test_a_note_of_a_task_that_ended_otherwise_is_dropped() -> None:
    server = Server()
    await over(server)
    server.store.live["p-1"] = server.store.live["p-1"]._replace(generation=1, state=State.WAITING, held_by="")
    await server.store.put_outgoing([waiting_note(waiting(), "inner"), waiting_note(waiting("gone"), "inner")])
    assert (await reconciler(server).tick_due(LATER)).woken == 0
    assert not server.notes


async def test_notes_of_tasks_that_wait_long_do_not_stand_before_others() -> None:
    server = Server()
    await over(server)
    for number in range(500):
        await server.store.put_outgoing([waiting_note(waiting(f"w-{number}"), "open")])
        server.store.live[f"w-{number}"] = server.store.live["p-1"]._replace(id=f"w-{number}", held_by="open")
    await server.store.put_outgoing([waiting_note(waiting(), "inner")])
    assert (await reconciler(server).tick_due(LATER)).woken == 0
    assert (await reconciler(server).tick_due(LATER)).woken == 1
    assert (await reconciler(server).tick_due(LATER)).woken == 0
    assert len(server.notes) == 500


async def test_a_held_step_counts_in_its_own_flow_when_it_is_ended_so() -> None:
    server = Server()
    await start(server, 2)
    step = {"flow_meta": {"flow_id": "f", "step_index": 1, "total_steps": 2}}
    await over(server, step_id("f", 1), result=b"7")
    await server.store.put_outgoing([waiting_note(waiting(step_id("f", 1), metadata=step), "inner")])
    server.queue.live.pop(step_id("f", 1))
    end(server, 0)
    tick = await reconciler(server).tick_due(LATER)
    assert server.barrier.results["f"][1].result == b"7"
    assert [state.id for state in tick.closed] == ["f"], "events are told of it"
