"""A user's own provider is fed in order, from the outbox, until it accepts; its trouble disturbs no task."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import pytest

from tests.stories.flows import Stage, steps
from tests.stories.test_flows_entity_tasks import Table
from tq import Actions, Entity, FlowStep, Join, Task, TaskHandler, TaskQueuesManager, TaskStatus, connect
from tq.errors import ContentRefusedError
from tq.model import Projection
from tq.testing import VirtualClock
from tq.testing.harness import Harness, harness

ITEM = Entity("Item", "i-1")


class Moody(Table):
    """A table that raises, or hangs, while it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.trouble: str = ""
        self.tries = 0
        self.bad = ""
        """The entity whose rows it refuses for their content."""

    async def upsert_projections(self, rows: Sequence[Projection]) -> None:
        self.tries += 1
        if self.trouble == "raises":
            raise RuntimeError("the table is away")
        if self.trouble == "hangs":
            await asyncio.sleep(1e9)
        if any(row.entity_id == self.bad for row in rows):
            raise ContentRefusedError("no such item")
        await super().upsert_projections(rows)


def working() -> tuple[TaskQueuesManager, list[str]]:
    """Return executors with one task "work", and where it notes what it ran."""
    executors, ran = TaskQueuesManager(), list[str]()

    @executors.executor("work", store_on_success=True)
    async def work(task: Task[Any], actions: Actions) -> None:
        ran.append(task.id)
        actions.success(task, "done")

    return executors, ran


async def waiting(h: Harness) -> int:
    """Return how many rows wait in the outbox."""
    return (await h.handler.backend.store.stats())["outgoing"]


@pytest.mark.spec("ENT-09", "INV-08", "ENT-15")
@pytest.mark.parametrize("trouble", ["raises", "hangs"])
async def test_a_provider_that_fails_for_an_hour_disturbs_no_task_and_misses_nothing(
    url: str, clock: VirtualClock, caplog: pytest.LogCaptureFixture, trouble: str
) -> None:
    (executors, ran), table = working(), Moody()
    table.trouble = trouble
    async with harness(executors, url=url, clock=clock, projections=table) as h:
        await h.handler.start()
        ids: list[str] = []
        with caplog.at_level(logging.ERROR):
            for number in range(60):
                began = clock.monotonic()
                ids += await h.add(Task(type="work", entity=Entity("Item", f"i-{number}")))
                await clock.sleep(0.5)
                assert ran[-1] == ids[-1], "tasks are added and run as ever"
                assert clock.monotonic() - began < 1
                await clock.sleep(59.5)
        assert not table.calls
        assert await waiting(h) == 180
        assert 30 < table.tries < 300, "asked again, ever later, not in a flood"
        assert 0 < len(caplog.records) < 30
        table.trouble = ""
        await clock.sleep(61)
        assert await waiting(h) == 0
        assert [table.life(id) for id in ids] == [["scheduled", "processing", "executed"]] * 60
        for task_id in ids:
            await h.assert_succeeded(task_id, "done")


@pytest.mark.spec("INV-07", "ENT-15")
async def test_rows_come_in_the_order_of_what_happened(url: str, clock: VirtualClock) -> None:
    executors, table = TaskQueuesManager(), Moody()

    @executors.executor("chain")
    async def chain(task: Task[int], actions: Actions) -> None:
        if task.payload < 5:
            actions.add_tasks([chain.task(task.payload + 1, entity=Entity("N", f"{task.payload + 1}"))])
        actions.success(task, task.payload)

    async with harness(executors, url=url, clock=clock, projections=table) as h:
        table.trouble = "raises"
        await h.run(chain.task(0, entity=Entity("N", "0")))
        table.trouble = ""
        await h.later(120)
        rows = [(row.entity_id, str(row.status)) for call in table.calls for row in call]
        for number in range(6):
            mine = [status for entity, status in rows if entity == f"{number}"]
            assert mine == ["scheduled", "processing", "executed"]
            if number:
                assert rows.index((f"{number - 1}", "processing")) < rows.index((f"{number}", "scheduled"))
                assert rows.index((f"{number}", "scheduled")) < rows.index((f"{number}", "processing"))


@pytest.mark.spec("D-55")
async def test_a_row_that_is_refused_for_its_content_keeps_none_of_the_others_back(
    url: str, clock: VirtualClock
) -> None:
    (executors, _), table = working(), Moody()
    table.bad = "i-3"
    async with harness(executors, url=url, clock=clock, projections=table) as h:
        ids = await h.run(*[Task(type="work", entity=Entity("Item", f"i-{number}")) for number in range(6)])
        assert [table.life(id)[-1:] for id in ids] == [["executed"]] * 3 + [[]] + [["executed"]] * 2
        assert await waiting(h) == 0
        await h.assert_succeeded(ids[3], "done")


@pytest.mark.spec("FLOW-09", "FLOW-26", "FLOW-27", "D-50", "INV-07")
@pytest.mark.parametrize("how", ["completes", "aborts", "deadline", "cancel", "redrive"])
async def test_a_flows_rows_reach_it_whoever_writes_them(url: str, clock: VirtualClock, how: str) -> None:
    stage, table = Stage(), Moody()
    async with harness(stage.executors, url=url, clock=clock, projections=table) as h:
        await h.handler.start()
        orders = ["a", {"sleep": 10.0, "fail": "no"} if how in ("aborts", "redrive") else {"sleep": 50.0}]
        policy = "abort" if how in ("aborts", "redrive") else "continue"
        timeout = 20.0 if how == "deadline" else None
        flow = await stage.start(h.handler, orders, entity=ITEM, failure_policy=policy, timeout=timeout)
        await clock.sleep(15)
        if how == "cancel":
            await h.handler.flow(flow).cancel()
        if how == "redrive":
            await h.handler.flow(flow).redrive()
        await clock.sleep(60)
        last = {
            "completes": ["executed"],
            "aborts": ["failed"],
            "deadline": ["failed"],
            "cancel": ["cancelled"],
            "redrive": ["failed", "processing", "failed"],
        }[how]
        assert [status for status, _ in groupby(table.life(flow))] == ["processing", *last], "perhaps twice, never back"
        words = {"completes": None, "deadline": "flow_timeout", "cancel": "flow_cancelled"}.get(how, "flow_aborted")
        assert table.kept[flow].error == words


@pytest.mark.spec("FLOW-07", "ENT-01")
async def test_rows_of_a_wide_flows_steps_reach_it(url: str, clock: VirtualClock) -> None:
    stage, table = Stage(), Moody()
    async with harness(stage.executors, url=url, clock=clock, projections=table) as h:
        members = [FlowStep("step", queue="media", payload=1, entity=Entity("Part", f"p-{n}")) for n in range(1100)]
        flow = await h.handler.start_flow(members, join=Join("join"), entity=ITEM)
        await h.drain()
        assert table.life(f"{flow}.1099") == ["scheduled", "processing", "executed"]
        assert table.life(flow) == ["processing", "executed"]
        assert len(table.kept) == 1101


async def test_rows_that_a_killed_worker_left_are_delivered_by_the_next(url: str, clock: VirtualClock) -> None:
    (executors, ran), table = working(), Moody()
    table.trouble = "raises"
    backend = connect(url, clock=clock)
    first, second = (
        TaskHandler(
            queue=backend.queue,
            store=backend.store,
            barrier=backend.barrier,
            projections=table,
            executors=executors,
            clock=clock,
        )
        for _ in range(2)
    )
    [task_id] = await first.add_tasks([Task(type="work", entity=ITEM)])
    await first.start()
    await clock.sleep(5)
    assert ran == [task_id]
    await first.kill()
    table.trouble = ""
    await second.start()
    await clock.sleep(5)
    assert table.life(task_id) == ["scheduled", "processing", "executed"]
    assert table.kept[task_id].status is TaskStatus.EXECUTED
    await second.close()
    await backend.close()


@pytest.mark.spec("ENT-02")
async def test_without_entities_an_own_provider_hears_nothing_of_a_flow(url: str, clock: VirtualClock) -> None:
    stage, table = Stage(), Moody()
    async with harness(stage.executors, url=url, clock=clock, projections=table) as h:
        await h.handler.start_flow(steps(1, 2, {"fail": "no"}), join=Join("join"))
        await h.drain()
        assert stage.told
        assert table.tries == 0
