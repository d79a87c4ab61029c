"""What a hop costs does not depend on what is stored: every statement of the hot path goes by an index."""

import json
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from tq.model import (
    Batch,
    Claim,
    Effects,
    Flow,
    Hold,
    Mark,
    Message,
    Rearm,
    Record,
    Remove,
    Settlement,
    StepStatus,
    TaskStatus,
)
from tq_postgres import PostgresBackend, open_backend

pytestmark = pytest.mark.realtime


def message(id: str, **fields: Any) -> Message:
    return Message(id, "q", "t", b"{}", 0.0)._replace(**fields)


class Plans:
    """The plans of all that a connection runs, statements inside functions too."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def note(self, _: object, said: Any) -> None:
        if "plan:" in said.message:
            self.seen.append(json.loads(said.message.partition("plan:")[2]))

    def scans(self) -> dict[str, str]:
        """Return the statements that read all of a table or index, and which."""
        return {
            plan["Query Text"]: node["Relation Name"]
            for plan in self.seen
            for node, above in nodes(plan["Plan"])
            if whole(node, above)
        }


def nodes(plan: dict[str, Any], above: str = "") -> Iterator[tuple[dict[str, Any], str]]:
    """Yield every step of a plan, and of what kind the one above it is."""
    yield plan, above
    for inner in plan.get("Plans", ()):
        yield from nodes(inner, plan["Node Type"])


def whole(node: dict[str, Any], above: str) -> bool:
    """Tell whether a step reads everything; the first rows of an index in its order are no scan.

    An index of some rows only counts too: of what runs there is as much as the workers have slots.
    """
    if node["Node Type"] == "Seq Scan":
        name: str = node["Relation Name"]
        return name.startswith("tq_") and name not in {"tq_paused", "tq_workers"}  # a handful of rows
    return "Index" in node["Node Type"] and "Index Cond" not in node and above not in {"Limit", "LockRows"}


@asynccontextmanager
async def watched(url: str, patch: pytest.MonkeyPatch) -> AsyncGenerator[tuple[PostgresBackend, Plans], None]:
    """Give a backend whose statements all go by one connection, which explains what it runs."""
    backend, plans = open_backend(url), Plans()
    connection = await asyncpg.connect(url.partition("?")[0])
    try:
        await fill(backend)
        if await connection.fetchval("SELECT current_setting('is_superuser')") != "on":
            pytest.skip("only a superuser may load auto_explain")
        connection.add_log_listener(plans.note)
        for setting in (
            "auto_explain.log_min_duration = 0",
            "auto_explain.log_nested_statements = on",
            "auto_explain.log_format = json",
            "client_min_messages = log",
        ):
            await connection.execute(f"LOAD 'auto_explain'; SET {setting}")

        async def fetch(text: str, *args: object) -> list[asyncpg.Record]:
            return await connection.fetch(backend.database.schema.sql(text), *args)

        patch.setattr(backend.database, "fetch", fetch)
        yield backend, plans
    finally:
        await connection.close()
        await backend.close()


async def fill(backend: PostgresBackend) -> None:
    """Let much be stored, and the server know it: of a handful of rows it rightly reads all."""
    many = [f"many-{number}" for number in range(3_000)]
    await backend.queue.add([message(id, queue="elsewhere", run_at=1e12, lane=id) for id in many])
    await backend.store.record([Record(id, "q", "t", TaskStatus.EXECUTED, 0.0, 1e12) for id in many])
    join = message("")
    flows = [
        Flow(id=id, total=1, allowed=0, needed=1, join=join._replace(id=f"{id}.join"), started_at=0.0) for id in many
    ]
    await backend.commit(Batch(effects=[Effects(flows=tuple(flows))]))
    for table in ("messages", "lanes", "records", "flows"):
        await backend.database.fetch(f"ANALYZE tq_{table}")


async def test_the_way_of_a_task_reads_no_whole_table(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with watched(postgres_url, monkeypatch) as (backend, plans):
        now = time.time()
        flow = Flow(id="f", total=9, allowed=9, needed=9, join=message("f.join"), started_at=now)
        await backend.commit(Batch(effects=[Effects(flows=(flow,))]))
        await backend.queue.add(
            [message(f"{n}", type=f"t{n % 3}", lane=f"l{n % 2}" if n % 5 else "") for n in range(30)]
        )
        for hops in range(4):
            hop = await backend.commit(Batch(), Claim(("q", "r"), 3, f"w:{hops}", 30.0, {("q", "t1"): 1}))
            await backend.queue.renew([delivery.receipt for delivery in hop.deliveries], 30.0)
            first, second, *others = hop.deliveries
            record = Record(first.message.id, "q", "t", TaskStatus.EXECUTED, now, now + 60)
            brought = Effects(
                records=(record,), messages=(message(f"child-{hops}"),), marks=(Mark("f", hops, StepStatus.SUCCESS),)
            )
            endings = [Settlement(first.receipt, Remove(), brought), Settlement(second.receipt, Rearm(now, 1, b""))]
            endings += [Settlement(delivery.receipt, Hold("f")) for delivery in others]
            await backend.commit(Batch(endings))
        await backend.queue.cancel(["1", "2"])
        await backend.queue.locate(["1", "2"])
        await backend.store.records(["1"])
        assert len(plans.seen) > 100
        assert plans.scans() == {}


async def test_a_backlog_without_a_free_slot_holds_nobody_up(postgres_url: str) -> None:
    async with open_and_fill(postgres_url) as backend:
        await backend.queue.add([message("fast", type="fast")])
        begun = time.perf_counter()
        hop = await backend.commit(Batch(), Claim(("q",), 5, "w:1", 30.0, {("q", "slow"): 0}))
        assert [delivery.message.id for delivery in hop.deliveries] == ["fast"]
        assert time.perf_counter() - begun < 0.5


@asynccontextmanager
async def open_and_fill(url: str) -> AsyncGenerator[PostgresBackend, None]:
    """Give a backend in which 20,000 messages of one type wait."""
    backend = open_backend(url)
    try:
        for start in range(0, 20_000, 5_000):
            await backend.queue.add([message(f"{n}", type="slow") for n in range(start, start + 5_000)])
        yield backend
    finally:
        await backend.close()
