"""A server that is struck loses nothing that it acknowledged: else the runs against it would prove nothing."""

import socket
import subprocess

import pytest

from tests.crash import struck
from tests.servers import postgres_binaries

pytestmark = pytest.mark.crash


def asked_of_redis(url: str, words: str) -> str:
    host, _, port = url.removeprefix("redis://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(f"{words}\r\n".encode())
        return connection.recv(100).decode()


def test_redis_keeps_what_it_acknowledged() -> None:
    with struck.redis() as server:
        for number in range(3):
            assert asked_of_redis(server.url, f"RPUSH kept {number}") == f":{number + 1}\r\n"
            server.strike()
        assert asked_of_redis(server.url, "LLEN kept") == ":3\r\n"


def test_postgres_keeps_what_it_acknowledged() -> None:
    with struck.postgres() as server:
        binaries = postgres_binaries()
        assert binaries is not None

        def ask(sql: str) -> str:
            command = [f"{binaries}/psql", server.url, "-qtAc", sql]
            said: str = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            return said.strip()

        ask("CREATE TABLE kept (number int)")
        for number in range(3):
            ask(f"INSERT INTO kept SELECT {number}")
            server.strike()
        assert ask("SELECT count(*) FROM kept") == "3"
