"""Servers that are struck down in the midst of a run, and come up again with all that they acknowledged.

Always private ones, whatever the environment names: nobody else's server is to be killed.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.servers import (
    answers,
    folder,
    free_port,
    made_data,
    missing,
    mongo_command,
    postgres_binaries,
    read,
    started,
)

__all__ = ["Server", "mongo", "postgres", "redis"]

LONGEST = 1.0
"""Seconds for which a server that was struck stays away, at most."""


class Server:
    """One server after the other, on the same port and over the same data."""

    def __init__(
        self,
        url: str,
        command: Sequence[object],
        path: Path,
        user: str | None,
        *,
        ending: str,
        ready: Callable[[], bool],
    ) -> None:
        self.url = url
        self._command = command
        self._path = path
        self._user = user
        self._ending = ending
        self._ready = ready
        self._life = ExitStack()
        self._lives = 0
        self._keeper = 0

    def start(self) -> None:
        """Start it; each life has a folder of its own, which goes with it, for what it says."""
        self._lives += 1
        path = self._path / f"life-{self._lives}"
        path.mkdir()
        if self._user is not None:
            shutil.chown(path, self._user)
        life = started(self._command, path, self._user, signal=self._ending, ready=self._ready)
        self._keeper = self._life.enter_context(life)

    def end(self) -> None:
        """End it at once: nothing is written that was not written before."""
        self._life.close()

    def strike(self) -> None:
        """End it, and start it again, soon; blocks meanwhile."""
        self.end()
        time.sleep(random.uniform(0.0, LONGEST))
        self.start()

    @contextmanager
    def frozen(self) -> Generator[None, None, None]:
        """Let it stand still until the block is left: it takes connections, and answers nobody."""
        pids = descendants(self._keeper)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)


def descendants(pid: int) -> list[int]:
    """Return the processes that a process has brought forth, parents first."""
    told: str = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], check=True, capture_output=True, text=True).stdout
    parents = [(int(child), int(parent)) for child, parent in map(str.split, told.splitlines())]
    found = [pid]
    for one in found:
        found += [child for child, parent in parents if parent == one]
    return found[1:]


@contextmanager
def redis(password: str = "") -> Generator[Server, None, None]:
    """A Redis server that writes every command to its log before it answers; it may ask for a password."""
    binary = shutil.which("redis-server")
    if binary is None:
        missing("Redis", "redis-server")
        return
    with folder("redis") as (path, user):
        port = free_port()
        options = {"port": port, "bind": "127.0.0.1", "dir": path, "save": "", "appendonly": "yes"}
        options |= {"appendfsync": "always", "maxmemory-policy": "noeviction", "requirepass": password}
        enter, welcome = (f"AUTH {password}\r\n".encode(), b"+OK\r\n") if password else (b"", b"")
        command = [binary, *(word for name, value in options.items() for word in (f"--{name}", value))]
        server = Server(
            f"redis://{f':{password}@' if password else ''}127.0.0.1:{port}",
            command,
            path,
            user,
            ending="KILL",
            ready=lambda: answers(port, enter + b"PING\r\n", welcome + b"+PONG"),
        )
        yield from living(server)


@contextmanager
def postgres() -> Generator[Server, None, None]:
    """A PostgreSQL server that is stopped without a checkpoint, as after a loss of power."""
    binaries = postgres_binaries()
    if binaries is None:
        missing("PostgreSQL", "postgresql")
        return
    with folder("postgres") as (path, user):
        data, port = made_data(binaries, path, user), free_port()
        settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": path, "max_connections": 200}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        server = Server(
            f"postgresql://postgres@127.0.0.1:{port}/postgres",
            [binaries / "postgres", "-D", data, "-p", port, *options],
            path,
            user,
            ending="QUIT",  # its own word for this; it takes the file of its process id along
            ready=lambda: "ready" in read(data / "postmaster.pid"),
        )
        yield from living(server)


@contextmanager
def mongo() -> Generator[Server, None, None]:
    """A MongoDB server that is killed; or its emulator, which would lose everything by that, and can be frozen."""
    with folder("mongo") as (path, user):
        port = free_port()
        server = Server(
            f"mongodb://127.0.0.1:{port}/?timeout=1",
            mongo_command(path, port),
            path,
            user,
            ending="KILL",
            ready=lambda: answers(port, b"", b""),
        )
        yield from living(server)


def living(server: Server) -> Generator[Server, None, None]:
    """Yield a server that runs until the generator is left."""
    server.start()
    try:
        yield server
    finally:
        server.end()
