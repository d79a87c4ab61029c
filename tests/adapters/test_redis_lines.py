"""A server may be spoken to through a Unix socket, or through TLS."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.adapters.redis_servers import server_in, servers_folder
from tests.servers import free_port, missing
from tq.clock import Clock
from tq.errors import BackendUnavailableError
from tq.model import Claim, Message
from tq_redis import open_backend

pytestmark = pytest.mark.realtime


async def serves(url: str, clock: Clock) -> None:
    """See that tasks go in and come out, and that keepers get through."""
    backend = open_backend(url, clock=clock)
    await backend.queue.add([Message("a", "q", "t", b"{}", clock.now())])
    (delivery,) = (await backend.queue.claim(Claim(("q",), 9, "w:1", 30.0))).deliveries
    async with backend.keeper() as keeper:
        assert (await keeper.renew([delivery], 60.0)).lost == ()
    assert await backend.queue.ack([delivery.receipt]) == []
    await backend.close()


async def test_a_unix_socket_serves(clock: Clock) -> None:
    with servers_folder() as path, server_in(path, unixsocket=path / "redis.sock"):
        await serves(f"redis+unix://{path}/redis.sock", clock)


async def test_tls_serves_whom_it_can_show_a_certificate_that_is_trusted(clock: Clock) -> None:
    with servers_folder() as path:
        certificate, key = certified(path)
        port = free_port()
        tls = {"tls_port": port, "tls_cert_file": certificate, "tls_key_file": key, "tls_auth_clients": "no"}
        with server_in(path, **tls):  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] -- none is `port`
            await serves(f"rediss://127.0.0.1:{port}?tls_ca={certificate}", clock)
            with pytest.raises(BackendUnavailableError, match="certificate"):
                open_backend(f"rediss://127.0.0.1:{port}", clock=clock)


def certified(path: Path) -> tuple[Path, Path]:
    """Make a certificate that vouches for itself, and its key."""
    if shutil.which("openssl") is None:
        missing("openssl", "openssl")
    certificate, key = path / "server.crt", path / "server.key"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=tq -addext subjectAltName=IP:127.0.0.1"
    subprocess.run([*command.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return certificate, key
