"""On a cluster every namespace has its own slot, and everything works as on one server."""

import uuid
from collections.abc import AsyncGenerator, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from tests.adapters.redis_servers import cluster, raw
from tq import Actions, FlowStep, Join, Task, TaskHandler, TaskQueuesManager
from tq.clock import Clock
from tq.errors import BackendError
from tq.ports import Backend
from tq.testing.contracts import BackendContract
from tq_redis import RedisSettings, open_backend

pytestmark = pytest.mark.realtime


@pytest.fixture(scope="module")
def nodes() -> Generator[str, None, None]:
    """The address of a node."""
    with cluster() as address:
        yield address


@pytest.fixture
def url(nodes: str) -> str:
    """A namespace of its own."""
    return f"redis://{nodes}?namespace=tq-{uuid.uuid4().hex}"


class TestRedisCluster(BackendContract):
    beat = 0.3
    url: str

    @pytest.fixture(autouse=True)
    def _namespace(self, url: str) -> None:
        self.url = url

    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncGenerator[Backend, None]:
        backend = open_backend(self.url, clock=clock)
        try:
            yield backend
        finally:
            await backend.close()

    def reopen(self, port: Backend, clock: Clock) -> AbstractAsyncContextManager[Backend]:
        return self.open(clock)


async def test_a_flow_runs_through_workers_on_a_cluster(url: str) -> None:
    executors = TaskQueuesManager()
    joined: list[int] = []

    @executors.task("square", retries=1)
    async def square(number: int) -> int:
        return number * number

    @executors.executor("add", store_on_success=True)
    async def add(task: Task[Any], actions: Actions) -> None:
        joined.append(sum([entry["result"] async for entry in actions.flow_results(task)]))
        actions.success(task, joined[0])

    async with TaskHandler.connect(url, executors) as handler:
        flow = await handler.start_flow([FlowStep("square", payload=number) for number in range(40)], join=Join("add"))
        await handler.start()
        await handler.flow(flow).wait(timeout=30.0)
    assert joined == [sum(number * number for number in range(40))]


async def test_namespaces_are_spread_over_the_nodes(url: str, nodes: str) -> None:
    with raw(f"redis://{nodes}") as client:
        slots = {client.execute_command("CLUSTER KEYSLOT", f"{{tq-{number}}}:messages") for number in range(9)}
        root = RedisSettings.parse(url).root
        own = {client.execute_command("CLUSTER KEYSLOT", f"{root}:{name}") for name in ("messages", "ids", "flow:f")}
    assert len(slots) > 1
    assert len(own) == 1


async def test_a_cluster_has_one_database_only(nodes: str) -> None:
    with pytest.raises(BackendError, match="database 0 only; leave the number out"):
        open_backend(f"redis://{nodes}/1")
