"""The first look at a server: what cannot be used is refused by name, what may lose tasks is warned of."""

import logging

import pytest

from tests.adapters.redis_servers import raw, server_in, servers_folder
from tests.servers import free_port
from tq.errors import (
    BackendError,
    BackendUnavailableError,
    ConfigurationError,
    ForeignDatabaseError,
    ReadOnlyDatabaseError,
)
from tq_redis import RedisSettings, open_backend
from tq_redis.check import Found, check_database, check_version


def test_a_server_that_is_not_there_is_named() -> None:
    port = free_port()
    with pytest.raises(BackendUnavailableError, match=f"127.0.0.1:{port}.*see that it runs") as raised:
        open_backend(f"redis://me:secret@127.0.0.1:{port}")
    assert "secret" not in str(raised.value)


def test_a_wrong_password_is_named_as_such_and_not_shown() -> None:
    with servers_folder() as path, server_in(path, requirepass="right") as address:
        for given in ("wrong-one@", ""):
            url = f"redis://:{given}{address}" if given else f"redis://{address}"
            with pytest.raises(BackendError, match=f"{address}.*check name and password") as raised:
                open_backend(url)
            assert "wrong-one" not in str(raised.value)
        open_backend(f"redis://:right@{address}")


def test_a_database_that_is_not_there_is_named(redis_url: str) -> None:
    with pytest.raises(BackendError, match="has no such database; give a smaller number"):
        open_backend(redis_url.replace("?", "/999?"))


def test_a_server_that_is_too_old_is_refused() -> None:
    check_version("here", {"redis_version": "6.2.0"})
    check_version("here", {"redis_version": "8.4.1"})
    for version in ("6.0.16", "5.0.7", ""):
        with pytest.raises(ConfigurationError, match=r"Redis 6\.2 or newer"):
            check_version("here", {"redis_version": version})


def test_a_numbered_database_of_a_cluster_is_refused() -> None:
    """Where there is one: Redis has none, Valkey may. The clients of a cluster would use the first."""
    check_database(RedisSettings(database=1), Found(cluster=False))
    check_database(RedisSettings(), Found(cluster=True))
    with pytest.raises(ConfigurationError, match="leave the number out"):
        check_database(RedisSettings(database=1), Found(cluster=True))


def test_a_replica_is_refused_with_the_way_out() -> None:
    with (
        servers_folder() as path,
        server_in(path) as primary,
        servers_folder() as other,
        server_in(other, replicaof=primary.replace(":", " ")) as replica,
        pytest.raises(ReadOnlyDatabaseError, match=f"{replica}.*name its primary"),
    ):
        open_backend(f"redis://{replica}")


def test_what_may_lose_tasks_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with servers_folder() as path, server_in(path, appendonly="no", maxmemory_policy="allkeys-lru") as address:
        open_backend(f"redis://{address}")
    assert [it.levelno for it in caplog.records] == [logging.WARNING] * 2
    assert "appendonly yes" in caplog.messages[0]
    assert "maxmemory-policy noeviction" in caplog.messages[1]
    caplog.clear()
    with servers_folder() as path, server_in(path, appendonly="yes") as address:
        open_backend(f"redis://{address}")
    assert caplog.messages == []


def test_keys_of_another_program_are_left_alone(redis_url: str) -> None:
    settings = RedisSettings.parse(redis_url)
    with raw(redis_url) as client:
        client.set(f"{settings.root}:messages", "somebody's")
        with pytest.raises(ForeignDatabaseError, match=f"another program.*namespace=.*{settings.namespace}"):
            open_backend(redis_url)
        assert client.keys(f"{settings.root}:*") == [f"{settings.root}:messages".encode()]


@pytest.mark.parametrize(("layout", "words"), [("99", "made by a newer tq.*upgrade tq"), ("mine", "another program")])
def test_a_layout_that_is_not_known_is_left_alone(redis_url: str, layout: str, words: str) -> None:
    with raw(redis_url) as client:
        client.set(f"{RedisSettings.parse(redis_url).root}:layout", layout)
        with pytest.raises(ForeignDatabaseError, match=words):
            open_backend(redis_url)
