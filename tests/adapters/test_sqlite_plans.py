"""What a hop costs does not depend on what is stored: every statement of the hot path goes by an index."""

import re
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from tq.clock import Clock
from tq.model import (
    Batch,
    Claim,
    Effects,
    Flow,
    Mark,
    Message,
    Rearm,
    Receipt,
    Record,
    Remove,
    Settlement,
    StepStatus,
    TaskStatus,
)
from tq_sqlite import SqliteBackend, SqliteSettings, open_backend
from tq_sqlite.connection import Connection

LARGE = {
    "tq_messages",
    "tq_waiting",
    "tq_leases",
    "tq_claims",
    "tq_records",
    "tq_flows",
    "tq_late",
    "tq_members",
    "tq_projections",
}


@dataclass
class Watched:
    """A backend whose statements are explained as they run."""

    backend: SqliteBackend
    seen: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    def scans(self) -> dict[str, list[str]]:
        """Return the statements that read a whole table or index, with the steps that do so."""
        found = {sql: [step for step in steps if is_scan(step)] for sql, steps in self.seen.items()}
        return {sql: steps for sql, steps in found.items() if steps}


def is_scan(step: str) -> bool:
    """Tell whether a step of a plan reads all of something large; the first row of an index is no scan."""
    match = re.match(r"SCAN (\w+)", step)
    names = {"l": "tq_leases", "m": "tq_messages", "w": "tq_waiting", "c": "tq_claims"}
    return match is not None and names.get(match[1], match[1]) in LARGE


@pytest.fixture
def watched(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Watched:
    backend = open_backend("sqlite://", clock=clock)
    watched = Watched(backend)
    execute, executemany = Connection.execute, Connection.executemany

    def note(db: Connection, sql: str, values: Sequence[Any]) -> None:
        if sql.lstrip().startswith(("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")) and sql not in watched.seen:
            rows = execute(db, f"EXPLAIN QUERY PLAN {sql}", values).fetchall()
            watched.seen[sql] = [row[3] for row in rows]

    def explain(db: Connection, sql: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        note(db, sql, values)
        return execute(db, sql, values)

    def explain_many(db: Connection, sql: str, rows: Sequence[Sequence[Any]]) -> sqlite3.Cursor:
        if rows:
            note(db, sql, rows[0])
        return executemany(db, sql, rows)

    monkeypatch.setattr(Connection, "execute", explain)
    monkeypatch.setattr(Connection, "executemany", explain_many)
    return watched


def message(number: int, now: float, **fields: str) -> Message:
    return Message(
        f"{number}", fields.get("queue", "q"), fields.get("type", "t"), b"{}", now, lane=fields.get("lane", "")
    )


# Each of these reads the first row of an index that is empty but for what it looks for.
FIRST_ROWS = ("SELECT 1 FROM", "SELECT coalesce(max(seq)", "SELECT token, until FROM tq_claims")


async def test_the_way_of_a_task_reads_no_whole_table(watched: Watched, clock: Clock) -> None:
    backend, now = watched.backend, clock.now()
    flow = Flow(id="f", total=2, allowed=2, needed=2, join=message(99, 0.0), started_at=now)
    tasks = [message(number, now, type="tu"[number % 2], lane="L" if number == 4 else "") for number in range(40)]
    await backend.commit(Batch(effects=[Effects(messages=tuple(tasks), flows=(flow,))]))
    hop = await backend.commit(Batch(), Claim(("q", "r"), 40, "w:1", 5.0, {("q", "x"): 0}))
    assert len(hop.deliveries) == 40
    kept = Record("r", "q", "t", TaskStatus.EXECUTED, now, now + 1)
    marks = (Mark("f", 0, StepStatus.SUCCESS), Mark("f", 1, StepStatus.SUCCESS))
    endings = [Settlement(delivery.receipt, Remove()) for delivery in hop.deliveries[:20]]
    endings[0] = endings[0]._replace(effects=Effects(records=(kept,), marks=marks))
    endings += [Settlement(delivery.receipt, Rearm(now, 1, b"")) for delivery in hop.deliveries[20:30]]
    endings.append(Settlement(Receipt("0", "lost"), Remove()))
    await backend.commit(Batch(endings), Claim(("q",), 1, "w:2", 5.0))
    await backend.queue.renew([delivery.receipt for delivery in hop.deliveries[30:35]], 5.0)
    await backend.release([delivery.receipt for delivery in hop.deliveries[30:35]])
    await backend.queue.cancel(["36"])
    await clock.sleep(6.0)
    await backend.queue.claim(Claim(("q",), 99, "w:3", 5.0))  # takes back what ran out
    scans = {sql: steps for sql, steps in watched.scans().items() if not sql.startswith(FIRST_ROWS)}
    assert scans == {}
    await backend.close()


async def test_looking_after_flows_reads_no_whole_table(watched: Watched, clock: Clock) -> None:
    assert watched.backend.barrier is not None
    await watched.backend.barrier.due(clock.now(), 10)
    await watched.backend.barrier.quiet(clock.now(), "", 10)
    await watched.backend.barrier.purge(clock.now(), 10)
    await watched.backend.store.purge(clock.now(), 10.0, 10)
    plans = {sql: steps for sql, steps in watched.seen.items() if "tq_flows" in sql or "tq_records" in sql}
    assert [steps for steps in plans.values() if any(is_scan(step) and "USING" not in step for step in steps)] == []
    used = " ".join(step for steps in plans.values() for step in steps)
    for index in ("tq_flows_deadline", "tq_flows_todo", "tq_flows_open", "tq_flows_closed", "tq_records_expires"):
        assert index in used
    await watched.backend.close()


async def test_a_backlog_without_a_free_slot_holds_nobody_up(clock: Clock) -> None:
    """Tasks of a type that has no slot, and as many for later, stand before the one that can run."""
    backend = SqliteBackend(SqliteSettings(), clock)
    now = clock.now()
    waiting = [message(number, now - 1, type="full") for number in range(50_000)]
    later = [message(number, now + 3600) for number in range(50_000, 100_000)]
    begun = time.process_time()
    await backend.queue.add([*waiting, *later])
    assert time.process_time() - begun < 2.0
    await backend.queue.add([message(100_000, now, type="free")])
    begun = time.process_time()
    for number in range(100):
        claim = Claim(("q",), 10, f"w:{number}", 5.0, {("q", "full"): 0})
        hop = await backend.commit(Batch(), claim)
        assert [delivery.message.type for delivery in hop.deliveries] == ["free"]
        await backend.release([delivery.receipt for delivery in hop.deliveries])
    assert time.process_time() - begun < 0.5  # a scan of what waits would take a second or more
    await backend.close()
