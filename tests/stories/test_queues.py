"""Handles: what one may ask of queues and tasks from anywhere, and do to them."""

from __future__ import annotations

from typing import Any

import pytest

from tq import Actions, FlowStep, Join, Task, TaskHandler, TaskQueuesManager, TaskStatus, connect
from tq.clock import to_datetime
from tq.errors import ResultNotKeptError, TaskCancelledError, TaskFailedError, UnknownTaskError
from tq.testing import VirtualClock
from tq.testing.harness import harness


def working(clock: VirtualClock) -> TaskQueuesManager:
    """Return executors on two queues that take as long as their payload says."""
    executors = TaskQueuesManager()

    @executors.executor("work", store_on_success=True)
    async def work(task: Task[float], actions: Actions) -> None:
        await clock.sleep(task.payload)
        actions.success(task, task.payload)

    @executors.executor("work", queue="other", store_on_success=True)
    async def other(task: Task[float], actions: Actions) -> None:
        actions.success(task, task.payload)

    return executors


# --- queues -----------------------------------------------------------------------------------------------------------


async def test_a_paused_queue_hands_out_nothing_until_it_is_resumed(url: str, clock: VirtualClock) -> None:
    async with harness(working(clock), url=url, clock=clock) as h:
        queue = h.handler.queue("default")
        await h.handler.start()
        [running] = await h.add(Task(type="work", payload=20))
        await clock.sleep(1)
        await queue.pause()
        await queue.pause()
        assert await queue.paused()
        waiting, elsewhere = await h.add(Task(type="work", payload=0), Task(type="work", queue_id="other", payload=0))
        await clock.sleep(60)
        await h.assert_succeeded(running)
        await h.assert_succeeded(elsewhere)
        assert await h.handler.task(waiting).status() is TaskStatus.SCHEDULED
        await queue.resume()
        await queue.resume()
        assert not await queue.paused()
        await clock.sleep(2)
        await h.assert_succeeded(waiting)


async def test_a_pause_holds_for_every_worker_and_by_hand(url: str, clock: VirtualClock) -> None:
    backend = connect(url, clock=clock)
    parts: dict[str, Any] = {"queue": backend.queue, "store": backend.store, "barrier": backend.barrier, "clock": clock}
    operator = TaskHandler(**parts)
    worker = TaskHandler(**parts, executors=working(clock))
    await operator.queue("default").pause()
    [task_id] = await operator.add_tasks([Task(type="work", payload=0)])
    assert await worker.process_batch("default") is None
    await worker.drain()
    assert await operator.task(task_id).status() is TaskStatus.SCHEDULED
    await operator.queue("default").resume()
    await worker.drain()
    assert await operator.task(task_id).status() is TaskStatus.EXECUTED
    await worker.close()
    await backend.close()


async def test_counts_tell_what_waits_is_delayed_runs_and_is_held(url: str, clock: VirtualClock) -> None:
    executors = working(clock)

    @executors.executor("waits for a flow")
    async def waits(task: Task[Any], actions: Actions) -> None:
        flow = actions.start_flow([FlowStep("work", payload=1000)], join=Join("work"))
        actions.success_when(flow)

    async with harness(executors, url=url, clock=clock, concurrency=3) as h:
        assert await h.handler.queue("default").counts() == {"waiting": 0, "delayed": 0, "running": 0, "held": 0}
        await h.add(Task(type="waits for a flow"))
        await h.handler.start()
        await clock.sleep(2)
        later = to_datetime(clock.now() + 500)
        await h.add(
            *[Task(type="work", payload=1000) for _ in range(4)], Task(type="work", payload=0, execute_at=later)
        )
        await clock.sleep(2)
        counts = await h.handler.queue("default").counts()
        assert counts == {"waiting": 2, "delayed": 1, "running": 3, "held": 1}
        await h.handler.kill()


# --- tasks ------------------------------------------------------------------------------------------------------------


async def test_a_task_can_be_followed_from_adding_to_its_result(url: str, clock: VirtualClock) -> None:
    async with harness(working(clock), url=url, clock=clock) as h:
        [task_id] = await h.add(Task(type="work", payload=30))
        task = h.handler.task(task_id)
        assert await task.status() is TaskStatus.SCHEDULED
        await h.handler.start()
        await clock.sleep(5)
        assert await task.status() is TaskStatus.PROCESSING
        with pytest.raises(TimeoutError, match=task_id):
            await task.result(timeout=10)
        assert await task.result(timeout=60) == 30
        assert await task.status() is TaskStatus.EXECUTED


async def test_what_was_never_kept_is_said_to_be_unknown_at_once(url: str, clock: VirtualClock) -> None:
    executors = TaskQueuesManager()

    @executors.task("work")
    async def work(payload: None) -> None: ...

    async with harness(executors, url=url, clock=clock) as h:
        [ended] = await h.run(work.task(None))
        began = clock.now()
        for task_id in (ended, "never-added"):
            task = h.handler.task(task_id)
            assert await task.status() == "unknown"
            with pytest.raises(ResultNotKeptError, match="set result_ttl or store_on_success"):
                await task.result(timeout=60)
            assert not await task.cancel()
            with pytest.raises(UnknownTaskError):
                await task.retry()
        assert clock.now() == began, "nobody was kept waiting"


async def test_a_failed_task_tells_its_error_and_may_be_retried_by_hand(url: str, clock: VirtualClock) -> None:
    executors, runs = TaskQueuesManager(), list[int]()

    @executors.executor("work", store_on_success=True)
    async def work(task: Task[Any], actions: Actions) -> None:
        runs.append(task.generation)
        if task.generation == 0:
            raise ValueError("not the first time")
        actions.success(task, "at last")

    async with harness(executors, url=url, clock=clock) as h:
        [task_id] = await h.run(work.task(None))
        task = h.handler.task(task_id)
        with pytest.raises(TaskFailedError, match="not the first time") as caught:
            await task.result()
        assert caught.value.task_id == task_id
        await task.retry()
        assert await task.status() is TaskStatus.SCHEDULED
        await h.drain()
        assert await task.result() == "at last"
        with pytest.raises(UnknownTaskError):
            await task.retry()
    assert runs == [0, 1]


@pytest.mark.parametrize("when", ["waiting", "delayed", "running"])
async def test_a_cancelled_task_ends_as_cancelled(url: str, clock: VirtualClock, when: str) -> None:
    async with harness(working(clock), url=url, clock=clock) as h:
        if when == "running":
            await h.handler.start()
        due = to_datetime(clock.now() + 600) if when == "delayed" else None
        [task_id] = await h.add(Task(type="work", payload=1000, execute_at=due))
        await clock.sleep(1)
        task = h.handler.task(task_id)
        assert await task.cancel()
        if when == "running":
            await clock.sleep(15)
        else:
            await h.drain()
        assert await task.status() is TaskStatus.CANCELLED
        with pytest.raises(TaskCancelledError):
            await task.result()
        assert await h.handler.dead.list() == [], "what was wished for is no dead letter"
        await h.assert_quiet()


# --- dead letters -----------------------------------------------------------------------------------------------------


async def test_dead_letters_are_listed_replayed_and_purged_by_queue_and_type(url: str, clock: VirtualClock) -> None:
    executors, healed = TaskQueuesManager(), list[str]()

    async def fails(task: Task[Any], actions: Actions) -> None:
        if task.generation == 0:
            raise ValueError(f"{task.queue_id}/{task.type}")
        healed.append(task.id)
        actions.success(task)

    for queue in ("a", "b"):
        for type in ("x", "y"):
            executors.executor(type, queue=queue)(fails)
    async with harness(executors, url=url, clock=clock) as h:
        ids: dict[str, str] = {}
        for queue in ("a", "b"):
            for type in ("x", "y"):
                [ids[queue + type]] = await h.run(Task(type=type, queue_id=queue, payload={"n": 1}))
                await clock.sleep(1)
        dead = h.handler.dead
        named = {task_id: name for name, task_id in ids.items()}
        letters = await dead.list()
        assert [named[letter.task_id] for letter in letters] == ["by", "bx", "ay", "ax"], "newest first"
        assert (letters[0].error, letters[0].payload, letters[0].queue_id, letters[0].type) == (
            "b/y",
            {"n": 1},
            "b",
            "y",
        )
        assert [named[letter.task_id] for letter in await dead.list(queue="a", type="y")] == ["ay"]
        assert [named[letter.task_id] for letter in await dead.list(limit=2)] == ["by", "bx"]
        assert await dead.purge(queue="b", type="x") == [ids["bx"]]
        assert await dead.replay(queue="b") == [ids["by"]]
        assert await dead.replay(ids["ax"]) == [ids["ax"]]
        assert await dead.replay([ids["ax"], "nobody"]) == [], "it is live already"
        await h.drain()
        assert sorted(healed) == sorted([ids["by"], ids["ax"]])
        assert [letter.task_id for letter in await dead.list()] == [ids["ay"]]


@pytest.mark.spec("F-34")
async def test_a_replay_without_ids_takes_no_more_than_its_limit(url: str, clock: VirtualClock) -> None:
    executors = TaskQueuesManager()

    @executors.task("work")
    async def work(payload: int) -> None:
        raise ValueError("no")

    async with harness(executors, url=url, clock=clock) as h:
        await h.run(*[work.task(number) for number in range(7)])
        assert len(await h.handler.dead.replay(limit=3)) == 3
        assert len(await h.handler.dead.list()) == 4
        assert len(await h.handler.dead.purge(limit=1)) == 1
        assert len(await h.handler.dead.list()) == 3


async def test_all_dead_letters_that_are_named_run_again_or_go(url: str, clock: VirtualClock) -> None:
    """The cap is for what merely matches: whoever names a hundred and fifty means a hundred and fifty."""
    executors = TaskQueuesManager()

    @executors.task("work")
    async def work(payload: int) -> None:
        raise ValueError("no")

    async with harness(executors, url=url, clock=clock) as h:
        ids = await h.run(*[work.task(number) for number in range(1_100)])
        assert sorted(await h.handler.dead.replay(ids[:600])) == sorted(ids[:600])
        assert sorted(await h.handler.dead.purge(ids[600:])) == sorted(ids[600:])
        assert not await h.handler.dead.list()


async def test_a_task_cancelled_in_a_paused_queue_ends_unrun_at_the_resume(url: str, clock: VirtualClock) -> None:
    executors = TaskQueuesManager()
    ran: list[int] = []

    @executors.task("work")
    async def work(payload: int) -> None:
        ran.append(payload)

    async with harness(executors, url=url, clock=clock) as h:
        await h.handler.queue("default").pause()
        [task_id] = await h.run(work.task(1))
        task = h.handler.task(task_id)
        assert await task.cancel()
        await h.later(60)
        assert await task.status() is TaskStatus.SCHEDULED
        await h.handler.queue("default").resume()
        await h.drain()
        assert await task.status() is TaskStatus.CANCELLED
        assert not ran
