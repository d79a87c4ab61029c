"""A server fails over: its successor has all that was acknowledged, and workers go on there by themselves."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.adapters.lines import Line, line
from tests.adapters.redis_servers import raw, server_in, servers_folder
from tests.crash import struck
from tests.servers import folder, free_port, postgres_binaries, read, started
from tq import FlowStep, Join, TaskHandler, TaskQueuesManager

pytestmark = pytest.mark.realtime

MEMBERS = 100

FailOver = Callable[[], AbstractAsyncContextManager[None]]


async def until(true: Callable[[], bool]) -> None:
    """Return when it is true."""
    while not true():  # noqa: ASYNC110 -- nothing tells when
        await asyncio.sleep(0.02)


@asynccontextmanager
async def redis() -> AsyncGenerator[tuple[Line, FailOver], None]:
    """A primary and its replica."""
    with ExitStack() as stack:
        safe: dict[str, Any] = {"appendonly": "yes", "appendfsync": "always"}
        first = stack.enter_context(server_in(stack.enter_context(servers_folder()), **safe))
        of = first.replace(":", " ")
        second = stack.enter_context(server_in(stack.enter_context(servers_folder()), replicaof=of, **safe))
        urls = f"redis://{first}", f"redis://{second}"
        primary, replica = [stack.enter_context(raw(url)) for url in urls]
        await until(lambda: replica.info("replication")["master_link_status"] == "up")
        async with line(urls[0]) as to_server:

            @asynccontextmanager
            async def fail_over() -> AsyncGenerator[None, None]:
                """As a watcher does it in order: nothing more is acknowledged that the successor has not got."""
                primary.execute_command("CLIENT PAUSE 60000 WRITE")
                await until(lambda: primary.wait(1, 100) == 1)
                to_server.lead_to(urls[1])
                yield  # a replica that is none yet
                replica.replicaof("NO", "ONE")

            yield to_server, fail_over


def copied(url: str, binaries: Path, data: Path, user: str | None) -> None:
    """Copy what a server has, so that its copy follows it."""
    command: list[str | Path] = [binaries / "pg_basebackup", "-D", data, "-R", "-X", "stream", "-c", "fast", "-d", url]
    subprocess.run(command, user=user, cwd=data.parent, check=True, capture_output=True)


@asynccontextmanager
async def postgres() -> AsyncGenerator[tuple[Line, FailOver], None]:
    """A primary, and a standby that has every commit before it is acknowledged."""
    binaries = postgres_binaries()
    with struck.postgres() as primary, folder("postgres") as (path, user):
        assert binaries is not None
        data, port = path / "data", free_port()
        await asyncio.to_thread(copied, primary.url, binaries, data, user)
        settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": path, "max_connections": 200}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        command = [binaries / "postgres", "-D", data, "-p", port, *options]
        standby = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        with started(command, path, user, signal="QUIT", ready=lambda: "ready" in read(data / "postmaster.pid")):
            watcher = await asyncpg.connect(primary.url)
            await watcher.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            await watcher.execute("SELECT pg_reload_conf()")
            synchronous = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
            while not await watcher.fetchval(synchronous):  # noqa: ASYNC110 -- as `until`
                await asyncio.sleep(0.02)
            await watcher.close()
            async with line(primary.url) as to_server:

                @asynccontextmanager
                async def fail_over() -> AsyncGenerator[None, None]:
                    await asyncio.to_thread(primary.end)
                    to_server.lead_to(standby)
                    yield  # a standby still: it can be read, and not be written to
                    successor = await asyncpg.connect(standby)
                    await successor.execute("SELECT pg_promote()")
                    await successor.close()

                yield to_server, fail_over


@pytest.mark.parametrize("pair", [redis, postgres])
async def test_workers_go_on_at_the_successor(
    pair: Callable[[], AbstractAsyncContextManager[tuple[Line, FailOver]]], caplog: pytest.LogCaptureFixture
) -> None:
    executors, ran = TaskQueuesManager(), list[int]()
    under_way, joined = asyncio.Event(), asyncio.Event()

    @executors.task("step")
    async def step(number: int) -> int:
        ran.append(number)
        if len(ran) == MEMBERS // 3:
            under_way.set()
        await asyncio.sleep(0.01)
        return number

    @executors.task("join")
    async def join(_: object) -> None:
        joined.set()

    async with pair() as (to_server, fail_over):
        # Opening may block, and the line is carried by this very loop.
        handler = await asyncio.to_thread(TaskHandler.connect, to_server.url, executors, concurrency=5, lease=2.0)
        async with handler:
            steps = [FlowStep("step", payload=number) for number in range(MEMBERS)]
            flow = await handler.start_flow(steps, join=Join("join"))
            await handler.start()
            await under_way.wait()
            async with fail_over():
                assert len(ran) < MEMBERS
                await until(lambda: any("primary" in words for words in caplog.messages))
            async with asyncio.timeout(60):
                await joined.wait()
            assert set(ran) == set(range(MEMBERS))
            assert (await handler.flow(flow).status()).succeeded == MEMBERS
