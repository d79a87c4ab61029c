"""The rows of single tasks: scheduled, processing, ended; each kind once, in this order, whatever happens between."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from tests.stories.flows import projection
from tq import (
    Actions,
    AsyncTaskManager,
    Backoff,
    Entity,
    NonRetryableError,
    Task,
    TaskHandler,
    TaskQueuesManager,
    TaskStatus,
)
from tq.clock import to_datetime
from tq.errors import InvalidInputError
from tq.model import Batch, Claim, Hop, Projection, build_projection
from tq.ports import EntityProjectionProvider
from tq.testing import VirtualClock
from tq.testing.harness import Harness, harness

ITEM = Entity("Item", "i-1")


class Table(EntityProjectionProvider):
    """A user's own table: every call it had, and every row, in order; what it takes is newer than what it has."""

    def __init__(self) -> None:
        self.calls: list[list[Projection]] = []
        self.kept: dict[str, Projection] = {}

    async def upsert_projections(self, rows: Sequence[Projection]) -> None:
        self.calls.append(list(rows))
        for row in rows:
            if row.task_id not in self.kept or row.version > self.kept[row.task_id].version:
                self.kept[row.task_id] = row

    def life(self, task_id: str) -> list[str]:
        """Return the statuses that came for a task, in order."""
        return [str(row.status) for call in self.calls for row in call if row.task_id == task_id]


async def status(h: Harness, task_id: str) -> str:
    found = await projection(h.handler, task_id)
    assert found is not None
    return str(found.status)


@pytest.mark.spec("ENT-01", "ENT-03", "ENT-04", "ENT-07", "ENT-15", "ENT-16", "INV-07")
async def test_a_whole_life_is_three_rows(url: str, clock: VirtualClock) -> None:
    executors, table = TaskQueuesManager(), Table()

    @executors.executor("work")
    async def work(task: Task[Any], actions: Actions) -> None:
        await asyncio.sleep(10)
        actions.success(task, {"pages": 7})

    async with harness(executors, url=url, clock=clock, projections=table) as h:
        began = clock.now()
        [task_id] = await h.add(work.task(None, entity=ITEM))
        await clock.sleep(5)
        await h.drain()
        assert table.life(task_id) == ["scheduled", "processing", "executed"]
        first, second, last = [row for call in table.calls for row in call]
        assert {(it.entity_type, it.entity_id, it.task_type, it.queue_id) for it in (first, second, last)} == {
            ("Item", "i-1", "work", "default")
        }
        assert {it.created_at for it in (first, second, last)} == {began}
        assert [it.updated_at - began for it in (first, second, last)] == [0, 5, 15]
        assert first.version < second.version < last.version
        assert (last.result, last.error) == (b'{"pages":7}', None)


@pytest.mark.spec("ENT-01", "ENT-03", "D-55")
async def test_rows_stand_before_what_they_tell_of_can_happen(url: str, clock: VirtualClock) -> None:
    executors, seen, children = TaskQueuesManager(), list[str](), list[str]()
    now, later = to_datetime(clock.now()), to_datetime(clock.now() + 3600)

    @executors.executor("work")
    async def work(task: Task[Any], actions: Actions) -> None:
        seen.append(await status(h, task.id))
        actions.success(task)

    @executors.executor("parent")
    async def parent(task: Task[Any], actions: Actions) -> None:
        children.extend(actions.add_tasks([work.task(None, entity=ITEM, execute_at=later)]))
        actions.success(task)

    async with harness(executors, url=url, clock=clock) as h:
        ids = await h.add(
            work.task(None, entity=ITEM),
            work.task(None, entity=ITEM, execute_at=later),
            work.task(None, entity=ITEM, force_store=True),
            work.task(None, entity=ITEM, created_at=to_datetime(clock.now() - 60)),
        )
        assert {await status(h, task_id) for task_id in ids} == {"scheduled"}, "on every route"
        made = [await projection(h.handler, task_id) for task_id in ids]
        assert [it.created_at for it in made if it is not None] == [now.timestamp()] * 3 + [now.timestamp() - 60]
        await h.run(parent.task(None))
        assert seen == ["processing"] * 3
        waiting = [await status(h, task_id) for task_id in (ids[1], *children)]
        assert waiting == ["scheduled"] * 2, "it is not processing before it starts, whoever added it"


@pytest.mark.spec("ENT-03", "ENT-05", "ENT-06", "INV-07")
async def test_a_retry_stays_processing_and_the_last_failure_is_failed(url: str, clock: VirtualClock) -> None:
    executors, table = TaskQueuesManager(), Table()

    @executors.executor("work", retries=2, backoff=Backoff(base=10, jitter=0))
    async def work(task: Task[Any], actions: Actions) -> None:
        actions.fail(task, f"no {task.attempt}")

    async with harness(executors, url=url, clock=clock, projections=table) as h:
        [task_id] = await h.run(work.task(None, entity=ITEM))
        assert table.life(task_id) == ["scheduled", "processing"]
        await h.later(11)
        assert table.life(task_id) == ["scheduled", "processing"], "nothing for a retry"
        await h.later(41)
        assert table.life(task_id) == ["scheduled", "processing", "failed"]
        assert table.kept[task_id].error == "no 2"


@pytest.mark.spec("ENT-05")
async def test_a_failure_without_words_has_words(url: str, clock: VirtualClock) -> None:
    executors, table = TaskQueuesManager(), Table()

    @executors.executor("kept", retries=0)
    async def kept(task: Task[Any], actions: Actions) -> None:
        actions.fail(task)

    @executors.executor("discarded", retries=0, store_on_failure=False)
    async def discarded(task: Task[Any], actions: Actions) -> None:
        actions.fail(task)

    async with harness(executors, url=url, clock=clock, projections=table) as h:
        ids = await h.run(kept.task(None, entity=ITEM), discarded.task(None, entity=ITEM))
        assert [table.kept[id].error for id in ids] == ["Task failed", "Task exhausted all retries"]


@pytest.mark.spec("ENT-02", "ENT-08")
async def test_rows_go_out_together_and_only_for_those_with_an_entity(url: str, clock: VirtualClock) -> None:
    executors, table = TaskQueuesManager(), Table()

    @executors.executor("work", concurrency=200)
    async def work(task: Task[Any], actions: Actions) -> None:
        actions.success(task)

    async with harness(executors, url=url, clock=clock, projections=table, concurrency=200) as h:
        await h.run(*[work.task(None) for _ in range(10)])
        assert not table.calls, "no entity, no call"
        tasks = [work.task(None, entity=ITEM if n < 30 else None) for n in range(100)]
        await h.run(*tasks)
        assert sum(len(call) for call in table.calls) == 90
        assert max(len(call) for call in table.calls) >= 30
        assert len(table.calls) <= 4, "many at a time, not one call per task"


@pytest.mark.spec("ENT-08")
async def test_the_rows_of_a_group_that_starts_are_written_together(
    url: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    executors, written = TaskQueuesManager(), list[int]()

    class Group:
        async def on_tasks(self, tasks: list[Task[Any]], actions: Actions) -> None:
            for task in tasks:
                actions.success(task)

    executors.register("group", Group())
    async with harness(executors, url=url, clock=clock) as h:
        await h.add(*[Task(type="group", entity=ITEM if n < 30 else None) for n in range(50)])
        commit = h.handler.backend.commit

        async def counted(batch: Batch, claim: Claim | None = None) -> Hop:
            written.extend(len(effects.projections) for effects in batch.effects)
            return await commit(batch, claim)

        monkeypatch.setattr(h.handler.backend, "commit", counted)
        await h.drain()
        assert written == [30]


@pytest.mark.spec("ENT-07", "ENT-14", "D-55")
async def test_each_task_of_a_group_has_its_own_row(url: str, clock: VirtualClock) -> None:
    executors = TaskQueuesManager()

    class Group:
        async def on_tasks(self, tasks: list[Task[Any]], actions: Actions) -> None:
            for task in tasks:
                if task.payload % 2:
                    actions.fail(task, NonRetryableError("odd"))
                else:
                    actions.success(task, task.payload)

    executors.register("group", Group())
    async with harness(executors, url=url, clock=clock) as h:
        ids = await h.run(
            *[Task(type="group", payload=n, entity=Entity("N", f"{n}") if n != 4 else None) for n in range(6)]
        )
        found = [await projection(h.handler, task_id) for task_id in ids]
        assert [None if it is None else str(it.status) for it in found] == [
            "executed",
            "failed",
            "executed",
            "failed",
            None,
            "failed",
        ]


@pytest.mark.spec("ENT-12")
@pytest.mark.parametrize("include", [False, True])
async def test_the_payload_is_there_only_when_asked_for(url: str, clock: VirtualClock, include: bool) -> None:  # noqa: FBT001 -- drawn
    executors, table = TaskQueuesManager(), Table()

    @executors.executor("work")
    async def work(task: Task[dict[str, int]], actions: Actions) -> None:
        task.payload["n"] = 99
        actions.success(task)

    async with harness(executors, url=url, clock=clock, projections=table, include_payload=include) as h:
        await h.run(work.task({"n": 1}, entity=ITEM))
        expected = b'{"n":1}' if include else None
        assert [row.payload for call in table.calls for row in call] == [expected] * 3, "as its producer wrote it"


@pytest.mark.spec("ENT-13")
@pytest.mark.parametrize("fate", ["success", "fail", "swept"])
async def test_what_ends_in_the_managers_care_has_its_rows(url: str, clock: VirtualClock, fate: str) -> None:
    executors, table = TaskQueuesManager(), Table()

    @executors.executor("long", handoff_timeout=5, max_duration=100, retries=0)
    async def long(task: Task[Any], actions: Actions) -> None:
        await asyncio.sleep(1e9 if fate == "swept" else 50)
        if fate == "fail":
            actions.fail(task, "after all")
        else:
            actions.success(task, "at last")

    manager = AsyncTaskManager(clock=clock)
    async with harness(executors, url=url, clock=clock, async_tasks=manager, projections=table) as h:
        [task_id] = await h.add(long.task(None, entity=ITEM))
        await h.handler.start()
        await clock.sleep(300)
        assert table.life(task_id) == ["scheduled", "processing", "executed" if fate == "success" else "failed"]


@pytest.mark.spec("D-35", "D-55", "INV-07")
async def test_whatever_ends_unrun_goes_from_scheduled_to_its_end(url: str, clock: VirtualClock) -> None:
    executors, table = TaskQueuesManager(), Table()

    @executors.executor("work")
    async def work(task: Task[Any], actions: Actions) -> None:
        actions.success(task)

    @executors.executor("postponed")
    async def postponed(task: Task[Any], actions: Actions) -> None:
        actions.reschedule(50)

    @executors.task("typed")
    async def typed(payload: int) -> None: ...

    async with harness(executors, url=url, clock=clock, projections=table, unknown_grace=60) as h:
        now = clock.now()
        await h.handler.queue("default").pause()
        expired, cancelled, unknown, again = await h.add(
            work.task(None, entity=ITEM, expires_at=to_datetime(now + 5)),
            work.task(None, entity=ITEM, execute_at=to_datetime(now + 3600)),
            Task(type="of.tomorrow", entity=ITEM),
            postponed.task(None, entity=ITEM),
        )
        # Only a producer that does not know the executor can give it what it does not take.
        stranger = TaskHandler.on(h.handler.backend, clock=clock, projections=table)
        [misfit] = await stranger.add_tasks([Task(type="typed", payload="no number", entity=ITEM)])
        await clock.sleep(10)
        await h.handler.task(cancelled).cancel()
        await h.handler.queue("default").resume()
        await h.drain()
        assert table.life(unknown) == ["scheduled"], "released is not processing"
        await h.handler.start()
        await clock.sleep(200)
        assert table.life(expired) == ["scheduled", "failed"]
        assert "expired" in (table.kept[expired].error or "")
        assert table.life(cancelled) == ["scheduled", "cancelled"]
        assert table.life(unknown) == ["scheduled", "failed"]
        assert "of.tomorrow" in (table.kept[unknown].error or "")
        assert table.life(misfit) == ["scheduled", "failed"], "what is never started is never processing"
        assert table.kept[again].status is TaskStatus.PROCESSING
        await stranger.close()


@pytest.mark.spec("INV-07")
@pytest.mark.parametrize("how", ["replay", "retry"])
async def test_a_replay_opens_a_new_version(url: str, clock: VirtualClock, how: str) -> None:
    executors = TaskQueuesManager()

    @executors.executor("work", retries=0)
    async def work(task: Task[Any], actions: Actions) -> None:
        if task.generation == 0:
            actions.fail(task, "no")
        else:
            actions.success(task)

    async with harness(executors, url=url, clock=clock) as h:
        [task_id] = await h.run(work.task(None, entity=ITEM))
        failed = await projection(h.handler, task_id)
        await (h.handler.dead.replay(task_id) if how == "replay" else h.handler.task(task_id).retry())
        again = await projection(h.handler, task_id)
        await h.drain()
        executed = await projection(h.handler, task_id)
        assert failed is not None
        assert again is not None
        assert executed is not None
        assert [str(it.status) for it in (failed, again, executed)] == ["failed", "scheduled", "executed"]
        assert failed.version < again.version < executed.version


@pytest.mark.spec("ENT-10")
def test_an_entity_without_an_id_is_refused_with_the_way_out() -> None:
    with pytest.raises(InvalidInputError, match=r"Item 'i-1'.*id") as refused:
        build_projection(Task(type="work", entity=ITEM), TaskStatus.SCHEDULED, now=0.0)
    assert "store_on_failure" in str(refused.value)
    assert "force_store" in str(refused.value)
    assert build_projection(Task(type="work"), TaskStatus.SCHEDULED, now=0.0) is None
