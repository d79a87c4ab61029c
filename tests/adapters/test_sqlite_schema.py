"""Whose file it is, and how an older one is brought forward."""

import multiprocessing
import sqlite3
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from tq.errors import ForeignDatabaseError
from tq_sqlite import SqliteSettings
from tq_sqlite.connection import connect
from tq_sqlite.schema import APPLICATION_ID, MIGRATIONS, migrate


def settings(path: Path) -> SqliteSettings:
    return SqliteSettings(path=str(path))


def everything(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file."""
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def test_an_empty_file_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "tq.db"
    path.touch()
    connect(settings(path)).close()
    connect(settings(path)).close()


def test_a_file_says_that_it_is_ours_from_the_first_byte(tmp_path: Path) -> None:
    """Also before the write-ahead log is moved into it: whoever looks must not take it for somebody else's."""
    path = tmp_path / "tq.db"
    db = connect(settings(path))
    header = path.read_bytes()[:100]
    assert int.from_bytes(header[68:72]) == APPLICATION_ID
    assert int.from_bytes(header[60:64]) == len(MIGRATIONS)
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    db.close()


@pytest.mark.parametrize("journal", ["WAL", "DELETE"])
def test_the_database_of_another_program_is_not_touched(tmp_path: Path, journal: str) -> None:
    path = tmp_path / "theirs.db"
    theirs = sqlite3.connect(path, isolation_level=None)
    theirs.execute(f"PRAGMA journal_mode = {journal}")
    theirs.execute("CREATE TABLE tasks (id)")
    theirs.execute("INSERT INTO tasks VALUES (1)")
    before = everything(tmp_path)  # with what is still in their log
    with pytest.raises(ForeignDatabaseError, match="belongs to another program"):
        connect(settings(path))
    assert everything(tmp_path) == before
    theirs.close()


def test_the_database_of_another_program_that_says_so_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    theirs = sqlite3.connect(path, isolation_level=None)
    theirs.execute("PRAGMA application_id = 4711")
    theirs.close()
    before = everything(tmp_path)
    with pytest.raises(ForeignDatabaseError, match="belongs to another program"):
        connect(settings(path))
    assert everything(tmp_path) == before


def test_a_file_that_is_no_database_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("Dear reader, " * 100)
    before = everything(tmp_path)
    with pytest.raises(ForeignDatabaseError, match="is not a database"):
        connect(settings(path))
    assert everything(tmp_path) == before


def test_the_schema_of_a_newer_tq_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tq.db"
    db = connect(settings(path))
    db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    db.close()
    before = path.read_bytes()
    with pytest.raises(ForeignDatabaseError, match="made by a newer tq"):
        connect(settings(path))
    assert path.read_bytes() == before


def test_an_older_schema_is_brought_forward(tmp_path: Path) -> None:
    path = tmp_path / "tq.db"
    db = sqlite3.connect(path, isolation_level=None)
    migrate(db, "tq.db", MIGRATIONS[:1])
    db.execute("INSERT INTO tq_paused (queue) VALUES ('q')")
    later = (*MIGRATIONS, ("ALTER TABLE tq_paused ADD COLUMN why TEXT NOT NULL DEFAULT ''",))
    migrate(db, "tq.db", later)
    migrate(db, "tq.db", later)
    assert db.execute("SELECT queue, why FROM tq_paused").fetchall() == [("q", "")]
    assert db.execute("PRAGMA user_version").fetchone() == (len(later),)
    db.close()


def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "tq.db"
    db = sqlite3.connect(path, isolation_level=None)
    migrate(db, "tq.db", MIGRATIONS)
    broken = (*MIGRATIONS, ("CREATE TABLE tq_new (id)", "CREATE TABLE tq_new (id)"))
    with pytest.raises(sqlite3.OperationalError):
        migrate(db, "tq.db", broken)
    assert db.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    assert db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'tq_new'").fetchone() is None
    db.close()


def test_the_first_schema_is_what_it_was() -> None:
    """Files of version 1 are out there: what differs from it is a migration."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    migrate(db, ":memory:", MIGRATIONS[:1])
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    assert tables - {"sqlite_sequence"} == {
        "tq_chunk_messages",
        "tq_chunks",
        "tq_claims",
        "tq_flows",
        "tq_leases",
        "tq_members",
        "tq_messages",
        "tq_outcomes",
        "tq_outgoing",
        "tq_paused",
        "tq_projections",
        "tq_records",
        "tq_waiting",
        "tq_workers",
    }
    assert [column[1] for column in db.execute("PRAGMA table_info (tq_projections)")] == [
        "task_id",
        "entity_id",
        "entity_type",
        "task_type",
        "queue_id",
        "status",
        "version",
        "created_at",
        "updated_at",
        "payload",
        "result",
        "error",
    ]
    db.close()


def open_and_close(path: str, start: Event) -> None:
    start.wait(20)
    connect(SqliteSettings(path=path)).close()


def test_processes_that_open_a_new_file_at_once_do_not_race(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    start = context.Event()
    path = str(tmp_path / "tq.db")
    processes = [context.Process(target=open_and_close, args=(path, start)) for _ in range(4)]
    for process in processes:
        process.start()
    start.set()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0] * 4
    db = connect(SqliteSettings(path=path))
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    db.close()


def test_a_file_whose_maker_was_killed_while_making_it_is_taken(tmp_path: Path) -> None:
    """What is left then is a journal that says: it was empty."""
    path = tmp_path / "tq.db"
    maker = sqlite3.connect(path, isolation_level=None)
    maker.execute("PRAGMA cache_size = 1")  # pages reach the file before the end of the transaction
    maker.execute("BEGIN IMMEDIATE")
    for statement in MIGRATIONS[0]:
        maker.execute(statement)
    maker.execute("INSERT INTO tq_paused (queue) SELECT hex(randomblob(2000)) FROM json_each(?)", (str([1] * 99),))
    left = everything(tmp_path)  # as a kill would leave it
    maker.execute("ROLLBACK")
    maker.close()
    assert left["tq.db"]
    assert left["tq.db-journal"]
    for name, data in left.items():
        (tmp_path / name).write_bytes(data)
    db = connect(settings(path))
    assert db.execute("SELECT count(*) FROM tq_paused").fetchone() == (0,)
    db.close()
