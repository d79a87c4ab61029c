"""A user's own parts need the verbs of the port, and nothing of tq's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from tq import Actions, Entity, Task, TaskHandler, TaskQueuesManager, TaskStatus
from tq.memory import MemoryBackend, MemoryQueue
from tq.model import Projection
from tq.ports import TaskStore
from tq.testing import VirtualClock
from tq.testing.harness import harness


class OwnStore:
    """A store that inherits nothing: it has the port's verbs, and keeps what it is told somewhere of its own."""

    def __init__(self, inner: TaskStore) -> None:
        self._inner = inner
        self.name = "own"
        self.guarantees = inner.guarantees
        self.calls: list[str] = []

    def __getattr__(self, verb: str) -> Any:
        if verb == "backend":
            raise AttributeError(verb)
        self.calls.append(verb)
        return getattr(self._inner, verb)


@pytest.mark.spec("ADP-11")
async def test_a_store_that_only_has_the_verbs_of_the_port_carries_tasks(clock: VirtualClock) -> None:
    executors, ran = TaskQueuesManager(), list[tuple[str, int]]()

    @executors.executor("work", retries=1, store_on_success=True)
    async def work(task: Task[str], actions: Actions) -> None:
        ran.append((task.payload, task.attempt))
        if task.payload == "fails":
            raise ValueError("no")
        actions.success(task, task.payload)

    store = OwnStore(MemoryBackend(clock=clock).store)
    handler = TaskHandler(
        queue=MemoryQueue(clock=clock), store=cast("TaskStore", store), executors=executors, clock=clock
    )
    done, failed = await handler.add_tasks([work.task("done", force_store=True), work.task("fails")])
    await handler.start()
    await clock.sleep(10)
    assert ran == [("done", 0), ("fails", 0), ("fails", 1)]
    assert await handler.task(done).status() is TaskStatus.EXECUTED
    assert [letter.task_id for letter in await handler.dead.list()] == [failed]
    assert {"record", "claim", "put_outcomes"} <= set(store.calls)
    await handler.close()


@pytest.mark.spec("ADP-01")
async def test_a_task_without_id_gets_one_by_which_it_is_found_and_a_given_one_is_kept(
    url: str, clock: VirtualClock
) -> None:
    executors = TaskQueuesManager()

    @executors.task("work")
    async def work(payload: int) -> int:
        return payload

    async with harness(executors, url=url, clock=clock) as h:
        made, also_made, given = await h.add(work.task(1), work.task(2), work.task(3, id="mine"))
        assert made
        assert made != also_made
        assert given == "mine"
        for task_id in (made, also_made, given):
            assert await h.handler.task(task_id).status() is TaskStatus.SCHEDULED
        await h.drain()
        assert [await h.handler.task(task_id).result() for task_id in (made, also_made, given)] == [1, 2, 3]


class Refusing:
    """A projection provider that accepts nothing."""

    def __init__(self) -> None:
        self.asked = 0

    async def upsert_projections(self, rows: Sequence[Projection]) -> None:
        self.asked += len(rows)
        raise ConnectionError("not today")


@pytest.mark.spec("RET-16")
async def test_what_a_projection_provider_raises_reaches_nobodys_ending(url: str, clock: VirtualClock) -> None:
    executors, provider = TaskQueuesManager(), Refusing()

    @executors.executor("work", retries=0, store_on_success=True)
    async def work(task: Task[str], actions: Actions) -> None:
        if task.payload == "fails":
            raise ValueError("its own error")
        actions.success(task)

    async with harness(executors, url=url, clock=clock, projections=provider) as h:
        done, failed = await h.run(
            work.task("done", entity=Entity("Item", "1")), work.task("fails", entity=Entity("Item", "2"))
        )
        assert provider.asked > 0
        await h.assert_succeeded(done)
        await h.assert_failed(failed, "its own error")
        await h.assert_quiet()
