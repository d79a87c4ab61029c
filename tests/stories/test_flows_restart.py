"""Everything about a flow lies in the file: processes end, others begin, and it goes on."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.stories.flows import Stage, entries, projection
from tests.stories.test_flows_wide import Wide
from tq import Entity, FlowStep, Join, TaskHandler, TaskStatus, connect
from tq.testing import VirtualClock


class Machine:
    """Processes that come and go, all over one file."""

    def __init__(self, stage: Stage, place: Path, clock: VirtualClock) -> None:
        self.stage = stage
        self.url = f"sqlite:///{place / 'tq.db'}"
        self.clock = clock

    @asynccontextmanager
    async def process(self, *, works: bool = True, **settings: Any) -> AsyncGenerator[TaskHandler]:
        """Open the file, work, and die."""
        backend = connect(self.url, clock=self.clock)
        handler = TaskHandler.on(backend, self.stage.executors, clock=self.clock, **settings)
        if works:
            await handler.start()
        yield handler
        await handler.kill()
        await backend.close()


@pytest.mark.spec("F-01", "D-54", "D-40", "INV-02", "INV-05")
async def test_a_flow_goes_on_through_processes_that_die(tmp_path: Path, clock: VirtualClock) -> None:
    stage = Stage()
    machine = Machine(stage, tmp_path, clock)
    async with machine.process(works=False) as producer:
        flow = await stage.start(producer, [{"sleep": 20.0, "result": n} for n in range(4)], entity=Entity("I", "i"))
    async with machine.process(concurrency=1):
        await clock.sleep(30)  # one step has ended, another runs
    assert len(stage.ran) == 2
    async with machine.process(concurrency=1) as worker:
        await clock.sleep(5)
        assert (await worker.flow(flow).status()).succeeded == 1
        await clock.sleep(25)
    assert not stage.told
    async with machine.process():
        await clock.sleep(120)
    assert entries(stage.only) == [(n, "success", n) for n in range(4)]
    async with machine.process(works=False) as reader:
        status = await reader.flow(flow).status()
        assert (status.succeeded, status.verdict) == (4, "completed")
        row = await projection(reader, flow)
        assert row is not None
        assert row.status is TaskStatus.EXECUTED


@pytest.mark.spec("D-54", "D-46")
async def test_a_deadline_is_kept_by_a_process_that_began_later(tmp_path: Path, clock: VirtualClock) -> None:
    stage = Stage()
    stage.executors.queue("elsewhere")
    machine = Machine(stage, tmp_path, clock)
    async with machine.process(works=False) as producer:
        await producer.start_flow([FlowStep("t", queue="elsewhere")], join=Join("join"), timeout=600)
    await clock.sleep(300)
    async with machine.process():
        await clock.sleep(299)
        assert not stage.told
        await clock.sleep(3)
        assert stage.only["timed_out"] is True


@pytest.mark.spec("D-54", "D-40")
async def test_a_plan_is_spread_by_a_process_that_began_later(tmp_path: Path, clock: VirtualClock) -> None:
    wide = Wide()
    machine = Machine(wide, tmp_path, clock)
    async with machine.process(works=False) as producer:
        await producer.start_flow(wide.members(), join=Join("count"))
    async with machine.process():
        await clock.sleep(30)
    assert wide.streamed == [2_000]


@pytest.mark.spec("D-54", "D-48")
async def test_a_redrive_by_another_process_knows_what_had_succeeded(tmp_path: Path, clock: VirtualClock) -> None:
    stage = Stage()
    machine = Machine(stage, tmp_path, clock)
    async with machine.process() as one:
        flow = await stage.start(one, ["a", {"fail": "no"}])
        await clock.sleep(5)
    async with machine.process() as other:
        assert await other.flow(flow).redrive() == 1
        await clock.sleep(5)
    assert stage.runs == {f"{flow}.0": 1, f"{flow}.1": 2}
    assert [it[1] for it in entries(stage.told[1])] == ["success", "fail"]
