"""The tables, how a file is recognised as ours, and how an older one is brought forward.

Custody is spread over three tables so that the hot path touches little: a message (with its body) is written once and
deleted once; who may be handed out next stands in `tq_waiting`, who runs stands in `tq_leases`.

    add ──▶ tq_messages + tq_waiting ──claim──▶ tq_messages + tq_leases ──ack──▶ nothing
                         ▲                                      │
                         └────── release, retry, lease over ────┘
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from enum import Enum, auto
from pathlib import Path
from urllib.parse import quote

from tq.errors import ForeignDatabaseError

__all__ = ["APPLICATION_ID", "MIGRATIONS", "UNFINISHED", "check_file", "migrate"]

APPLICATION_ID = 0x74712D31
"""Stands in the header of every file of ours: "tq-1"."""


UNFINISHED = (
    "(verdict IS NOT NULL AND confirmed = 0 OR spread < chunks"
    " OR verdict IS NOT NULL AND tidied = 0 AND (cancel_siblings = 1 OR verdict = 'cancelled'))"
)
"""A flow for which something is to be done at once; the index and the query must say it in the same words."""

_JOIN = (
    "join_id TEXT NOT NULL, join_queue TEXT NOT NULL, join_type TEXT NOT NULL, join_body BLOB NOT NULL,"
    " join_run_at REAL NOT NULL, join_generation INTEGER NOT NULL, join_attempt INTEGER NOT NULL,"
    " join_lane TEXT NOT NULL, join_stats BLOB NOT NULL, join_fence INTEGER NOT NULL"
)

_VERSION_1 = (
    # `ended` counts the hand-outs that are over; `held` is the flow whose end the task waits for. The body comes last:
    # what lies behind a long one is slow to reach.
    """CREATE TABLE tq_messages (
        seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, queue TEXT NOT NULL, type TEXT NOT NULL,
        run_at REAL NOT NULL, generation INTEGER NOT NULL, attempt INTEGER NOT NULL, lane TEXT NOT NULL,
        fence INTEGER NOT NULL, ended INTEGER NOT NULL DEFAULT 0,
        crashes INTEGER NOT NULL DEFAULT 0, solo_crashes INTEGER NOT NULL DEFAULT 0,
        unknown_since REAL NOT NULL DEFAULT 0, cancelled_at REAL NOT NULL DEFAULT 0, held TEXT NOT NULL DEFAULT '',
        stats BLOB NOT NULL, body BLOB NOT NULL)""",
    "CREATE INDEX tq_messages_lane ON tq_messages (lane, seq) WHERE lane <> ''",
    "CREATE INDEX tq_messages_cancelled ON tq_messages (seq) WHERE cancelled_at > 0",
    "CREATE INDEX tq_messages_held ON tq_messages (queue) WHERE held <> ''",
    # What may be handed out once it is due: neither leased nor held, and of a lane only the oldest. By type, so that
    # a type without a free slot is passed over at once, however many of it wait.
    """CREATE TABLE tq_waiting (
        queue TEXT NOT NULL, type TEXT NOT NULL, due REAL NOT NULL, seq INTEGER NOT NULL,
        PRIMARY KEY (queue, type, due, seq)) WITHOUT ROWID""",
    # One row per message handed out; `until` is when the lease runs out, `solo` that the task runs alone.
    """CREATE TABLE tq_leases (
        token TEXT NOT NULL, seq INTEGER NOT NULL, until REAL NOT NULL, solo INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (token, seq)) WITHOUT ROWID""",
    # One row per claim: none of its leases ends before `until`. Saves an index entry per lease.
    "CREATE TABLE tq_claims (token TEXT NOT NULL PRIMARY KEY, until REAL NOT NULL) WITHOUT ROWID",
    "CREATE INDEX tq_claims_until ON tq_claims (until)",
    "CREATE TABLE tq_paused (queue TEXT NOT NULL PRIMARY KEY) WITHOUT ROWID",
    """CREATE TABLE tq_workers (
        worker TEXT NOT NULL, queue TEXT NOT NULL, until REAL NOT NULL, PRIMARY KEY (worker, queue)) WITHOUT ROWID""",
    """CREATE TABLE tq_records (
        task_id TEXT NOT NULL PRIMARY KEY, queue TEXT NOT NULL, type TEXT NOT NULL, status TEXT NOT NULL,
        at REAL NOT NULL, expires_at REAL NOT NULL, generation INTEGER NOT NULL, attempt INTEGER NOT NULL,
        fence INTEGER NOT NULL, dead INTEGER NOT NULL DEFAULT 0, result BLOB, error TEXT,
        stats BLOB NOT NULL DEFAULT x'', body BLOB)
        WITHOUT ROWID""",
    "CREATE INDEX tq_records_expires ON tq_records (expires_at)",
    "CREATE INDEX tq_records_dead ON tq_records (at, task_id) WHERE dead = 1",
    """CREATE TABLE tq_outcomes (
        task_id TEXT NOT NULL, generation INTEGER NOT NULL, attempt INTEGER NOT NULL, outcome BLOB NOT NULL,
        carried INTEGER NOT NULL DEFAULT 0, at REAL NOT NULL, PRIMARY KEY (task_id, generation, attempt))
        WITHOUT ROWID""",
    "CREATE INDEX tq_outcomes_carried ON tq_outcomes (at) WHERE carried = 1",
    """CREATE TABLE tq_chunks (
        plan TEXT NOT NULL, number INTEGER NOT NULL, at REAL NOT NULL, PRIMARY KEY (plan, number)) WITHOUT ROWID""",
    "CREATE INDEX tq_chunks_at ON tq_chunks (at)",
    """CREATE TABLE tq_chunk_messages (
        plan TEXT NOT NULL, number INTEGER NOT NULL, place INTEGER NOT NULL, id TEXT NOT NULL, queue TEXT NOT NULL,
        type TEXT NOT NULL, body BLOB NOT NULL, run_at REAL NOT NULL, generation INTEGER NOT NULL,
        attempt INTEGER NOT NULL, lane TEXT NOT NULL, stats BLOB NOT NULL, fence INTEGER NOT NULL,
        PRIMARY KEY (plan, number, place)) WITHOUT ROWID""",
    # AUTOINCREMENT: a number is never given twice, so that confirming an old note cannot remove a new one.
    """CREATE TABLE tq_outgoing (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, id TEXT NOT NULL, body BLOB NOT NULL,
        UNIQUE (topic, id))""",
    "CREATE INDEX tq_outgoing_topic ON tq_outgoing (topic, seq)",
    f"""CREATE TABLE tq_flows (
        id TEXT NOT NULL PRIMARY KEY, total INTEGER NOT NULL, allowed INTEGER NOT NULL, needed INTEGER NOT NULL,
        started_at REAL NOT NULL, generation INTEGER NOT NULL, deadline REAL, cancel_siblings INTEGER NOT NULL,
        parent TEXT NOT NULL, chunks INTEGER NOT NULL, plan TEXT NOT NULL, meta BLOB NOT NULL, {_JOIN},
        remaining INTEGER NOT NULL, succeeded INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0,
        verdict TEXT, reason TEXT NOT NULL DEFAULT '', trigger_index INTEGER NOT NULL DEFAULT -1, closed_at REAL,
        opened_at REAL NOT NULL, confirmed INTEGER NOT NULL DEFAULT 0, spread INTEGER NOT NULL DEFAULT 0,
        tidied INTEGER NOT NULL DEFAULT 0)""",
    "CREATE INDEX tq_flows_started ON tq_flows (started_at, id)",
    "CREATE INDEX tq_flows_open ON tq_flows (id) WHERE verdict IS NULL",
    "CREATE INDEX tq_flows_deadline ON tq_flows (deadline) WHERE verdict IS NULL AND deadline IS NOT NULL",
    f"CREATE INDEX tq_flows_todo ON tq_flows (id) WHERE {UNFINISHED}",
    "CREATE INDEX tq_flows_closed ON tq_flows (closed_at) WHERE confirmed = 1 AND verdict IS NOT NULL",
    """CREATE TABLE tq_members (
        flow TEXT NOT NULL, idx INTEGER NOT NULL, status TEXT NOT NULL, result BLOB, error TEXT,
        PRIMARY KEY (flow, idx)) WITHOUT ROWID""",
    """CREATE TABLE tq_projections (
        task_id TEXT NOT NULL PRIMARY KEY, entity_id TEXT NOT NULL, entity_type TEXT NOT NULL,
        task_type TEXT NOT NULL, queue_id TEXT NOT NULL, status TEXT NOT NULL, version INTEGER NOT NULL,
        created_at REAL NOT NULL, updated_at REAL NOT NULL, payload TEXT, result TEXT, error TEXT)""",
    "CREATE INDEX tq_projections_entity ON tq_projections (entity_type, entity_id, updated_at)",
    "CREATE INDEX tq_projections_updated ON tq_projections (updated_at, task_id)",
)

_VERSION_2 = (
    """CREATE TABLE tq_late (
        flow TEXT NOT NULL, idx INTEGER NOT NULL, result BLOB, PRIMARY KEY (flow, idx)) WITHOUT ROWID""",
)

_VERSION_3 = (
    # What workers agree by when they share the shards of a stream; `counter` rises with every change, and fences.
    """CREATE TABLE tq_shards (
        stream TEXT NOT NULL, shard TEXT NOT NULL, parents TEXT NOT NULL, owner TEXT NOT NULL,
        counter INTEGER NOT NULL, checkpoint TEXT NOT NULL, note TEXT NOT NULL, PRIMARY KEY (stream, shard))
        WITHOUT ROWID""",
)

_VERSION_4 = ("CREATE INDEX tq_outcomes_uncarried ON tq_outcomes (task_id, generation, attempt) WHERE carried = 0",)

MIGRATIONS: Sequence[Sequence[str]] = (_VERSION_1, _VERSION_2, _VERSION_3, _VERSION_4)
"""Statements that lead from version n to n + 1; `user_version` says how far a file is. Never edited, only grown."""


def check_file(path: str) -> None:
    """Look at a file as if it could never change: merely opening another program's database may change it.

    The look is SQLite's own. Whoever opens and closes the file beside it takes the locks away that the connections of
    this process hold; the next process to leave then believes itself the last, and removes the log they still write.

    Raises:
        ForeignDatabaseError: it is neither empty nor ours.
    """
    if _seen(path) in _OURS or _was_empty(Path(f"{path}-journal")):
        return
    seen = _seen(path)  # another process may have been about to write the first bytes, and be done by now
    if seen is _Seen.NO_DATABASE:
        raise ForeignDatabaseError(f"{path} is not a database; give another path")
    if seen is _Seen.FOREIGN:
        raise ForeignDatabaseError(f"{path} belongs to another program; give another path")


class _Seen(Enum):
    NOTHING = auto()
    """It is not there, empty, or not to be read: SQLite will say it in its own words."""
    OURS = auto()
    FOREIGN = auto()
    NO_DATABASE = auto()


_OURS = (_Seen.NOTHING, _Seen.OURS)


def _seen(path: str) -> _Seen:
    try:
        if not Path(path).stat().st_size:
            return _Seen.NOTHING
        with closing(sqlite3.connect(f"file:{quote(path)}?mode=ro&immutable=1", uri=True)) as db:
            found: int = db.execute("PRAGMA application_id").fetchone()[0]
    except OSError:
        return _Seen.NOTHING
    except sqlite3.DatabaseError as error:
        return _Seen.NO_DATABASE if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_NOTADB else _Seen.NOTHING
    return _Seen.OURS if found == APPLICATION_ID else _Seen.FOREIGN


def _was_empty(journal: Path) -> bool:
    """Tell whether a journal was left that makes its database empty again: its maker was killed while making it."""
    try:
        with journal.open("rb") as opened:
            header = opened.read(20)
    except OSError:
        return False
    return header.startswith(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7") and header[16:20] == bytes(4)


def migrate(db: sqlite3.Connection, place: str, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> None:
    """Bring the schema forward, in one transaction; of several processes that open at once one does it.

    Raises:
        ForeignDatabaseError: a newer version of tq, or another program, made the tables.
    """
    if _version(db, place, migrations) == len(migrations):
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        version = _version(db, place, migrations)  # another process may have been faster
        for statements in migrations[version:]:
            for statement in statements:
                db.execute(statement)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {len(migrations)}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _version(db: sqlite3.Connection, place: str, migrations: Sequence[Sequence[str]]) -> int:
    application: int = db.execute("PRAGMA application_id").fetchone()[0]
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION_ID and (
        application or version or db.execute("SELECT 1 FROM sqlite_schema").fetchone()
    ):
        raise ForeignDatabaseError(f"{place} belongs to another program; give another path")
    if version > len(migrations):
        raise ForeignDatabaseError(
            f"{place} was made by a newer tq: its schema is {version}, this one knows {len(migrations)}; upgrade tq"
        )
    return version
