"""What SQLite refuses reaches the caller as an error of tq, with its cause."""

import asyncio
import os
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tq import TaskHandler, TaskQueuesManager
from tq.clock import Clock
from tq.errors import (
    AddTasksError,
    BackendError,
    BackendUnavailableError,
    ConfigurationError,
    ContentRefusedError,
    DatabaseFullError,
    DatabaseGoneError,
    DatabaseLockedError,
    InvalidInputError,
    ReadOnlyDatabaseError,
)
from tq.model import Batch, Claim, Effects, Message, Remove, Settlement
from tq_sqlite import SqliteBackend, SqliteSettings, open_backend
from tq_sqlite.connection import Connection, connect
from tq_sqlite.errors import ERRORS, mapped


def message(id: str, body: bytes = b"{}") -> Message:
    return Message(id, "q", "t", body, 0.0)


@asynccontextmanager
async def opened(path: Path | None, clock: Clock, **options: float) -> AsyncGenerator[SqliteBackend, None]:
    backend = open_backend("sqlite://" if path is None else f"sqlite:///{path}", clock=clock, **options)
    try:
        yield backend
    finally:
        await backend.close()


def test_every_error_code_of_sqlite_is_mapped() -> None:
    """A new SQLite with a new code fails here, not at a user's."""
    not_errors = {"OK", "NOTICE", "WARNING", "ROW", "DONE", "DENY", "IGNORE"}
    codes = {
        name: value
        for name, value in vars(sqlite3).items()
        if name.startswith("SQLITE_") and isinstance(value, int) and name.count("_") == 1 and value < 100
    }
    primary = {name: code for name, code in codes.items() if name.removeprefix("SQLITE_") not in not_errors | _ACTIONS}
    assert {"SQLITE_BUSY", "SQLITE_FULL", "SQLITE_NOTADB"} <= set(primary)
    assert {name for name, code in primary.items() if code not in ERRORS} == set()


# Numbers of the authoriser, which the module names alike.
_ACTIONS = {
    *("SELECT", "INSERT", "UPDATE", "DELETE", "READ", "PRAGMA", "TRANSACTION", "ATTACH", "DETACH", "REINDEX"),
    *("ANALYZE", "FUNCTION", "SAVEPOINT", "RECURSIVE"),
}


def test_an_error_keeps_its_cause_and_names_the_place() -> None:
    db = sqlite3.connect(":memory:")
    with pytest.raises(BackendError, match=r"tq\.db: no such table: none_such") as raised, mapped("tq.db"):
        db.execute("SELECT * FROM none_such")
    db.close()
    assert isinstance(raised.value.__cause__, sqlite3.OperationalError)


async def test_another_writer_is_waited_for_and_then_reported(tmp_path: Path, clock: Clock) -> None:
    async with opened(tmp_path / "tq.db", clock, busy_timeout=0.05) as backend:
        other = sqlite3.connect(tmp_path / "tq.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseLockedError):
            await backend.queue.add([message("a")])
        assert issubclass(DatabaseLockedError, BackendUnavailableError)  # so it is tried again
        assert await backend.queue.counts() == {}  # readers are not held up
        other.execute("ROLLBACK")
        other.close()
        assert await backend.queue.add([message("a")]) == []


@pytest.mark.realtime
async def test_a_full_disk_is_reported_and_loses_nothing(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "tq.db"
    async with opened(path, clock) as backend:
        await backend.queue.add([message("kept")])
        database = backend.database
        await database.write(lambda db: db.execute(f"PRAGMA max_page_count = {pages(path) + 2}").fetchone())
        with pytest.raises(DatabaseFullError):
            await backend.queue.add([message(f"{number}", b"x" * 4000) for number in range(100)])
        assert sorted(await backend.queue.locate(["kept", "0"])) == ["kept"]
        hop = await backend.commit(Batch(), Claim(("q",), 5, "w:1", 10.0))
        assert [delivery.message.id for delivery in hop.deliveries] == ["kept"]


def pages(path: Path) -> int:
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
        count: int = db.execute("PRAGMA page_count").fetchone()[0]
    db.close()
    return count


def test_a_database_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    # Whoever runs as root may write everywhere: so SQLite is asked not to.
    path = tmp_path / "tq.db"
    connect(SqliteSettings(path=str(path))).close()
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, factory=Connection)
    with pytest.raises(ReadOnlyDatabaseError), mapped(str(path)):
        db.execute("INSERT INTO tq_paused (queue) VALUES ('q')")
    db.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
async def test_a_folder_without_write_permission_says_so(tmp_path: Path, clock: Clock) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    with pytest.raises(BackendError):
        open_backend(f"sqlite:///{folder}/tq.db", clock=clock)


async def test_a_folder_that_is_not_there_says_so(tmp_path: Path, clock: Clock) -> None:
    with pytest.raises(BackendUnavailableError, match=rf"tq\.db cannot be opened: there is no folder {tmp_path}/none"):
        open_backend(f"sqlite:///{tmp_path}/none/tq.db", clock=clock)


@pytest.mark.parametrize("text", ["\ud800", "half \udfff"])
async def test_text_that_is_not_unicode_is_refused_and_nothing_is_written(clock: Clock, text: str) -> None:
    async with opened(None, clock) as backend:
        await backend.queue.add([message("a")])
        (delivery,) = (await backend.commit(Batch(), Claim(("q",), 1, "w:1", 10.0))).deliveries
        effects = Effects(messages=(message("b"), message(text)))
        with pytest.raises(ContentRefusedError):
            await backend.commit(Batch([Settlement(delivery.receipt, Remove(), effects)]))
        assert sorted(await backend.queue.locate(["a", "b"])) == ["a"]
        assert (await backend.commit(Batch([Settlement(delivery.receipt, Remove())]))).refused == []


async def test_a_number_too_large_for_sqlite_is_refused(clock: Clock) -> None:
    async with opened(None, clock) as backend:
        with pytest.raises(ContentRefusedError):
            await backend.queue.add([message("a")._replace(generation=2**63)])


async def test_a_value_too_large_for_sqlite_is_refused(clock: Clock) -> None:
    async with opened(None, clock) as backend:
        await backend.database.write(lambda db: db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 10_000))
        with pytest.raises(ContentRefusedError):
            await backend.queue.add([message("a", b"x" * 20_000)])


async def test_text_may_hold_a_nul(clock: Clock) -> None:
    odd = "a\0b"
    async with opened(None, clock) as backend:
        await backend.queue.add([Message(odd, "q", odd, b"{}", 0.0, lane=odd), Message("a", "q", "t", b"{}", 0.0)])
        hop = await backend.commit(Batch(), Claim(("q",), 5, "w:1", 10.0))
        assert sorted(delivery.message.id for delivery in hop.deliveries) == ["a", odd]
        assert sorted(await backend.queue.locate([odd])) == [odd]
        assert await backend.queue.ack([delivery.receipt for delivery in hop.deliveries]) == []


def test_an_old_sqlite_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    with pytest.raises(ConfigurationError, match=r"SQLite 3\.35 or newer"):
        connect(SqliteSettings())


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite://", ""),
        ("sqlite:///tq.db", "tq.db"),
        ("sqlite:////var/tq.db", "/var/tq.db"),
        ("sqlite:///a%20b.db?synchronous=normal&busy_timeout=2", "a b.db"),
    ],
)
def test_an_address_names_a_file(url: str, path: str) -> None:
    assert SqliteSettings.parse(url).path == path


def test_options_come_with_the_address_or_beside_it() -> None:
    settings = SqliteSettings.parse("sqlite:///tq.db?synchronous=normal&checkpoint_pages=7", poll_interval=2)
    assert (settings.synchronous, settings.checkpoint_pages, settings.poll_interval) == ("NORMAL", 7, 2)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite://host/tq.db", "url is refused"),
        ("redis:///tq.db", "url is refused"),
        ("sqlite:///", "name a file, sqlite:///file.db, or give sqlite:// for a private database in memory"),
        ("sqlite:///?synchronous=normal", "name a file"),
        ("sqlite:///tq.db?synchronous=maybe", "synchronous is refused"),
        ("sqlite:///tq.db?busy_timeout=-1", "busy_timeout is refused"),
        ("sqlite:///tq.db?busy_timeout=soon", "busy_timeout is refused"),
        ("sqlite:///tq.db?poll_interval=0", "poll_interval is refused"),
        ("sqlite:///tq.db?cache_bytes=0", "cache_bytes is refused"),
    ],
)
def test_a_bad_setting_is_refused_by_name(url: str, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        SqliteSettings.parse(url)


def test_an_unknown_option_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match="takes no option 'color'; it takes busy_timeout, "):
        SqliteSettings.parse("sqlite:///tq.db?color=red")


async def test_a_closed_backend_says_so(clock: Clock) -> None:
    backend = open_backend("sqlite://", clock=clock)
    await backend.close()
    await backend.close()
    with pytest.raises(BackendError, match="closed"):
        await backend.queue.add([message("a")])


async def test_a_body_that_a_hand_has_edited_is_handed_out_as_bytes(tmp_path: Path, clock: Clock) -> None:
    backend = open_backend(f"sqlite:///{tmp_path}/tq.db", clock=clock)
    await backend.queue.add([message("a")])
    with sqlite3.connect(tmp_path / "tq.db") as db:
        db.execute("UPDATE tq_messages SET body = 'no task', stats = '{}'")
    db.close()
    claimed = await backend.queue.claim(Claim(("q",), 1, "w:1", 5.0))
    assert [(it.message.body, it.message.stats) for it in claimed.deliveries] == [(b"no task", b"{}")]
    await backend.close()


def unlink_all(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


@pytest.mark.realtime
@pytest.mark.parametrize("replaced", [False, True], ids=["deleted", "replaced"])
async def test_a_file_that_is_not_there_any_more_takes_nothing_more(tmp_path: Path, *, replaced: bool) -> None:
    """What went on into the deleted file would be lost, and its worker would see nothing of the new one."""
    file, executors = tmp_path / "tq.db", TaskQueuesManager()

    @executors.task("work")
    async def work(number: int) -> int:
        return number

    async with TaskHandler.connect(f"sqlite:///{file}", executors) as worker:
        running = asyncio.create_task(worker.run(signals=False))
        [id] = await worker.add_tasks([work.task(1)])
        assert await worker.task(id).result(timeout=30) == 1
        unlink_all(tmp_path)
        if replaced:
            await open_backend(f"sqlite:///{file}").close()
        said = "was replaced by another file" if replaced else "was deleted or moved away"
        with pytest.raises(DatabaseGoneError, match=rf"tq\.db {said} while it was open: .*start this process again"):
            async with asyncio.timeout(30):
                await running
        with pytest.raises(AddTasksError, match=said):
            await worker.add_tasks([work.task(2)])
