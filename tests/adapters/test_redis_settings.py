"""An address of Redis is read with its options, and a wrong one is refused with the way out."""

import pytest

from tq.errors import ConfigurationError, InvalidInputError
from tq_redis import RedisSettings


def test_an_address_is_read_with_its_options() -> None:
    settings = RedisSettings.parse("rediss://me:s%40crt@db.example:7000/3?namespace=shop&timeout=2.5", connections=4)
    assert (settings.host, settings.port, settings.database, settings.tls) == ("db.example", 7000, 3, True)
    assert (settings.username, settings.password) == ("me", "s@crt")
    assert (settings.namespace, settings.timeout, settings.connections) == ("shop", 2.5, 4)
    assert RedisSettings.parse("redis+unix:///run/redis.sock").socket == "/run/redis.sock"
    assert RedisSettings.parse("redis://").place == "Redis at localhost:6379, database 0"
    assert "s@crt" not in repr(settings)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://localhost", "redis://"),
        ("redis://localhost:port", "redis://"),
        ("redis://localhost:99999", "redis://"),
        ("redis://localhost/one", "give a number"),
        ("redis://localhost/-1", "whole number"),
        ("redis+unix://host/run/redis.sock", "redis://"),
        ("redis+unix://", "redis://"),
        ("redis://localhost?timeout=0", "more than zero"),
        ("redis://localhost?timeout=soon", "give a number"),
        ("redis://localhost?connections=0", "whole number"),
        ("redis://localhost?namespace=", "give a name"),
        ("redis://localhost?namespace=a{b}", "without braces"),
        ("redis://localhost?tls=perhaps", "true or false"),
        ("redis://me:secret@localhost:x", "redis://"),
    ],
)
def test_a_wrong_address_is_refused_with_the_way_out(url: str, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words) as raised:
        RedisSettings.parse(url)
    assert "secret" not in str(raised.value)


def test_an_option_that_is_not_known_is_refused_with_those_that_are() -> None:
    with pytest.raises(ConfigurationError, match=r"no option 'speed'.*namespace.*timeout"):
        RedisSettings.parse("redis://localhost", speed=3)
