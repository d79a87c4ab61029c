"""What happens to a task between `add_tasks` and the queue or the store that takes it."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest

from tq import Actions, Entity, FlowStep, Join, Task, TaskHandler, TaskQueuesManager, TaskStatus
from tq.clock import to_datetime
from tq.errors import AddTasksError, BackendUnavailableError, InvalidInputError
from tq.memory import MemoryBarrier, MemoryProjections, MemoryQueue, MemoryStore
from tq.model import Batch, Claim, Hop
from tq.testing import Probe, VirtualClock
from tq.testing.harness import Harness, harness


def of_everything() -> TaskQueuesManager:
    """Return executors of two queues that keep what they are given."""
    executors = TaskQueuesManager()

    @executors.executor("work", store_on_success=True)
    async def work(task: Task[Any], actions: Actions) -> None:
        actions.success(task)

    @executors.executor("mail", queue="mail", store_on_success=True)
    async def mail(task: Task[Any], actions: Actions) -> None:
        actions.success(task)

    return executors


class Commits:
    """Counts the commits of a backend, and makes them fail on request."""

    def __init__(self, h: Harness, patch: pytest.MonkeyPatch) -> None:
        self.batches: list[Batch] = []
        self.error: Exception | None = None
        self._commit = h.handler.backend.commit
        patch.setattr(h.handler.backend, "commit", self)

    async def __call__(self, batch: Batch, claim: Claim | None = None) -> Hop:
        self.batches.append(batch)
        if self.error is not None:
            raise self.error
        return await self._commit(batch, claim)


# --- routes -----------------------------------------------------------------------------------------------------------


@pytest.mark.spec("ADD-01", "ADD-05")
async def test_one_call_takes_tasks_of_every_kind_in_one_commit(
    url: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with harness(of_everything(), url=url, clock=clock) as h:
        commits = Commits(h, monkeypatch)
        later = to_datetime(clock.now() + 600)
        tasks = [
            Task[Any](type="work", id="now"),
            Task[Any](type="work", id="stored", force_store=True),
            Task[Any](type="work", id="later", execute_at=later),
            Task[Any](type="mail", id="elsewhere", queue_id="mail"),
        ]
        assert await h.add(*tasks) == ["now", "stored", "later", "elsewhere"]
        assert len(commits.batches) == 1
        assert {
            id: await h.handler.task(id).status() for id in ("now", "stored", "later", "elsewhere")
        } == dict.fromkeys(("now", "stored", "later", "elsewhere"), TaskStatus.SCHEDULED)
        assert await h.handler.queue("default").counts() == {"waiting": 2, "delayed": 1, "running": 0, "held": 0}
        assert (await h.handler.queue("mail").counts())["waiting"] == 1


@pytest.mark.spec("ADD-01", "ADD-02", "ADD-03", "ADD-08")
async def test_on_two_servers_a_task_has_one_place(clock: VirtualClock) -> None:
    queue, store = MemoryQueue(clock=clock), MemoryStore(clock=clock)
    handler = TaskHandler(
        queue=queue, store=store, barrier=MemoryBarrier(clock=clock), executors=of_everything(), clock=clock
    )
    now = clock.now()
    await handler.add_tasks(
        [
            Task(type="work", id="now"),
            Task(type="work", id="soon", execute_at=to_datetime(now + 120)),
            Task(type="work", id="later", execute_at=to_datetime(now + 121)),
            Task(type="work", id="forced", force_store=True),
            Task(type="work", id="forced and later", force_store=True, execute_at=to_datetime(now + 600)),
            Task(type="mail", id="mail", queue_id="mail"),
        ]
    )
    ids = ["now", "soon", "later", "forced", "forced and later", "mail"]
    assert set(await queue.locate(ids)) == {"now", "soon", "mail"}
    assert set(await store.locate(ids)) == {"later", "forced", "forced and later"}
    await handler.drain()
    assert set(await store.records(ids)) == {"now", "forced", "mail"}, "asking for storage brings nothing forward"
    await clock.sleep(121)
    await handler.drain()
    assert set(await store.records(ids)) == {"now", "forced", "mail", "soon", "later"}
    await handler.close()


@pytest.mark.spec("ADD-12")
async def test_a_stored_task_ends_as_executed_in_the_store(url: str, clock: VirtualClock) -> None:
    async with harness(of_everything(), url=url, clock=clock) as h:
        [task_id] = await h.run(Task(type="work", force_store=True))
        await h.assert_succeeded(task_id)
        assert await h.handler.task(task_id).status() is TaskStatus.EXECUTED
        await h.assert_quiet()


@pytest.mark.spec("ADD-09", "D-18")
async def test_what_could_not_be_written_is_not_there_and_the_error_names_it(
    url: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with harness(of_everything(), url=url, clock=clock) as h:
        commits = Commits(h, monkeypatch)
        commits.error = BackendUnavailableError("the server is gone")
        with pytest.raises(AddTasksError, match="the server is gone") as caught:
            await h.add(Task(type="work", id="a"), Task(type="mail", queue_id="mail", id="b", force_store=True))
        assert set(caught.value.failed) == {"a", "b"}
        assert caught.value.accepted == 0
        assert caught.value.__cause__ is commits.error
        commits.error = None
        assert await h.handler.backend.queue.locate(["a", "b"]) == {}
        assert await h.add(Task(type="work", id="a")) == ["a"], "and it may be added again"


@pytest.mark.spec("D-18")
async def test_one_refused_task_stops_its_call_before_anything_is_written(url: str, clock: VirtualClock) -> None:
    async with harness(of_everything(), url=url, clock=clock) as h:
        with pytest.raises(AddTasksError, match="nowhere") as caught:
            await h.add(Task(type="work", id="good"), Task(type="work", id="bad", queue_id="nowhere"))
        assert list(caught.value.failed) == ["bad"]
        assert isinstance(caught.value.failed["bad"], InvalidInputError)
        await h.assert_quiet()


@pytest.mark.spec("MQ-04", "STO-09")
async def test_adding_nothing_writes_nothing(url: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    async with harness(of_everything(), url=url, clock=clock) as h:
        commits = Commits(h, monkeypatch)
        assert await h.add() == []
        assert await h.handler.add_tasks(task for task in list[Task[Any]]()) == []
        assert commits.batches == []


@pytest.mark.spec("STO-09")
async def test_a_start_and_a_verdict_that_bring_nothing_write_nothing(
    url: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with harness(of_everything(), url=url, clock=clock) as h:
        commits = Commits(h, monkeypatch)
        await h.run(Task(type="work", metadata={"log_context": {"tenant": "t"}}))
        await h.handler.start_flow([FlowStep("work")], join=Join("work"))
        await h.drain()
        assert [effects for batch in commits.batches for effects in batch.effects if not effects] == []


# --- ids --------------------------------------------------------------------------------------------------------------


@pytest.mark.spec("ADP-01", "ADP-03", "D-19", "D-61", "MOD-06", "D-21")
async def test_every_task_has_an_id_of_its_own_before_it_is_written(url: str, clock: VirtualClock) -> None:
    async with harness(of_everything(), url=url, clock=clock) as h:
        same = Task[Any](type="work", payload={"n": 1}, id="", task_hash="h")
        ids = await h.add(same, same, Task(type="work", payload={"id": "x", "n": 2}), Task(type="work", id="given"))
        assert len(set(ids)) == 4
        assert all(ids)
        assert ids[3] == "given"
        assert ids[:3] == sorted(ids[:3]), "ids sort by the time of their making"
        assert set(await h.handler.backend.queue.locate(ids)) == set(ids)


@pytest.mark.spec("F-35", "D-17", "D-03")
async def test_an_id_that_is_taken_is_not_added_again_and_a_warning_says_so(
    url: str, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    executors, ran = TaskQueuesManager(), list[object]()

    @executors.executor("work", store_on_success=True)
    async def work(task: Task[Any], actions: Actions) -> None:
        ran.append(task.payload)
        actions.success(task)

    async with harness(executors, url=url, clock=clock) as h:
        with caplog.at_level(logging.WARNING):
            assert await h.add(Task(type="work", id="x", payload=1), Task(type="work", id="x", payload=2)) == ["x", "x"]
            assert "1 of the tasks not added" in caplog.text
            caplog.clear()
            assert await h.add(Task(type="work", id="x", payload=3), Task(type="work", id="y", payload=4)) == ["x", "y"]
            assert "the ids are taken: x\n" in caplog.text
        await h.drain()
        assert ran == [1, 4], "the first of an id counts"
        with caplog.at_level(logging.WARNING):
            caplog.clear()
            await h.run(Task(type="work", id="x", payload=5))
            assert "not added again" in caplog.text
        assert ran == [1, 4], "an ending that is kept takes the id too"


# --- told and shown ---------------------------------------------------------------------------------------------------


@pytest.mark.spec("ADD-13", "D-39")
@pytest.mark.parametrize("place", ["memory://", "sqlite://", "immediate://"])
async def test_scheduled_is_told_once_per_task_before_anything_runs(
    place: str, clock: VirtualClock, probe: Probe
) -> None:
    async with harness(of_everything(), url=place, clock=clock, lifecycle=probe, lifecycle_mode="sync") as h:
        later = to_datetime(clock.now() + 60)
        await h.add(
            Task(type="work", id="now"),
            Task(type="work", id="forced", force_store=True),
            Task(type="work", id="later", execute_at=later),
            Task(type="work", id="now"),
        )
        await h.later(61)
        told = [event.value.task_id for event in probe.of("on_task_scheduled")]
        assert sorted(told) == ["forced", "later", "now"]
        assert probe.names()[:3] == ["on_task_scheduled"] * 3
        assert len(probe.of("on_task_completed")) == 3


class Rows:
    """A user's own provider of projections."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, TaskStatus]] = []
        self.broken = False

    async def upsert_projections(self, rows: Any) -> None:
        if self.broken:
            raise OSError("the provider is down")
        self.seen += [(row.task_id, row.status) for row in rows]


@pytest.mark.spec("ADD-14")
@pytest.mark.parametrize("own", [False, True])
async def test_the_scheduled_row_comes_first_even_where_adding_runs(clock: VirtualClock, *, own: bool) -> None:
    rows = Rows()
    options: dict[str, Any] = {"projections": rows} if own else {}
    async with harness(of_everything(), url="immediate://", clock=clock, **options) as h:
        [task_id] = await h.add(Task(type="work", entity=Entity("Item", "1"), force_store=True))
        if own:
            assert [status for _, status in rows.seen] == ["scheduled", "processing", "executed"]
        else:
            shown = h.handler.backend.projections
            assert isinstance(shown, MemoryProjections)
            assert (await shown.get_projections([task_id]))[task_id].status is TaskStatus.EXECUTED


@pytest.mark.spec("ADD-14")
@pytest.mark.parametrize("own", [False, True])
async def test_the_scheduled_row_is_written_along_with_its_task(
    url: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch, *, own: bool
) -> None:
    options: dict[str, Any] = {"projections": Rows()} if own else {}
    async with harness(of_everything(), url=url, clock=clock, **options) as h:
        commits = Commits(h, monkeypatch)
        later = to_datetime(clock.now() + 600)
        for task in (
            Task[Any](type="work"),
            Task[Any](type="work", force_store=True),
            Task(type="work", execute_at=later),
        ):
            [task_id] = await h.add(replace(task, entity=Entity("Item", "1")))
            written = [effects for batch in commits.batches for effects in batch.effects]
            assert [[it.id for it in effects.messages] for effects in written] == [[task_id]], "in one step"
            assert [(it.task_id, it.status) for it in written[0].projections] == [(task_id, TaskStatus.SCHEDULED)]
            commits.batches.clear()


@pytest.mark.spec("ADD-16")
async def test_trouble_with_projections_does_not_stop_adding(url: str, clock: VirtualClock) -> None:
    rows = Rows()
    rows.broken = True
    async with harness(of_everything(), url=url, clock=clock, projections=rows) as h:
        [task_id] = await h.run(Task(type="work", entity=Entity("Item", "1")))
        await h.assert_succeeded(task_id)
        rows.broken = False
        await h.later(600)
        assert [status for _, status in rows.seen] == ["scheduled", "processing", "executed"], "and nothing is lost"


@pytest.mark.spec("ADD-15")
async def test_the_log_context_of_every_task_is_checked_before_anything_else(
    url: str, clock: VirtualClock, probe: Probe
) -> None:
    async with harness(of_everything(), url=url, clock=clock, lifecycle=probe, lifecycle_mode="sync") as h:
        bad = Task[Any](type="work", id="bad", metadata={"log_context": {"n": 1}}, queue_id="nowhere")
        with pytest.raises(InvalidInputError, match=r"log_context\['n'\]"):
            await h.add(bad)
        with pytest.raises(AddTasksError, match=r"log_context\['n'\]") as caught:
            await h.add(Task(type="work", id="good"), bad)
        assert list(caught.value.failed) == ["bad"]
        assert probe.events == []
        await h.assert_quiet()
