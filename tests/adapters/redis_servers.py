"""Redis servers that a test may stop, start again, and speak to through a line that can be cut."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from shutil import which
from typing import Any, cast

import redis

from tests.servers import answers, folder, free_port, missing, started

__all__ = ["Cut", "cluster", "cut", "raw", "server_in", "servers_folder"]


@contextmanager
def servers_folder() -> Generator[Path, None, None]:
    """Give a folder for a server that outlives its stop."""
    with folder("redis") as (path, _):
        yield path


@contextmanager
def server_in(path: Path, port: int = 0, **options: object) -> Generator[str, None, None]:
    """Run a server over a folder until the block is left; give its address."""
    binary = which("redis-server")
    if binary is None:
        missing("Redis", "redis-server", "TQ_TEST_REDIS_URL")
    port = port or free_port()
    settings: dict[str, object] = {"port": port, "bind": "127.0.0.1", "dir": path, "save": "", "appendonly": "no"}
    settings |= {name.replace("_", "-"): value for name, value in options.items()}
    command = [binary, *(word for name, value in settings.items() for word in (f"--{name}", value))]
    # What runs it removes the folder that it is given.
    with (
        folder("redis") as (scratch, _),
        started(command, scratch, None, signal="KILL", ready=lambda: answers(port, b"PING\r\n", b"")),
    ):
        yield f"127.0.0.1:{port}"


def raw(url: str) -> Any:
    """Return a client that knows nothing of tq; its many verbs are typed too loosely to be checked."""
    return cast("Any", redis.Redis).from_url(url.partition("?")[0])


SLOTS = 16_384


@contextmanager
def cluster(nodes: int = 3) -> Generator[str, None, None]:
    """Run a cluster; give the address of one of its nodes."""
    with ExitStack() as stack:
        clients: list[Any] = []
        first = ""
        for number in range(nodes):
            path, bus = stack.enter_context(servers_folder()), free_port()
            node = server_in(path, cluster_enabled="yes", cluster_config_file="nodes.conf", cluster_port=bus)
            address = stack.enter_context(node)
            client = stack.enter_context(raw(f"redis://{address}"))
            low, high = SLOTS * number // nodes, SLOTS * (number + 1) // nodes - 1
            client.execute_command("CLUSTER ADDSLOTSRANGE", low, high)
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
            for other in clients:
                other.execute_command("CLUSTER MEET", *address.split(":"), bus)
            clients.append(client)
            first = first or address
        deadline = time.monotonic() + 30.0
        while not all(is_whole(client, nodes) for client in clients):
            assert time.monotonic() < deadline, "the cluster did not come up"
            time.sleep(0.05)
        yield first


def is_whole(node: Any, nodes: int) -> bool:
    """Tell whether a node knows all the others, and every slot."""
    told: dict[str, str] = node.execute_command("CLUSTER INFO")
    return told["cluster_state"] == "ok" and told["cluster_known_nodes"] == str(nodes)


class Cut:
    """A line to a server; what the server answers may be lost on the way."""

    def __init__(self) -> None:
        self.port = 0
        self.answers_to_lose = 0
        self.lost = 0

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int) -> None:
        """Carry what is said both ways, until one side is silent for good."""
        from_server, to_server = await asyncio.open_connection(host, port)
        try:
            await asyncio.gather(self._pass(reader, to_server), self._answer(from_server, writer))
        finally:
            for end in (writer, to_server):
                end.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if self.answers_to_lose:
                self.answers_to_lose -= 1
                self.lost += 1
                break
            writer.write(data)
        writer.close()


@asynccontextmanager
async def cut(address: str) -> AsyncGenerator[Cut, None]:
    """Run a line to a server."""
    host, _, port = address.rpartition(":")
    line = Cut()
    async with asyncio.TaskGroup() as carrying:

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await carrying.create_task(line.carry(reader, writer, host, int(port)))

        listening = await asyncio.start_server(accept, "127.0.0.1", 0)
        line.port = listening.sockets[0].getsockname()[1]
        try:
            yield line
        finally:
            listening.close()
