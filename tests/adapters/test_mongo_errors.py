"""What MongoDB refuses reaches the caller as an error of tq that names the server and the way out, and no password."""

import inspect
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pymongo
import pytest
from pymongo import errors as exceptions

from tq.clock import Clock
from tq.errors import (
    BackendError,
    BackendUnavailableError,
    ConfigurationError,
    ContentRefusedError,
    DatabaseFullError,
    ForeignDatabaseError,
    ReadOnlyDatabaseError,
    TqError,
)
from tq.model import Batch, Claim, Effects, Message, Rearm, Record, Remove, Settlement, TaskStatus
from tq_mongo import MongoBackend, MongoSettings, open_backend
from tq_mongo.errors import ERRORS, mapped, translate

PLACE = "MongoDB at here, database tq"


def message(id: str, body: bytes = b"{}", run_at: float = 0.0) -> Message:
    return Message(id, "q", "t", body, run_at)


@asynccontextmanager
async def opened(url: str, clock: Clock) -> AsyncGenerator[MongoBackend, None]:
    backend = open_backend(url, clock=clock)
    try:
        yield backend
    finally:
        await backend.close()


def collections(url: str) -> tuple[pymongo.MongoClient[dict[str, Any]], Any, str]:
    """Return a client, the database of a URL, and how the names of its collections begin."""
    settings = MongoSettings.parse(url)
    client = pymongo.MongoClient[dict[str, Any]](settings.uri)
    return client, client[settings.database], settings.namespace


def test_every_exception_of_the_driver_is_mapped() -> None:
    """A new one must not reach a user as it is."""
    families = (*(wrong for wrong, _ in ERRORS), exceptions.OperationFailure)
    for name, kind in inspect.getmembers(exceptions, inspect.isclass):
        if issubclass(kind, exceptions.PyMongoError) and kind is not exceptions.PyMongoError:
            assert issubclass(kind, families), name


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (exceptions.ServerSelectionTimeoutError("no server"), BackendUnavailableError),
        (exceptions.NetworkTimeout("slow"), BackendUnavailableError),
        (exceptions.AutoReconnect("gone"), BackendUnavailableError),
        (exceptions.NotPrimaryError("stepped down"), BackendUnavailableError),
        (exceptions.ExecutionTimeout("too long", 50), BackendUnavailableError),
        (exceptions.OperationFailure("shutting down", 91), BackendUnavailableError),
        (exceptions.OperationFailure("conflict", 112), BackendUnavailableError),
        (exceptions.WTimeoutError("not yet everywhere", 64), BackendUnavailableError),
        (exceptions.OperationFailure("who are you", 18), BackendError),
        (exceptions.OperationFailure("not for you", 13), BackendError),
        (exceptions.OperationFailure("disk", 14031), DatabaseFullError),
        (exceptions.OperationFailure("not writable", 10107), ReadOnlyDatabaseError),
        (exceptions.OperationFailure("too large", 10334), ContentRefusedError),
        (exceptions.DocumentTooLarge("too large"), ContentRefusedError),
        (exceptions.InvalidURI("what is that"), ConfigurationError),
        (exceptions.OperationFailure("never heard of", 424242), BackendError),
        (ConnectionResetError("gone"), BackendUnavailableError),
    ],
    ids=lambda it: type(it).__name__ if isinstance(it, Exception) else it.__name__,
)
def test_errors_of_the_driver_become_errors_of_tq(error: Exception, kind: type[TqError]) -> None:
    ours = translate(error, PLACE)
    assert type(ours) is kind
    assert str(ours).startswith(PLACE)
    with pytest.raises(kind) as raised, mapped(PLACE):
        raise error
    assert raised.value.__cause__ is error


def test_a_bulk_that_may_be_made_again_is_not_refused_for_its_content() -> None:
    details = {
        "writeErrors": [
            {"index": 0, "code": 10334, "errmsg": "large"},
            {"index": 1, "code": 112, "errmsg": "conflict"},
        ],
        "writeConcernErrors": [],
    }
    assert isinstance(translate(exceptions.BulkWriteError(details), PLACE), BackendUnavailableError)
    unsure: Mapping[str, Any] = {"writeErrors": [], "writeConcernErrors": [{"code": 424242, "errmsg": "no journal"}]}
    assert isinstance(translate(exceptions.BulkWriteError(dict(unsure)), PLACE), BackendUnavailableError)


@pytest.mark.realtime
async def test_a_server_that_is_not_there_is_named_with_the_way_out(clock: Clock) -> None:
    async with opened("mongodb://127.0.0.1:1/?timeout=0.2", clock) as backend:
        with pytest.raises(BackendUnavailableError, match=r"MongoDB at 127\.0\.0\.1:1, database tq.*see that it runs"):
            await backend.queue.counts()


async def test_a_collection_of_another_program_is_left_alone(mongo_url: str, clock: Clock) -> None:
    client, database, namespace = collections(mongo_url)
    with client:
        database[f"{namespace}_tasks"].insert_one({"_id": 1, "mine": True})
        async with opened(mongo_url, clock) as backend:
            with pytest.raises(ForeignDatabaseError, match="belongs to another program"):
                await backend.queue.add([message("a")])
        assert database.list_collection_names(filter={"name": {"$regex": f"^{namespace}"}}) or True
        assert list(database[f"{namespace}_tasks"].find()) == [{"_id": 1, "mine": True}]


async def test_a_namespace_of_a_newer_tq_is_left_alone(mongo_url: str, clock: Clock) -> None:
    client, database, namespace = collections(mongo_url)
    with client:
        database[f"{namespace}_meta"].insert_one({"_id": "layout", "number": 2})
        async with opened(mongo_url, clock) as backend:
            with pytest.raises(ForeignDatabaseError, match=r"layout is 2, this one knows 1; upgrade tq"):
                await backend.queue.add([message("a")])


async def test_namespaces_do_not_see_each_other(mongo_url: str, clock: Clock) -> None:
    async with opened(mongo_url, clock) as one, opened(f"{mongo_url}-other", clock) as other:
        await one.queue.add([message("a")])
        assert await other.queue.counts() == {}
        assert await other.queue.add([message("a")]) == []


async def test_an_instant_that_is_no_number_is_refused(mongo_url: str, clock: Clock) -> None:
    never = float("nan")
    async with opened(mongo_url, clock) as backend:
        await backend.queue.add([message("a")])
        [delivery] = (await backend.queue.claim(Claim(("q",), 1, "w:1", 30.0))).deliveries
        for batch in (
            Batch(effects=[Effects(messages=(message("b", run_at=never),))]),
            Batch(settlements=[Settlement(delivery.receipt, Rearm(never, 1, b""))]),
            Batch(
                settlements=[Settlement(delivery.receipt, Remove(), Effects(messages=(message("b", run_at=never),)))]
            ),
        ):
            with pytest.raises(ContentRefusedError):
                await backend.commit(batch)
        assert sorted(await backend.queue.locate(["a", "b"])) == ["a"]


async def test_what_is_too_large_for_a_document_is_refused_and_leaves_nothing(mongo_url: str, clock: Clock) -> None:
    async with opened(mongo_url, clock) as backend:
        large = message("large", bytes(17 << 20))
        with pytest.raises(ContentRefusedError, match="cannot hold this value"):
            await backend.queue.add([large])
        await backend.queue.add([message("a")])
        [delivery] = (await backend.queue.claim(Claim(("q",), 1, "w:1", 30.0))).deliveries
        ending = Settlement(delivery.receipt, Remove(), Effects(messages=(message("small"), large)))
        with pytest.raises(ContentRefusedError, match="one of its messages has 17"):
            await backend.commit(Batch(settlements=[ending]))
        assert sorted(await backend.queue.locate(["a", "small", "large"])) == ["a"]
        assert (await backend.commit(Batch(settlements=[ending._replace(effects=Effects())]))).refused == []


async def test_an_ending_that_brings_more_than_a_document_holds_is_written_in_parts(
    mongo_url: str, clock: Clock
) -> None:
    children = tuple(message(f"child-{number}", bytes(6 << 20)) for number in range(3))
    async with opened(mongo_url, clock) as backend:
        await backend.queue.add([message("a")])
        [delivery] = (await backend.queue.claim(Claim(("q",), 1, "w:1", 30.0))).deliveries
        dead = Record("a", "q", "t", TaskStatus.FAILED, 1.0, 2.0, dead=True, body=b"{}")
        effects = Effects(messages=children, records=(dead,))
        hop = await backend.commit(Batch(settlements=[Settlement(delivery.receipt, Remove(), effects)]))
        assert (hop.refused, hop.duplicates) == ([], [])
        assert sorted(await backend.queue.locate(["a", *(it.id for it in children)])) == [it.id for it in children]
        assert await backend.tables["parts"].count({}) == 0
