"""What is not done in time moves out of the line: its custody first, then its body; it ends like any other task."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from tests.stories.flows import Stage, projection
from tq import (
    Actions,
    AsyncTaskManager,
    Backoff,
    Entity,
    FlowStep,
    Join,
    Task,
    TaskHandler,
    TaskQueuesManager,
    TaskStatus,
    connect,
)
from tq.clock import to_datetime
from tq.errors import MissingPortError, RegistrationError
from tq.logcontext import get_log_context
from tq.memory import MemoryBackend
from tq.model import Projection
from tq.testing import Probe, VirtualClock
from tq.testing.harness import harness

EVEN = Backoff(jitter=0)


def sleeping(**options: Any) -> TaskQueuesManager:
    """An executor "work" that sleeps as long as its payload says, and succeeds with it; "bad" then raises."""
    executors = TaskQueuesManager()

    async def work(task: Task[float], actions: Actions) -> None:
        await asyncio.sleep(task.payload)
        if task.type == "bad":
            raise ValueError("too late")
        actions.success(task, task.payload)

    given: dict[str, Any] = {"handoff_timeout": 5, "store_on_success": True, **options}
    executors.executor("work", **given)(work)
    executors.executor("bad", **given)(work)
    return executors


class Rows:
    """A user's own projections: what each row said, in the order in which they came."""

    def __init__(self) -> None:
        self.seen: list[TaskStatus] = []

    async def upsert_projections(self, rows: Sequence[Projection]) -> None:
        self.seen += [row.status for row in rows]


def work(seconds: float, type: str = "work", **fields: Any) -> Task[float]:
    return Task(type=type, payload=seconds, **fields)


@pytest.mark.spec("HND-01", "HND-02", "HND-03", "HND-04", "HND-08", "RES-07", "INV-01")
async def test_slow_and_quick_tasks_of_one_line_each_go_their_way(url: str, clock: VirtualClock, probe: Probe) -> None:
    manager = AsyncTaskManager()
    options: dict[str, Any] = {"async_tasks": manager, "concurrency": 1, "notifications": probe}
    async with harness(sleeping(), url=url, clock=clock, **options) as h:
        slow, quick, slower = await h.add(work(60), work(4), work(90))
        await h.handler.start()
        await clock.sleep(4)
        assert not manager.is_handed_off(slow), "five seconds are not over"
        before = (await h.handler.backend.queue.locate([slow]))[slow].token
        await clock.sleep(2)
        assert manager.is_handed_off(slow)
        assert (await h.handler.backend.queue.locate([slow]))[slow].token != before, "only the row's token counts"
        await clock.sleep(4)
        await h.assert_succeeded(quick, 4)
        assert not manager.is_handed_off(quick), "done in time: an ordinary task"
        await clock.sleep(5)
        assert manager.is_handed_off(slower)
        assert manager.get_metrics().total_handed_off == 2
        await clock.sleep(100)
        await h.assert_succeeded(slow, 60)
        await h.assert_succeeded(slower, 90)
        await h.assert_quiet()
        await h.handler.stop()
        [[told]] = [seen.value for seen in probe.of("on_final_stats")]
        assert (told.async_, told.success, told.failed, told.ignored) == (2, 3, 0, 0), "each ending counts once"


@pytest.mark.spec("HND-05", "D-05")
async def test_handing_over_needs_a_store_and_brings_its_own_manager(url: str, clock: VirtualClock) -> None:
    with pytest.raises(MissingPortError, match="store="):
        TaskHandler(queue=MemoryBackend(clock=clock).queue, executors=sleeping())
    async with harness(sleeping(concurrency=1), url=url, clock=clock) as h:
        slow, quick = await h.add(work(60), work(1))
        await h.handler.start()
        await clock.sleep(10)
        await h.assert_succeeded(quick, 1)
        await clock.sleep(60)
        await h.assert_succeeded(slow, 60)


@pytest.mark.spec("HND-01")
@pytest.mark.parametrize("kind", ["parallel", "multiple"])
def test_only_executors_of_one_task_at_a_time_hand_over(kind: Any) -> None:
    class Executor:
        async def on_task(self, task: Task[Any], actions: Actions) -> None: ...

        async def on_tasks(self, tasks: list[Task[Any]], actions: Actions) -> None: ...

    options: dict[str, Any] = {"handoff_timeout": 5, kind: True}
    with pytest.raises(RegistrationError, match="one task at a time"):
        TaskQueuesManager().register("work", Executor(), **options)


@pytest.mark.spec("HND-07", "AAC-03", "AAC-07", "D-26", "LOG-07")
async def test_a_late_failure_is_retried_by_the_ordinary_rules(url: str, clock: VirtualClock) -> None:
    executors, began = TaskQueuesManager(), list[float]()
    contexts = list[dict[str, str]]()

    @executors.executor("work", handoff_timeout=5, retries=2, backoff=EVEN, store_on_success=True)
    async def late(task: Task[Any], actions: Actions) -> None:
        began.append(clock.now())
        await asyncio.sleep(20)
        contexts.append(dict(get_log_context()))
        match task.attempt:
            case 0:
                actions.fail(task, "first", {"kept": 1, "changed": 1})
            case 1:
                assert task.execution_stats["kept"] == 1
                actions.fail(task, "second", {"changed": 2})
            case _:
                actions.success(task)

    async with harness(executors, url=url, clock=clock) as h:
        [task_id] = await h.add(late.task(None, retry_after=10, metadata={"log_context": {"tenant": "t-9"}}))
        await h.handler.start()
        await clock.sleep(200)
        assert [round(at - began[0]) for at in began] == [0, 30, 90]
        stats = await h.stats(task_id)
        assert (stats["retry_count"], stats["last_error"], stats["kept"], stats["changed"]) == (2, "second", 1, 2)
        await h.assert_succeeded(task_id)
        assert {context["tenant"] for context in contexts} == {"t-9"}


@pytest.mark.spec("AAC-04", "AAC-05", "ENT-13", "HND-07")
async def test_late_endings_are_final_with_their_projections(url: str, clock: VirtualClock) -> None:
    async with harness(sleeping(), url=url, clock=clock) as h:
        good, bad = await h.add(work(20, entity=Entity("Item", "i-1")), work(20, "bad", entity=Entity("Item", "i-2")))
        await h.handler.start()
        await clock.sleep(10)
        for task_id in (good, bad):
            row = await projection(h.handler, task_id)
            assert row is not None
            assert row.status is TaskStatus.PROCESSING
        await clock.sleep(20)
        await h.assert_succeeded(good, 20)
        await h.assert_failed(bad, "too late")
        rows = [await projection(h.handler, task_id) for task_id in (good, bad)]
        told = [(row.status, row.result, row.error) for row in rows if row is not None]
        assert told == [(TaskStatus.EXECUTED, b"20.0", None), (TaskStatus.FAILED, None, "too late")]
        assert [letter.task_id for letter in await h.handler.dead.list()] == [bad]


@pytest.mark.spec("AAC-02", "AAC-05")
async def test_late_silence_is_a_failure_and_a_success_before_an_exception_stands(
    url: str, clock: VirtualClock
) -> None:
    executors, runs = TaskQueuesManager(), list[str]()

    @executors.executor("silent", handoff_timeout=5, retries=1, backoff=EVEN)
    async def silent(task: Task[Any], actions: Actions) -> None:
        runs.append("silent")
        await asyncio.sleep(20)

    @executors.executor("stands", handoff_timeout=5, retries=1, store_on_success=True)
    async def stands(task: Task[Any], actions: Actions) -> None:
        runs.append("stands")
        await asyncio.sleep(20)
        actions.success(task, "kept")
        raise ValueError("after it")

    async with harness(executors, url=url, clock=clock) as h:
        one, two = await h.add(silent.task(None), stands.task(None))
        await h.handler.start()
        await clock.sleep(100)
        assert sorted(runs) == ["silent", "silent", "stands"]
        await h.assert_failed(one, "returned without an outcome")
        await h.assert_succeeded(two, "kept")


@pytest.mark.spec("AAC-01", "AAC-09", "AAC-10", "D-25", "D-26", "ADD-07")
async def test_what_a_late_task_starts_is_its_own_and_runs_like_anything_else(url: str, clock: VirtualClock) -> None:
    stage, seen = Stage(), list[tuple[Any, float, str]]()

    @stage.executors.executor("parent", handoff_timeout=5, store_on_success=True)
    async def parent(task: Task[str], actions: Actions) -> None:
        await asyncio.sleep(20)
        actions.add_tasks(
            [
                Task(type="child", payload=f"{task.payload} now", entity=Entity("Item", "1")),
                Task(type="child", payload=f"{task.payload} later", execute_at=in_ten_minutes),
            ]
        )
        if task.payload == "good":
            actions.start_flow([FlowStep("step", queue="media", payload=1)], join=Join("join"))
            actions.success(task, "parent")
        else:
            raise ValueError("says nothing: what it added is dropped")

    @stage.executors.executor("child", partition_key=lambda payload: "lane" if "now" in payload else None)
    async def child(task: Task[str], actions: Actions) -> None:
        seen.append((task.payload, clock.now() - began, task.partition_key or ""))
        assert task.log_context == {"tenant": "t-9"}
        actions.success(task)

    began, rows = clock.now(), Rows()
    in_ten_minutes = to_datetime(began + 600)
    async with harness(stage.executors, url=url, clock=clock, projections=rows) as h:
        fields: dict[str, Any] = {"metadata": {"log_context": {"tenant": "t-9"}}}
        good, bad = await h.add(parent.task("good", **fields), parent.task("bad", **fields))
        await h.handler.start()
        await clock.sleep(700)
        told = [(payload, round(at), lane) for payload, at, lane in seen]
        assert told == [("good now", 20, "lane"), ("good later", 600, "")]
        assert rows.seen == ["scheduled", "processing", "executed"]
        assert [entry["result"] for entry in stage.only["steps"]] == [1]
        await h.assert_succeeded(good, "parent")
        await h.assert_failed(bad, "says nothing")


@pytest.mark.spec("AAC-11", "D-26")
async def test_a_late_step_counts_for_its_flow_once_it_has_ended_for_good(url: str, clock: VirtualClock) -> None:
    stage = Stage()

    @stage.executors.executor("late", handoff_timeout=5, retries=1, backoff=EVEN)
    async def late(task: Task[Any], actions: Actions) -> None:
        await asyncio.sleep(20)
        if task.payload == "bad" or task.attempt == 0:
            raise ValueError("late")
        actions.success(task, "good")

    async with harness(stage.executors, url=url, clock=clock) as h:
        flow = await h.handler.start_flow(
            [FlowStep("late", payload="good"), FlowStep("late", payload="bad")], join=Join("join")
        )
        await h.handler.start()
        await clock.sleep(30)
        status = await h.handler.flow(flow).status()
        assert status.remaining == 2, "a failure that is retried is nobody's business"
        await clock.sleep(60)
        told = [(entry["status"], entry.get("result"), entry.get("error")) for entry in stage.only["steps"]]
        assert told == [("success", "good", None), ("fail", None, "late")]


@pytest.mark.spec("HND-09", "LOG-07")
async def test_the_body_sees_the_same_context_before_and_after(
    url: str, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    executors, seen = TaskQueuesManager(), list[dict[str, str]]()

    @executors.executor("work", handoff_timeout=5)
    async def late(task: Task[Any], actions: Actions) -> None:
        for _ in range(2):
            seen.append(dict(get_log_context()))
            actions.log.warning("still here")
            await asyncio.sleep(20)
        actions.success(task)

    async with harness(executors, url=url, clock=clock) as h:
        [task_id] = await h.add(late.task(None, metadata={"log_context": {"tenant": "t-9"}}))
        await h.handler.start()
        await clock.sleep(60)
        worker_id = h.handler.worker_id
        assert seen == [{"tenant": "t-9", "task_id": task_id, "task_type": "work", "worker_id": worker_id}] * 2
        lines = [record.message for record in caplog.records if "still here" in record.message]
        assert lines == [f"[task_id:{task_id}] [task_type:work] [tenant:t-9] [worker_id:{worker_id}] still here"] * 2


@pytest.mark.spec("D-21")
async def test_a_slow_task_has_an_id_before_it_runs(url: str, clock: VirtualClock) -> None:
    executors, ids = TaskQueuesManager(), list[str]()

    @executors.executor("parent", store_on_success=True)
    async def parent(task: Task[Any], actions: Actions) -> None:
        ids.extend(actions.add_tasks([Task(type="late"), Task(type="late", id="")]))
        actions.success(task)

    @executors.executor("late", handoff_timeout=5, store_on_success=True)
    async def late(task: Task[Any], actions: Actions) -> None:
        await asyncio.sleep(20)
        actions.success(task, task.id)

    async with harness(executors, url=url, clock=clock) as h:
        ids.extend(await h.add(parent.task(None), late.task(None)))
        await h.handler.start()
        await clock.sleep(60)
        assert len(set(ids)) == 4
        for task_id in (ids[1], *ids[2:]):
            if task_id != ids[0]:
                await h.assert_succeeded(task_id, task_id)


@pytest.mark.spec("D-20", "D-02", "INV-03")
async def test_a_task_that_was_handed_over_is_not_handed_out_again(url: str, clock: VirtualClock) -> None:
    runs = list[str]()
    executors = TaskQueuesManager()

    @executors.executor("work", handoff_timeout=5, store_on_success=True)
    async def late(task: Task[Any], actions: Actions) -> None:
        runs.append(task.id)
        await asyncio.sleep(500)
        actions.success(task)

    backend = connect(url, clock=clock)
    first, second = TaskHandler.on(backend, executors, clock=clock), TaskHandler.on(backend, executors, clock=clock)
    [task_id] = await first.add_tasks([late.task(None, id="known")])
    await first.start()
    await clock.sleep(10)
    await second.start()
    await first.add_tasks([late.task(None, id="known")])
    await clock.sleep(400)
    assert runs == ["known"]
    await clock.sleep(150)
    assert await first.task(task_id).status() is TaskStatus.EXECUTED
    await first.close()
    await second.close()
    await backend.close()
