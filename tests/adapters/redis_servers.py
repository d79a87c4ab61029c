"""Redis servers that a test may stop and start again."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shutil import which
from typing import Any, cast

import redis

from tests.servers import answers, folder, free_port, missing, started

__all__ = ["cluster", "raw", "server_in", "servers_folder"]


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
