"""The checker is silent about a run that nobody disturbed, and says what is wrong of every kind of wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tq import Actions, Entity, FlowStep, Join, Task, TaskHandler, TaskQueuesManager, TaskStatus
from tq.ids import join_id, step_id
from tq.memory import MemoryBackend
from tq.model import StepStatus, Verdict
from tq.testing import Account, Snapshot, VirtualClock, changed_endings, take_snapshot, violations

KEPT: dict[str, Any] = {"store_on_success": True, "result_ttl": 3600.0}


def telling(account: Account) -> TaskQueuesManager:
    """Return executors that write down what they do."""
    executors = TaskQueuesManager()

    @executors.executor("album", **KEPT)
    async def album(task: Task[Any], actions: Actions) -> None:
        stamp = account.begin(task)
        steps = [FlowStep("page", payload={"stamp": stamp}) for _ in range(3)]
        actions.success_when(actions.start_flow(steps, join=Join("bind"), entity=Entity("Album", "a")))

    @executors.executor("page", **KEPT)
    async def page(task: Task[Any], actions: Actions) -> None:
        stamp = account.begin(task)
        actions.add_tasks([Task(type="note", payload={"stamp": stamp})])
        actions.success(task, {"stamp": stamp})

    @executors.executor("note", **KEPT)
    async def note(task: Task[Any], actions: Actions) -> None:
        actions.success(task, account.begin(task))

    @executors.executor("bind", **KEPT)
    async def bind(task: Task[Any], actions: Actions) -> None:
        actions.success(task, {"stamp": await account.join(task, actions.flow_results(task))})

    return executors


async def ran(clock: VirtualClock) -> tuple[Snapshot, Account]:
    """Run an album and a note to their ends."""
    account, backend = Account(), MemoryBackend(clock=clock)
    async with TaskHandler.on(backend, telling(account), clock=clock) as handler:
        album = Task[Any](type="album", id="album", entity=Entity("Album", "b"))
        account.accept(*await handler.add_tasks([album, Task(type="note", id="note")]))
        await handler.drain()
        return await take_snapshot(backend, account), account


async def test_nothing_is_said_of_a_run_that_nobody_disturbed(clock: VirtualClock) -> None:
    snapshot, account = await ran(clock)
    assert violations(snapshot, account) == []
    assert len(account.began) == 1 + 1 + 3 + 3 + 1
    assert len(account.joined) == 1
    assert snapshot.rows is not None
    assert len(snapshot.rows) == 2


async def test_an_account_is_the_same_when_it_was_written_and_read(clock: VirtualClock) -> None:
    lines: list[str] = []
    account, backend = Account("w1", lines.append), MemoryBackend(clock=clock)
    async with TaskHandler.on(backend, telling(account), clock=clock) as handler:
        account.accept(*await handler.add_tasks([Task(type="album")]))
        await handler.drain()
    read = Account.gathered([*lines, '["began","torn'])
    assert (read.accepted, read.began, read.joined) == (account.accepted, account.began, account.joined)
    assert read.began[0].stamp == "w1#0"


Breach = Callable[[Snapshot, Account], Snapshot]


def breach(words: str) -> Callable[[Breach], Any]:
    """Name a way to be wrong, and what is said of it."""

    def named(break_it: Breach) -> Any:
        return pytest.param(words, break_it, id=break_it.__name__)

    return named


def flow_of(snapshot: Snapshot) -> str:
    return next(iter(snapshot.flows))


@breach("task note is lost")
def without_an_ending(snapshot: Snapshot, account: Account) -> Snapshot:
    return replace(snapshot, records={id: it for id, it in snapshot.records.items() if id != "note"})


@breach("which is no ending")
def not_ended(snapshot: Snapshot, account: Account) -> Snapshot:
    running = snapshot.records["note"]._replace(status=TaskStatus.PROCESSING)
    return replace(snapshot, records={**snapshot.records, "note": running})


@breach("of an execution that nobody began: #99")
def a_result_from_nowhere(snapshot: Snapshot, account: Account) -> Snapshot:
    strange = snapshot.records["note"]._replace(result=b'"#99"')
    return replace(snapshot, records={**snapshot.records, "note": strange})


@breach("is recorded for generation 0, attempt 0, fence 7, with the result of")
def recorded_under_another_lease(snapshot: Snapshot, account: Account) -> Snapshot:
    fenced = snapshot.records["note"]._replace(fence=7)
    return replace(snapshot, records={**snapshot.records, "note": fenced})


@breach("a later lease had begun")
def recorded_by_a_fenced_off_worker(snapshot: Snapshot, account: Account) -> Snapshot:
    note = next(it for it in account.began if it.task_id == "note")
    account.began.append(note._replace(stamp="#zombie", fence=2))
    return snapshot


@breach("is an effect of")
def a_child_of_a_fenced_off_worker(snapshot: Snapshot, account: Account) -> Snapshot:
    page = next(it for it in account.began if it.task_id == step_id(flow_of(snapshot), 0))
    account.began.append(page._replace(stamp="#zombie", fence=page.fence + 1))
    account.began.append(next(it for it in account.began if it.cause == page.stamp)._replace(cause="#zombie"))
    return snapshot


@breach("2 executions of task album, 0.0, had effects")
def a_plan_of_two_executions(snapshot: Snapshot, account: Account) -> Snapshot:
    album = next(it for it in account.began if it.task_id == "album")
    account.began.append(album._replace(stamp="#zombie", fence=2))
    member = next(place for place, it in enumerate(account.began) if it.cause == album.stamp)
    account.began[member] = account.began[member]._replace(cause="#zombie")
    return snapshot


@breach("is open: 0 of 3 are missing")
def an_open_flow(snapshot: Snapshot, account: Account) -> Snapshot:
    return replace(snapshot, flows={id: replace(it, verdict=None) for id, it in snapshot.flows.items()})


@breach("nobody has confirmed its join")
def an_unconfirmed_join(snapshot: Snapshot, account: Account) -> Snapshot:
    return replace(snapshot, flows={id: replace(it, confirmed=False) for id, it in snapshot.flows.items()})


@breach("has recorded members [0, 1, 1]")
def a_member_twice(snapshot: Snapshot, account: Account) -> Snapshot:
    [(id, members)] = snapshot.members.items()
    return replace(snapshot, members={id: (*members[:2], members[1])})


@breach("counts (3, 0, 0), and 2 members are recorded")
def a_member_missing(snapshot: Snapshot, account: Account) -> Snapshot:
    return replace(snapshot, members={id: it[:2] for id, it in snapshot.members.items()})


@breach("is completed, and 1 members are missing")
def a_join_that_came_early(snapshot: Snapshot, account: Account) -> Snapshot:
    flows = {id: replace(it, remaining=1, succeeded=2) for id, it in snapshot.flows.items()}
    return replace(snapshot, flows=flows)


@breach("is aborted after 0 failures")
def a_verdict_without_cause(snapshot: Snapshot, account: Account) -> Snapshot:
    return replace(snapshot, flows={id: replace(it, verdict=Verdict.ABORTED) for id, it in snapshot.flows.items()})


@breach("is counted as fail")
def a_member_unlike_its_record(snapshot: Snapshot, account: Account) -> Snapshot:
    [(id, members)] = snapshot.members.items()
    return replace(snapshot, members={id: (members[0]._replace(status=StepStatus.FAIL, result=None), *members[1:])})


@breach("has no ending: it never ran")
def a_join_that_never_came(snapshot: Snapshot, account: Account) -> Snapshot:
    account.began[:] = [it for it in account.began if not it.task_id.endswith(".join")]
    join = join_id(flow_of(snapshot), 0)
    return replace(snapshot, records={id: it for id, it in snapshot.records.items() if id != join})


@breach("ran again and was told")
def a_join_that_is_told_otherwise(snapshot: Snapshot, account: Account) -> Snapshot:
    joined = account.joined[0]
    account.joined.append(joined._replace(entries=[[0, "fail", ""], *joined.entries[1:]]))
    return snapshot


@breach("not of 3 steps in order")
def a_join_that_misses_an_entry(snapshot: Snapshot, account: Account) -> Snapshot:
    account.joined[0] = account.joined[0]._replace(entries=account.joined[0].entries[:2])
    return snapshot


@breach("the barrier has [0, 'success'")
def a_join_that_is_told_what_is_not_recorded(snapshot: Snapshot, account: Account) -> Snapshot:
    account.joined[0].entries[0] = [0, "success", "#99"]
    return snapshot


@breach("a join ran that no flow has: other.join")
def a_join_of_no_flow(snapshot: Snapshot, account: Account) -> Snapshot:
    account.joined.append(account.joined[0]._replace(task_id="other.join"))
    return snapshot


@breach("and has no row")
def a_missing_row(snapshot: Snapshot, account: Account) -> Snapshot:
    return replace(snapshot, rows={})


@breach("the row of album shows")
def a_row_that_lags_behind(snapshot: Snapshot, account: Account) -> Snapshot:
    assert snapshot.rows is not None
    late = snapshot.rows["album"]._replace(status=TaskStatus.PROCESSING, version=1, result=None)
    return replace(snapshot, rows={**snapshot.rows, "album": late})


@breach("2 notes wait in the outbox")
def notes_that_nobody_took(snapshot: Snapshot, account: Account) -> Snapshot:
    return replace(snapshot, outgoing=2)


BREACHES: list[Any] = [it for it in globals().values() if type(it) is type(pytest.param())]


@pytest.mark.parametrize(("words", "break_it"), BREACHES)
async def test_every_kind_of_wrong_is_told(clock: VirtualClock, words: str, break_it: Breach) -> None:
    snapshot, account = await ran(clock)
    found = violations(break_it(snapshot, account), account)
    assert [line for line in found if words in line], found


async def test_what_has_not_ended_is_told(clock: VirtualClock) -> None:
    account, backend = Account(), MemoryBackend(clock=clock)
    async with TaskHandler.on(backend, telling(account), clock=clock) as handler:
        account.accept(*await handler.add_tasks([Task(type="note", id="note")]))
        assert violations(await take_snapshot(backend, account), account) == [
            "task note (note) is waiting in the queue"
        ]


async def test_members_of_a_wide_flow_that_was_cancelled_in_its_plan_are_not_missed(clock: VirtualClock) -> None:
    account, backend = Account(), MemoryBackend(clock=clock)
    async with TaskHandler.on(backend, telling(account), clock=clock) as handler:
        flow = await handler.start_flow([FlowStep("page")] * 600, join=Join("bind"))
        account.started(flow)
        await handler.flow(flow).cancel()
        await handler.drain()
        assert account.began[0].task_id == join_id(flow, 0), "no member was begun"
        assert violations(await take_snapshot(backend, account), account) == []


async def test_an_ending_that_another_one_replaces_is_told(clock: VirtualClock) -> None:
    snapshot, _ = await ran(clock)
    note = snapshot.records["note"]
    assert changed_endings(snapshot.records, snapshot.records) == []
    assert changed_endings(snapshot.records, {**snapshot.records, "note": note._replace(generation=1)}) == []
    [words] = changed_endings(snapshot.records, {**snapshot.records, "note": note._replace(status=TaskStatus.FAILED)})
    assert words.startswith("task note had ended as executed")
    assert changed_endings(snapshot.records, {}) == [f"the ending of task {id} is gone" for id in snapshot.records]
