"""On a cluster every namespace has its own slot, and everything works as on one server."""

import uuid
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, contextmanager
from typing import Any

import pytest

from tests.adapters.redis_servers import cluster, raw
from tq import Actions, FlowStep, Join, Task, TaskHandler, TaskQueuesManager
from tq.clock import Clock
from tq.errors import BackendError, BackendUnavailableError
from tq.model import Batch, Claim, Message, Remove, Settlement
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
    beat = 0.6  # three servers and their client share the machine with the other tests
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


async def test_while_a_namespace_moves_to_another_node_it_waits(url: str, nodes: str, clock: Clock) -> None:
    """Keys move one by one: a script that saw a part of them would take the rest for gone."""
    backend = open_backend(url, clock=clock, timeout=1.0)
    await backend.queue.add([Message("a", "q", "t", b"{}", clock.now()), Message("b", "q", "t", b"{}", clock.now())])
    (first,) = (await backend.queue.claim(Claim(("q",), 1, "w:1", 100.0))).deliveries
    with moving(nodes, backend.settings.root) as move:
        for part in (0, 2):  # before the first key has gone, and when some have
            move(part)
            with pytest.raises(BackendUnavailableError):
                await backend.commit(Batch([Settlement(first.receipt, Remove())]), Claim(("q",), 9, "w:2", 100.0))
        move(1000)
    hop = await backend.commit(Batch([Settlement(first.receipt, Remove())]), Claim(("q",), 9, "w:3", 100.0))
    assert (hop.refused, [it.message.id for it in hop.deliveries]) == ([], ["b"])
    await backend.close()


@contextmanager
def moving(address: str, root: str) -> Generator[Callable[[int], None], None, None]:
    """Give what moves so many more keys of a namespace to another node; at the end its slot belongs there."""
    with ExitStack() as stack:
        told: dict[str, dict[str, Any]] = stack.enter_context(raw(f"redis://{address}")).cluster("NODES")
        clients = {place: stack.enter_context(raw(f"redis://{place}")) for place in told}
        slot = clients[address].execute_command("CLUSTER KEYSLOT", root)
        owner = next(place for place, it in told.items() if any(int(a) <= slot <= int(b) for a, b in it["slots"]))
        heir = next(place for place in told if place != owner)
        host, port = heir.split(":")
        clients[heir].execute_command("CLUSTER SETSLOT", slot, "IMPORTING", told[owner]["node_id"])
        clients[owner].execute_command("CLUSTER SETSLOT", slot, "MIGRATING", told[heir]["node_id"])

        def move(count: int) -> None:
            names = clients[owner].execute_command("CLUSTER GETKEYSINSLOT", slot, count)
            if names:
                clients[owner].execute_command("MIGRATE", host, port, "", 0, 5000, "KEYS", *names)

        yield move
        for client in clients.values():
            client.execute_command("CLUSTER SETSLOT", slot, "NODE", told[heir]["node_id"])


async def test_a_cluster_has_one_database_only(nodes: str) -> None:
    with pytest.raises(BackendError, match=r"leave the number out|give a smaller number"):
        open_backend(f"redis://{nodes}/1")
