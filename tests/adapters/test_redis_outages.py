"""A server that goes away and comes back: workers wait, and go on by themselves."""

import asyncio
import logging

import pytest

from tests.adapters.redis_servers import server_in, servers_folder
from tests.servers import free_port
from tq import FlowStep, Join, TaskHandler, TaskQueuesManager
from tq.clock import Clock
from tq.errors import BackendUnavailableError
from tq.model import Message
from tq_redis import open_backend

pytestmark = pytest.mark.realtime


async def test_workers_go_on_when_a_killed_server_is_back(caplog: pytest.LogCaptureFixture) -> None:
    executors, port, members = TaskQueuesManager(), free_port(), 300
    ran: list[int] = []
    begun, joined = asyncio.Event(), asyncio.Event()

    @executors.task("step")
    async def step(number: int) -> int:
        ran.append(number)
        if len(ran) == members // 3:
            begun.set()
        await asyncio.sleep(0.01)
        return number

    @executors.task("join")
    async def join(_: object) -> None:
        joined.set()

    with servers_folder() as path:
        safe = {"appendonly": "yes", "appendfsync": "always"}
        with server_in(path, port, **safe):
            handler = await TaskHandler.connect(f"redis://127.0.0.1:{port}", executors, concurrency=5).__aenter__()
            await handler.start_flow([FlowStep("step", payload=number) for number in range(members)], join=Join("join"))
            await handler.start()
            await begun.wait()
        assert len(ran) < members
        await asyncio.sleep(0.5)  # the server is dead by now, and the worker knocks in vain
        with server_in(path, port, **safe):
            async with asyncio.timeout(60):
                await joined.wait()
            assert set(ran) == set(range(members))
            assert len(ran) <= members + 30, "only what ran when it died runs twice, if its lease has run out"
            await handler.__aexit__(None, None, None)
    warnings = [it.getMessage() for it in caplog.records if it.levelno >= logging.WARNING]
    assert any(f"127.0.0.1:{port}" in words for words in warnings)


async def test_a_script_that_the_server_forgot_is_sent_again(clock: Clock) -> None:
    port = free_port()
    with servers_folder() as path:
        with server_in(path, port, appendonly="yes", appendfsync="always"):
            backend = open_backend(f"redis://127.0.0.1:{port}", clock=clock)
            await backend.queue.add([Message("a", "q", "t", b"{}", clock.now())])
        with pytest.raises(BackendUnavailableError, match=f"127.0.0.1:{port}"):
            await backend.queue.counts()
        with server_in(path, port, appendonly="yes"):
            assert await backend.queue.add([Message("a", "q", "t", b"{}", clock.now())]) == ["a"]
            await backend.close()
