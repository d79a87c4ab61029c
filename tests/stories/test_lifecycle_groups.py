"""What a provider hears of the groups that multi executors take."""

from __future__ import annotations

import pytest

from tq import Actions, Task, TaskQueuesManager
from tq.clock import to_datetime
from tq.testing import Probe, VirtualClock
from tq.testing.harness import harness


@pytest.mark.spec("BLC-01", "BLC-02", "D-57", "D-08")
async def test_a_group_is_told_as_a_whole_and_by_each_task(url: str, clock: VirtualClock, probe: Probe) -> None:
    class Group:
        async def on_tasks(self, tasks: list[Task[str]], actions: Actions) -> None:
            await clock.sleep(4)
            for task in tasks:
                if task.payload == "good":
                    actions.success(task, "done")
                elif task.payload == "bad":
                    actions.fail(task, "as told")
                elif task.payload == "later":
                    actions.fork_for_task(task).reschedule(3600)

    executors = TaskQueuesManager()
    executors.register("group", Group(), queue="batch")
    async with harness(executors, url=url, clock=clock, lifecycle=probe) as h:
        began = clock.now()
        payloads = ("good", "bad", "silent", "later")
        ids = await h.run(*[Task(type="group", queue_id="batch", payload=payload) for payload in payloads])
        good, bad, silent, _ = ids
        [started] = [seen.value for seen in probe.of("on_task_batch_started")]
        [completed] = [seen.value for seen in probe.of("on_task_batch_completed")]
        assert (started.task_type, started.queue_id) == ("group", "batch")
        assert (started.worker_id, started.consumer_id) == (
            h.handler.worker_id,
            f"{h.handler.backend.queue.name}:batch",
        )
        assert started.started_at == to_datetime(began)
        assert [(it.task_id, it.attempt) for it in started.tasks] == [(task_id, 1) for task_id in ids]
        same = ("task_type", "queue_id", "tasks", "worker_id", "consumer_id")
        assert {name: getattr(completed, name) for name in same} == {name: getattr(started, name) for name in same}
        assert (completed.succeeded, completed.failed, completed.duration) == ((good,), (bad, silent), 4.0)
        assert [seen.value.task_id for seen in probe.of("on_task_started")] == ids
        assert {seen.value.task_id: seen.value.result for seen in probe.of("on_task_completed")} == {good: "done"}
        failed = {seen.value.task_id: str(seen.value.error) for seen in probe.of("on_task_failed")}
        assert failed.keys() == {bad, silent}
        assert failed[bad] == "as told"
        assert "without an outcome" in failed[silent]


@pytest.mark.spec("BLC-02", "EXE-07")
async def test_a_group_that_raises_has_failed_but_for_what_had_succeeded(
    url: str, clock: VirtualClock, probe: Probe
) -> None:
    class Group:
        async def on_tasks(self, tasks: list[Task[str]], actions: Actions) -> None:
            actions.success(tasks[0])
            raise ValueError("the lot")

    executors = TaskQueuesManager()
    executors.register("group", Group())
    async with harness(executors, url=url, clock=clock, lifecycle=probe) as h:
        first, second, third = await h.run(*[Task(type="group", payload=name) for name in "abc"])
        [completed] = [seen.value for seen in probe.of("on_task_batch_completed")]
        assert (completed.succeeded, completed.failed) == ((first,), (second, third))
        assert {str(seen.value.error) for seen in probe.of("on_task_failed")} == {"the lot"}
