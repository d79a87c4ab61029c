"""The queue in a file passes the public suite, and carries a flow beside a store of another kind."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tq_file import FileQueue

from tq import Actions, FlowStep, Join, Task, TaskHandler, TaskQueuesManager
from tq.clock import Clock
from tq.errors import BackendUnavailableError, ForeignDatabaseError
from tq.memory import MemoryBarrier, MemoryStore
from tq.ports import Custody
from tq.testing import VirtualClock
from tq.testing.contracts import QueueContract


class TestFileQueue(QueueContract):
    """All that is to be said: how it is opened over data of its own, and how the same data is opened again."""

    path: Path

    @pytest.fixture(autouse=True)
    def _path(self, tmp_path: Path) -> None:
        self.path = tmp_path / "queue.json"

    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncGenerator[FileQueue, None]:
        queue = FileQueue(self.path, clock=clock)
        try:
            yield queue
        finally:
            await queue.close()

    def reopen(self, port: Custody, clock: Clock) -> AbstractAsyncContextManager[FileQueue]:
        return self.open(clock)


# --- what no port promises --------------------------------------------------------------------------------------------


async def test_a_flow_runs_over_a_file_and_its_join_runs_once(tmp_path: Path, clock: VirtualClock) -> None:
    executors, told = TaskQueuesManager(), list[Any]()

    @executors.executor("sum")
    async def add_up(task: Task[Any], actions: Actions) -> None:
        actions.success_when(actions.start_flow([FlowStep("double", payload=n) for n in range(4)], join=Join("done")))

    @executors.task("double")
    async def double(number: int) -> int:
        return 2 * number

    @executors.executor("done")
    async def done(task: Task[Any], actions: Actions) -> None:
        told.append([step["result"] for step in task.payload["flow_results"]["steps"]])
        actions.success(task)

    handler = TaskHandler(
        queue=FileQueue(tmp_path / "queue.json", clock=clock),
        store=MemoryStore(clock=clock),
        barrier=MemoryBarrier(clock=clock),
        executors=executors,
        clock=clock,
    )
    await handler.add_tasks([Task(type="sum", payload=None)])
    await handler.drain()
    assert told == [[0, 2, 4, 6]]
    assert json.loads((tmp_path / "queue.json").read_text())["rows"] == []
    await handler.close()


async def test_errors_name_the_file_and_the_way_out(tmp_path: Path, clock: VirtualClock) -> None:
    with pytest.raises(BackendUnavailableError, match=r"nowhere/queue\.json.*is its folder there"):
        await FileQueue(tmp_path / "nowhere" / "queue.json", clock=clock).add([])
    for text, words in (("[]", "give another path"), ("{", "give another path"), ('{"format": 2}', "upgrade it")):
        (tmp_path / "queue.json").write_text(text)
        with pytest.raises(ForeignDatabaseError, match=words):
            await FileQueue(tmp_path / "queue.json", clock=clock).counts()
