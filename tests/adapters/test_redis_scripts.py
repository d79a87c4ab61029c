"""The script is what stands in lua/, all of it, and each of its files says what it is for."""

from pathlib import Path

import pytest

import tq_redis
from tests.adapters.redis_servers import server_in, servers_folder
from tests.servers import free_port
from tq.clock import Clock
from tq.errors import BackendUnavailableError
from tq.model import Message
from tq_redis import open_backend
from tq_redis.scripts import script

LUA = sorted((Path(tq_redis.__file__).parent / "lua").glob("*.lua"))


def test_every_file_is_part_of_the_script() -> None:
    assert len(LUA) > 10
    missing = [path.name for path in LUA if path.read_bytes() not in script().text]
    assert not missing, f"name these in tq_redis/scripts.py: {missing}"


def test_every_file_opens_with_a_sentence_and_is_read_at_one_sitting() -> None:
    silent = [path.name for path in LUA if not path.read_text(encoding="utf-8").startswith("-- ")]
    long = [path.name for path in LUA if len(path.read_text(encoding="utf-8").splitlines()) > 320]
    assert (silent, long) == ([], [])


def test_the_script_is_the_same_for_every_caller() -> None:
    """Its name is made of its text: a script that differed from call to call would fill the server."""
    assert script() is script()
    assert len(script().sha) == 40


@pytest.mark.realtime
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
