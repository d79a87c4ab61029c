"""An address of MongoDB is read with its options, and a wrong one is refused with the way out."""

import pytest

from tq.errors import ConfigurationError, InvalidInputError
from tq_mongo import MongoSettings, open_backend


def test_an_address_is_read_with_its_options() -> None:
    url = "mongodb://me:s%40crt@one.example:7000,two.example/shop?namespace=jobs&timeout=2.5&tls=true&w=1"
    settings = MongoSettings.parse(url, poll_interval=0.5)
    assert (settings.database, settings.namespace) == ("shop", "jobs")
    assert (settings.timeout, settings.poll_interval) == (2.5, 0.5)
    assert settings.place == "MongoDB at one.example:7000,two.example, database shop"
    assert settings.uri == "mongodb://me:s%40crt@one.example:7000,two.example/shop?tls=true&w=1", (
        "the rest is the driver's"
    )
    assert "s%40crt" not in repr(settings)


def test_a_database_may_be_named_apart_from_where_users_are_looked_up() -> None:
    settings = MongoSettings.parse("mongodb://me:secret@localhost/admin?database=shop")
    assert (settings.database, settings.uri) == ("shop", "mongodb://me:secret@localhost/admin")
    assert MongoSettings.parse("mongodb://localhost").database == "tq"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://localhost", "mongodb://"),
        ("mongodb://", "mongodb://"),
        ("mongodb://localhost#here", "mongodb://"),
        ("mongodb://localhost?timeout=0", "more than zero"),
        ("mongodb://localhost?timeout=soon", "give a number"),
        ("mongodb://localhost?poll_interval=-1", "more than zero"),
        ("mongodb://localhost?namespace=", "letters"),
        ("mongodb://localhost?namespace=a.b", "letters"),
        ("mongodb://localhost/a$b", "letters"),
        ("mongodb+srv://", "mongodb+srv://"),
        ("redis://me:secret@localhost", "mongodb://"),
    ],
)
def test_a_wrong_address_is_refused_with_the_way_out(url: str, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words.replace("+", r"\+")) as raised:
        MongoSettings.parse(url)
    assert "secret" not in str(raised.value)


def test_an_option_that_is_not_known_is_refused_with_those_that_are() -> None:
    with pytest.raises(ConfigurationError, match=r"no option 'speed'.*database.*namespace.*timeout"):
        MongoSettings.parse("mongodb://localhost", speed=3)


async def test_what_only_the_driver_can_refuse_is_refused_without_a_password() -> None:
    backend = open_backend("mongodb://me:secret@localhost:port")
    with pytest.raises(ConfigurationError) as raised:
        await backend.queue.counts()
    assert "secret" not in str(raised.value)
    await backend.close()
