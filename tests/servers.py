"""The servers that tests talk to: named by the environment, or started privately and ended with the test run.

A private server is the child of a shell that waits on a pipe held by the test run. When the pipe closes, because the
run is over or was killed, the shell ends that one server by its pid and removes its folder.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pymongo
import pytest

__all__ = [
    "drop_database",
    "drop_schema",
    "empty_schema",
    "kinesalite",
    "kinesis",
    "mongo",
    "mongo_command",
    "postgres",
    "redis",
]

STARTING = 30.0
"""Seconds that a server may take until it answers."""

# $1 is the folder, $2 the signal that ends the server at once, the rest its command. A shell's background process
# ignores SIGINT until it sets a handler of its own; PostgreSQL does.
KEEPING = """folder=$1 signal=$2; shift 2
"$@" >"$folder/log" 2>&1 </dev/null & server=$!
read -r _
kill "-$signal" "$server" 2>/dev/null
wait "$server"
rm -rf "$folder"
"""


def missing(server: str, package: str, variable: str | None = None) -> None:
    """Skip what needs this server; where everything must be there, fail.

    Raises:
        pytest.skip.Exception: at home.
        pytest.fail.Exception: in CI.
    """
    words = f"{server} is not here: install it (on Debian: apt-get install {package})"
    if variable is not None:
        words += f", or set {variable} to its URL"
    if os.environ.get("CI") == "true":
        pytest.fail(words)
    pytest.skip(words)


@contextmanager
def postgres() -> Generator[str, None, None]:
    """Give the URL of a PostgreSQL server with a database for tests."""
    named = os.environ.get("TQ_TEST_POSTGRES_URL")
    if named:
        yield named
        return
    binaries = postgres_binaries()
    if binaries is None:
        missing("PostgreSQL", "postgresql", "TQ_TEST_POSTGRES_URL")
        return
    with folder("postgres") as (path, user):
        data, port = made_data(binaries, path, user), free_port()
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": path,
            "fsync": "off",  # killed servers keep what the system has; only the loss of power does not
            "max_connections": 200,
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        command = [binaries / "postgres", "-D", data, "-p", port, *options]
        with started(command, path, user, signal="INT", ready=lambda: "ready" in read(data / "postmaster.pid")):
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres"


def made_data(binaries: Path, path: Path, user: str | None) -> Path:
    """Make the folder in which a PostgreSQL server keeps its data, and return it."""
    data = path / "data"
    initdb = f"{binaries / 'initdb'} -D {data} -A trust -U postgres -E UTF8 --locale=C --no-sync"
    subprocess.run(initdb.split(), user=user, cwd=path, check=True, capture_output=True)
    return data


def postgres_binaries() -> Path | None:
    """Return the folder of the newest server there is: on the path, or where Debian keeps them."""
    found = [Path(on_path).resolve().parent] if (on_path := shutil.which("postgres")) else []
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    return next((path for path in found if (path / "initdb").exists() and (path / "postgres").exists()), None)


async def empty_schema(url: str, schema: str) -> None:
    """Empty the tables of a schema, if there are any; what they know of their own version stays."""
    connection = await asyncpg.connect(url)
    try:
        deletes = await connection.fetchval(
            "SELECT string_agg(format('DELETE FROM %I.%I', schemaname, tablename), ';') FROM pg_tables"
            " WHERE schemaname = $1 AND tablename NOT LIKE '%\\_schema'",
            schema,
        )
        if deletes is not None:
            await connection.execute(deletes)  # a few rows go faster than a table is truncated
    finally:
        await connection.close()


async def drop_schema(url: str, schema: str) -> None:
    """Remove a schema, with all that is in it."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
    finally:
        await connection.close()


@contextmanager
def redis() -> Generator[str, None, None]:
    """Give the URL of a Redis server."""
    named = os.environ.get("TQ_TEST_REDIS_URL")
    if named:
        yield named
        return
    binary = shutil.which("redis-server")
    if binary is None:
        missing("Redis", "redis-server", "TQ_TEST_REDIS_URL")
        return
    with folder("redis") as (path, user):
        port = free_port()
        options = {"port": port, "bind": "127.0.0.1", "dir": path, "save": "", "appendonly": "no"}
        command = [binary, *(word for name, value in options.items() for word in (f"--{name}", value))]
        with started(command, path, user, signal="TERM", ready=lambda: answers(port, b"PING\r\n", b"+PONG")):
            yield f"redis://127.0.0.1:{port}"


@contextmanager
def mongo() -> Generator[str, None, None]:
    """Give the URL of a MongoDB server: a real one where there is one, else the emulator of its wire protocol."""
    named = os.environ.get("TQ_TEST_MONGO_URL")
    if named:
        yield named
        return
    with folder("mongo") as (path, user):
        port = free_port()
        with started(mongo_command(path, port), path, user, signal="TERM", ready=lambda: answers(port, b"", b"")):
            yield f"mongodb://127.0.0.1:{port}"


def mongo_command(path: Path, port: int) -> list[object]:
    """Return what runs a MongoDB server over a folder, or else its emulator, which keeps everything in memory."""
    binary = shutil.which("mongod")
    if binary is None:
        return [sys.executable, Path(__file__).with_name("mongo_emulator.py"), port]
    return [binary, "--port", port, "--bind_ip", "127.0.0.1", "--dbpath", path]


def drop_database(url: str, database: str) -> None:
    """Remove a database of a MongoDB server, with all that is in it."""
    with pymongo.MongoClient[dict[str, object]](url) as client:
        client.drop_database(database)


@contextmanager
def kinesis() -> Generator[str, None, None]:
    """Give the URL of a Kinesis server that splits and merges shards as the real one does."""
    named = os.environ.get("TQ_TEST_KINESIS_URL")
    if named:
        yield named
        return
    home = node_module("kinesis-local")
    if home is None:
        missing("kinesis-local", "nodejs npm; npm install -g kinesis-local", "TQ_TEST_KINESIS_URL")
        return
    quick = {f"{name}_DURATION": "20ms" for name in ("CREATE_STREAM", "DELETE_STREAM", "SPLIT_SHARD", "MERGE_SHARDS")}
    port = free_port()
    settings = {
        "KINESIS_MOCK_PLAIN_PORT": port,
        "KINESIS_MOCK_TLS_PORT": free_port(),
        "KINESIS_MOCK_CERT_PATH": home / "server.json",
        "LOG_LEVEL": "ERROR",
        "SHARD_LIMIT": 200,
        **quick,
    }
    command = ["env", *(f"{name}={value}" for name, value in settings.items()), "node", home / "main.js"]
    with (
        folder("kinesis") as (path, user),
        started(command, path, user, signal="TERM", ready=lambda: answers(port, b"GET / HTTP/1.0\r\n\r\n", b"HTTP/")),
    ):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def kinesalite() -> Generator[str, None, None]:
    """Give the URL of a Kinesis server that is quick with many records."""
    home = node_module("kinesalite")
    if home is None:
        missing("kinesalite", "nodejs npm; npm install -g kinesalite")
        return
    port = free_port()
    options = [word for name in ("create", "delete", "update") for word in (f"--{name}StreamMs", "20")]
    command = ["node", home / "cli.js", "--port", port, "--shardLimit", "200", *options]
    with (
        folder("kinesalite") as (path, user),
        started(command, path, user, signal="TERM", ready=lambda: answers(port, b"GET / HTTP/1.0\r\n\r\n", b"HTTP/")),
    ):
        yield f"http://127.0.0.1:{port}"


def node_module(name: str) -> Path | None:
    """Return the folder of a module of Node.js: below TQ_TEST_NODE_MODULES, or installed for everybody."""
    if shutil.which("node") is None:
        return None
    roots = [os.environ.get("TQ_TEST_NODE_MODULES", "")]
    if npm := shutil.which("npm"):
        asked = subprocess.run([npm, "root", "-g"], capture_output=True, text=True, check=False)
        roots.append(asked.stdout.strip())
    return next((Path(root) / name for root in roots if root and (Path(root) / name).is_dir()), None)


# --- starting and ending ----------------------------------------------------------------------------------------------


@contextmanager
def folder(server: str) -> Generator[tuple[Path, str | None], None, None]:
    """Make a folder for a server, and name the user to run it: PostgreSQL refuses to be root."""
    path = Path(tempfile.mkdtemp(prefix=f"tq-{server}-"))
    user = "postgres" if server == "postgres" and os.geteuid() == 0 else None
    if user is not None:
        shutil.chown(path, user)
    try:
        yield path, user
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def started(
    command: Sequence[object], path: Path, user: str | None, *, signal: str, ready: Callable[[], bool]
) -> Generator[int, None, None]:
    """Run a server until the block is left; give the id of the process that keeps it.

    Raises:
        RuntimeError: it did not come up; with what it said.
    """
    keeper = subprocess.Popen(
        ["/bin/sh", "-c", KEEPING, "sh", path, signal, *map(str, command)],
        stdin=subprocess.PIPE,
        user=user,
        cwd=path,
        start_new_session=True,  # Ctrl-C is for the test run, which then ends the server
    )
    assert keeper.stdin is not None
    try:
        deadline = time.monotonic() + STARTING
        while not ready():
            if time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} did not come up:\n{read(path / 'log')}")
            time.sleep(0.01)
        yield keeper.pid
    finally:
        keeper.stdin.close()
        keeper.wait(STARTING)


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(port: int, question: bytes, answer: bytes) -> bool:
    """Tell whether a server on this port gives this answer."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(question)
            return connection.recv(len(answer)) == answer
    except OSError:
        return False


def read(path: Path) -> str:
    """Return the text of a file, which may not be there yet."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
