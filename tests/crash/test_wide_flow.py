"""A flow of a hundred thousand steps joins once with an entry for each; also when its workers are killed half-way."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stories.test_flows_wide import Wide
from tq import Join, Task, TaskHandler, connect
from tq.ports import Backend
from tq.testing import VirtualClock

pytestmark = pytest.mark.crash

COUNT = 100_000


@pytest.fixture(params=["memory", "sqlite"])
def backend(request: pytest.FixtureRequest, tmp_path: Path, clock: VirtualClock) -> Backend:
    """A backend that keeps up: SQLite in a file of its own, without a flush per commit."""
    if request.param == "memory":
        return connect("memory://", clock=clock)
    return connect(f"sqlite:///{tmp_path / 'wide.db'}", clock=clock, synchronous="NORMAL")


@pytest.mark.spec("F-18", "FLOW-13", "D-53", "INV-05", "INV-09")
async def test_a_hundred_thousand_steps_join_once(backend: Backend, clock: VirtualClock) -> None:
    wide = Wide(COUNT)
    handler = TaskHandler.on(backend, wide.executors, clock=clock)
    await handler.add_tasks([Task(type="fan")])
    await handler.drain()
    assert wide.streamed == [COUNT]
    assert len(set(wide.ran)) == len(wide.ran) == COUNT
    assert wide.only["counts"] == {"success": COUNT, "fail": 0, "open": 0}
    await handler.close()
    await backend.close()


@pytest.mark.spec("D-40", "INV-05")
async def test_a_hundred_thousand_steps_survive_workers_that_are_killed(backend: Backend, clock: VirtualClock) -> None:
    wide = Wide(COUNT)
    producer = TaskHandler.on(backend, wide.executors, clock=clock)
    flow = await producer.start_flow(wide.members(), join=Join("count"))
    for enough in (10_000, 40_000, 80_000):
        worker = TaskHandler.on(backend, wide.executors, clock=clock)
        await worker.start()
        while len(wide.ran) < enough:
            await clock.sleep(0.001)
        await worker.kill()
        await clock.sleep(31)
    worker = TaskHandler.on(backend, wide.executors, clock=clock)
    await worker.start()
    while not wide.streamed:
        await clock.sleep(1)
    assert wide.streamed == [COUNT]
    assert len(set(wide.ran)) == COUNT
    assert len(wide.ran) < COUNT + 20_000, "only what was in the hands of the dead runs twice"
    assert (await producer.flow(flow).status()).succeeded == COUNT
    await clock.sleep(120)
    assert len(wide.streamed) == 1
    for handler in (worker, producer):
        await handler.close()
    await backend.close()
