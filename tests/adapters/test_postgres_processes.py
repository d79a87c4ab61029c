"""Several workers on one database, a server that goes away, and what is heard of others."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from tests.adapters.lines import line
from tq import Task, TaskHandler, TaskQueuesManager
from tq.errors import BackendError, BackendUnavailableError
from tq.model import (
    Batch,
    Claim,
    Delivery,
    Effects,
    Flow,
    Mark,
    Message,
    Record,
    Remove,
    Settlement,
    StepStatus,
    TaskStatus,
)
from tq_postgres import PostgresBackend, database, listener, open_backend, sweeper

pytestmark = pytest.mark.realtime


def message(id: str, **fields: Any) -> Message:
    return Message(id, "q", "t", b"{}", 0.0)._replace(**fields)


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncGenerator[PostgresBackend, None]:
    backend = open_backend(url, **options)
    try:
        yield backend
    finally:
        await backend.close()


async def until(true: Callable[[], Awaitable[bool]], within: float = 10.0) -> None:
    """Return when it is true."""
    async with asyncio.timeout(within):
        while not await true():  # noqa: ASYNC110 -- the server does not say when
            await asyncio.sleep(0.01)


# --- together ---------------------------------------------------------------------------------------------------------


async def work(backend: PostgresBackend, name: str, adds: int) -> list[str]:
    """Add, and settle whatever comes, until nothing is left; return the ids settled."""
    for number in range(adds):
        await backend.queue.add([message(f"{name}.{number}.{part}", lane=f"l{part % 2}") for part in range(5)])
    endings: list[Settlement] = []
    done: list[str] = []
    hops = idle = 0
    while idle < 20:
        hops += 1
        hop = await backend.commit(Batch(endings), Claim(("q",), 3, f"{name}:{hops}", 30.0))
        assert hop.refused == []
        done += [ending.receipt.id for ending in endings]
        endings = [Settlement(delivery.receipt, Remove()) for delivery in hop.deliveries]
        idle = 0 if endings else idle + 1
        await asyncio.sleep(0)
    return done


@pytest.mark.spec("INV-03", "D-29")
async def test_workers_share_the_work_and_never_a_task_nor_a_lane(postgres_url: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        backends = [await stack.enter_async_context(opened(postgres_url)) for _ in range(4)]
        names = [f"w{number}" for number in range(4)]
        settled = await asyncio.gather(*[work(it, name, 25) for it, name in zip(backends, names, strict=True)])
        done = [id for ids in settled for id in ids]
        done += await work(backends[0], "last", 0)
        assert sorted(done) == sorted(
            f"{name}.{number}.{part}" for name in names for number in range(25) for part in range(5)
        )
        assert await backends[0].database.fetch("SELECT FROM tq_lanes") == []


@pytest.mark.spec("BAR-09", "INV-05", "INV-06")
async def test_workers_that_end_the_members_of_one_flow_release_its_join_once(postgres_url: str) -> None:
    members, flows = 60, 3
    async with contextlib.AsyncExitStack() as stack:
        backends = [await stack.enter_async_context(opened(postgres_url)) for _ in range(4)]
        join = message("")
        started = [
            Flow(
                id=f"f{n}",
                total=members,
                allowed=0,
                needed=members,
                join=join._replace(id=f"f{n}.join"),
                started_at=0.0,
            )
            for n in range(flows)
        ]
        await backends[0].commit(Batch(effects=[Effects(flows=tuple(started))]))

        async def count(backend: PostgresBackend, step: int) -> list[str]:
            closed: list[str] = []
            for number in range(members):
                marks = [Mark(f"f{n}", (number * step + n) % members, StepStatus.SUCCESS) for n in range(flows)]
                marks = marks[::-1] if step % 2 else marks  # in no common order
                hop = await backend.commit(Batch(effects=[Effects(marks=tuple(marks))]))
                closed += [state.id for state in hop.closed]
            return closed

        answers = await asyncio.gather(*[count(it, step) for it, step in zip(backends, (1, 7, 11, 13), strict=True)])
        assert sorted(id for closed in answers for id in closed) == ["f0", "f1", "f2"]
        barrier = backends[1].barrier
        assert barrier is not None
        states = await barrier.get(["f0", "f1", "f2"])
        assert {(it.remaining, it.succeeded, it.confirmed) for it in states.values()} == {(0, members, True)}
        assert sorted(it.id for it in await backends[2].queue.list(None, "", 9)) == ["f0.join", "f1.join", "f2.join"]


async def test_a_hop_is_one_statement(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(postgres_url) as backend:
        await backend.queue.add([message(f"{number}") for number in range(20)])
        seen: list[str] = []
        fetch = backend.database.fetch

        async def noted(text: str, *args: object) -> Any:
            seen.append(text)
            return await fetch(text, *args)

        monkeypatch.setattr(backend.database, "fetch", noted)
        first = await backend.commit(Batch(), Claim(("q",), 10, "w:1", 30.0))
        effects = Effects(messages=(message("child"),), marks=(Mark("f", 0, StepStatus.SUCCESS),))
        endings = [Settlement(delivery.receipt, Remove(), effects) for delivery in first.deliveries[:3]]
        await backend.commit(Batch(endings), Claim(("q",), 10, "w:2", 30.0))
        assert len(seen) == 2
        seen.clear()
        lost: list[Delivery] = [delivery._replace(token="w:never") for delivery in first.deliveries[3:5]]
        endings = [Settlement(delivery.receipt, Remove(), effects) for delivery in [*lost, *first.deliveries[5:]]]
        hop = await backend.commit(Batch(endings))
        assert sorted(hop.refused) == sorted(delivery.receipt for delivery in lost)
        assert len(seen) == 2, "once with all, once without those that were lost"


# --- one after the other ----------------------------------------------------------------------------------------------


async def somebody_waits(connection: Any) -> None:
    """Return when somebody waits for a lock."""
    for _ in range(1000):
        if await connection.fetchval("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"):
            return
        await asyncio.sleep(0.01)
    pytest.fail("nobody waits for a lock")


@asynccontextmanager
async def begun(url: str) -> AsyncGenerator[Any, None]:
    """Give a connection with a transaction that commits at the end of the block."""
    connection = await asyncpg.connect(url.partition("?")[0])
    try:
        async with connection.transaction():
            yield connection
    finally:
        await connection.close()


async def test_who_adds_to_a_lane_waits_for_who_is_adding_to_it(postgres_url: str) -> None:
    async with opened(postgres_url) as backend:
        await backend.database.open()
        async with begun(postgres_url) as connection:
            await backend.commit_within(connection, Batch(effects=[Effects(messages=(message("1", lane="L"),))]))
            adding = asyncio.create_task(backend.queue.add([message("2", lane="L"), message("other", lane="M")]))
            await somebody_waits(connection)
        assert await adding == []
        hop = await backend.commit(Batch(), Claim(("q",), 10, "w:1", 30.0))
        assert sorted(it.message.id for it in hop.deliveries) == ["1", "other"]


async def test_who_adds_to_a_lane_waits_for_who_takes_the_last_out_of_it(postgres_url: str) -> None:
    """Else the new one would stand behind a message that is gone, for ever."""
    async with opened(postgres_url) as backend:
        await backend.queue.add([message("1", lane="L")])
        (first,) = (await backend.commit(Batch(), Claim(("q",), 1, "w:1", 30.0))).deliveries
        async with begun(postgres_url) as connection:
            await backend.commit_within(connection, Batch([Settlement(first.receipt, Remove())]))
            adding = asyncio.create_task(backend.queue.add([message("2", lane="L")]))
            await somebody_waits(connection)
        assert await adding == []
        hop = await backend.commit(Batch(), Claim(("q",), 10, "w:2", 30.0))
        assert [it.message.id for it in hop.deliveries] == ["2"]


async def test_who_takes_the_last_out_of_a_lane_waits_for_who_adds_to_it(postgres_url: str) -> None:
    async with opened(postgres_url) as backend:
        await backend.queue.add([message("1", lane="L")])
        (first,) = (await backend.commit(Batch(), Claim(("q",), 1, "w:1", 30.0))).deliveries
        async with begun(postgres_url) as connection:
            await backend.commit_within(connection, Batch(effects=[Effects(messages=(message("2", lane="L"),))]))
            taking = asyncio.create_task(backend.commit(Batch([Settlement(first.receipt, Remove())])))
            await somebody_waits(connection)
        assert (await taking).refused == []
        hop = await backend.commit(Batch(), Claim(("q",), 10, "w:2", 30.0))
        assert [it.message.id for it in hop.deliveries] == ["2"]


@pytest.mark.spec("BAR-09", "INV-06")
async def test_who_marks_a_flow_waits_for_who_is_marking_it_and_decides(postgres_url: str) -> None:
    async with opened(postgres_url) as backend:
        flow = Flow(id="f", total=2, allowed=0, needed=2, join=message("f.join"), started_at=0.0)
        await backend.commit(Batch(effects=[Effects(flows=(flow,))]))
        first, second = [Batch(effects=[Effects(marks=(Mark("f", n, StepStatus.SUCCESS),))]) for n in range(2)]
        async with begun(postgres_url) as connection:
            assert (await backend.commit_within(connection, first)).closed == []
            marking = asyncio.create_task(backend.commit(second))
            await somebody_waits(connection)
        assert [state.id for state in (await marking).closed] == ["f"]
        assert list(await backend.queue.locate(["f.join"])) == ["f.join"]


async def test_who_adds_an_id_waits_for_who_ends_it_and_finds_its_record(postgres_url: str) -> None:
    async with opened(postgres_url) as backend:
        await backend.queue.add([message("a")])
        (running,) = (await backend.commit(Batch(), Claim(("q",), 1, "w:1", 30.0))).deliveries
        record = Record("a", "q", "t", TaskStatus.EXECUTED, 0.0, 1e12)
        async with begun(postgres_url) as connection:
            ending = Settlement(running.receipt, Remove(), Effects(records=(record,)))
            await backend.commit_within(connection, Batch([ending]))
            adding = asyncio.create_task(backend.queue.add([message("a")]))
            await somebody_waits(connection)
        assert await adding == ["a"]
        assert await backend.queue.locate(["a"]) == {}


async def test_a_claim_waits_for_nobody(postgres_url: str) -> None:
    async with opened(postgres_url) as backend:
        await backend.queue.add([message("1"), message("2"), message("3", type="u")])
        async with begun(postgres_url) as connection:
            await connection.fetch(backend.database.schema.sql("SELECT FROM tq_messages WHERE id = '1' FOR UPDATE"))
            hop = await backend.commit(Batch(), Claim(("q",), 2, "w:1", 30.0))
            assert sorted(it.message.id for it in hop.deliveries) == ["2", "3"]


async def test_a_deadlock_is_tried_again(postgres_url: str) -> None:
    async with opened(postgres_url) as backend:
        await backend.queue.add([message("a"), message("b")])
        await backend.database.fetch("UPDATE tq_messages SET token = 'w:1'")
        connection = await asyncpg.connect(postgres_url.partition("?")[0])
        lock = backend.database.schema.sql("SELECT FROM tq_messages WHERE id = $1 FOR UPDATE")
        async with connection.transaction():
            await connection.execute("SET deadlock_timeout = '10s'")  # so that it is the other one that is ended
            await connection.fetch(lock, "b")
            solo = asyncio.create_task(backend.queue.cancel(["a", "b"]))
            await somebody_waits(connection)
            await connection.fetch(lock, "a")
        assert await solo == ["a", "b"]
        await connection.close()


# --- hearing ----------------------------------------------------------------------------------------------------------


async def test_what_another_process_adds_is_heard_of_at_once(postgres_url: str) -> None:
    async with opened(postgres_url) as ours, opened(postgres_url) as theirs:
        told = asyncio.Event()
        forget = ours.on_change(told.set)
        await asyncio.wait_for(told.wait(), 10)  # it listens, and tells that it may have missed something
        told.clear()
        await theirs.queue.add([message("a")])
        await asyncio.wait_for(told.wait(), 10)
        told.clear()
        forget()
        await theirs.queue.add([message("b")])
        await asyncio.sleep(0.1)
        assert not told.is_set()


async def test_a_listener_whose_connection_is_ended_listens_again(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "FIRST_PAUSE", 0.01)
    async with opened(postgres_url) as ours, opened(postgres_url) as theirs:
        told = asyncio.Event()
        ours.on_change(told.set)
        await asyncio.wait_for(told.wait(), 10)
        told.clear()
        ended = await theirs.database.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE $1",
            f'LISTEN "{ours.database.schema.channel}"',
        )
        assert len(ended) == 1
        await asyncio.wait_for(told.wait(), 10)
        told.clear()
        await theirs.queue.add([message("a")])
        await asyncio.wait_for(told.wait(), 10)


# --- a server that goes away ------------------------------------------------------------------------------------------


async def test_a_worker_goes_on_by_itself_when_the_server_is_back(postgres_url: str) -> None:
    """F-01: what ran meanwhile is settled; what was added from elsewhere meanwhile runs."""
    executors = TaskQueuesManager()
    begun, go_on = asyncio.Event(), asyncio.Event()

    @executors.task("slow", store_on_success=True)
    async def slow(number: int) -> int:
        begun.set()
        await go_on.wait()
        return number

    async with (
        line(postgres_url) as through,
        TaskHandler.connect(postgres_url) as elsewhere,
        TaskHandler.connect(through.url, executors, backend_options={"poll_interval": 0.2}) as handler,
    ):
        [first] = await handler.add_tasks([slow.task(1)])
        await handler.start()
        await begun.wait()
        await through.cut()
        go_on.set()
        [second] = await elsewhere.add_tasks([Task(type="slow", payload=2)])
        with pytest.raises(BackendUnavailableError, match=r"cannot be reached|clos"):
            await handler.backend.queue.counts()
        await asyncio.sleep(0.3)
        assert await elsewhere.task(first).status() == "processing"
        await through.open()
        assert await elsewhere.task(first).result(timeout=20.0) == 1
        assert await elsewhere.task(second).result(timeout=20.0) == 2


async def test_connections_that_were_ended_are_replaced(postgres_url: str) -> None:
    """A server that was restarted while nobody spoke is not noticed at all."""
    async with opened(postgres_url) as ours, opened(postgres_url) as theirs:
        await ours.queue.add([message("a")])
        keeper = ours.keeper()
        async with keeper as renewing:
            (delivery,) = (await ours.commit(Batch(), Claim(("q",), 1, "w:1", 30.0))).deliveries
            assert (await renewing.renew([delivery], 30.0)).lost == ()
            await theirs.database.fetch(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tq'"
                " AND pid <> pg_backend_pid()"
            )
            await asyncio.sleep(0.1)
            assert await ours.queue.locate(["never"]) == {}
            assert (await renewing.renew([delivery], 30.0)).lost == ()


async def test_a_statement_that_takes_too_long_is_given_up(postgres_url: str) -> None:
    async with opened(postgres_url, command_timeout=0.1) as backend:
        await backend.database.open()
        with pytest.raises(BackendError, match="did not answer in time"):
            await backend.database.fetch("SELECT pg_sleep(5)")
        assert await backend.queue.locate(["never"]) == {}


async def test_plans_are_made_anew_for_what_a_table_has_become(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is best for an empty queue is not for a long one."""
    monkeypatch.setattr(database, "PLAN_ANEW", 0.0)
    async with opened(postgres_url, pool_size=1) as backend:
        await backend.database.fetch("PREPARE kept AS SELECT FROM tq_messages WHERE id = $1")
        for _ in range(7):
            await backend.database.fetch("EXECUTE kept ('a')")
        sql = "SELECT generic_plans + custom_plans FROM pg_prepared_statements WHERE name = 'kept'"
        assert [tuple(row) for row in await backend.database.fetch(sql)] == [(7,)], "the statement itself is kept"
        seen: list[str] = []
        pool = backend.database._pool
        assert pool is not None
        async with pool.acquire() as connection:
            connection.add_query_logger(lambda query: seen.append(query.query))
        await backend.queue.locate(["a"])
        assert seen[0] == "DISCARD PLANS"
        monkeypatch.setattr(database, "PLAN_ANEW", 3600.0)
        seen.clear()
        await backend.queue.locate(["a"])
        assert "DISCARD PLANS" not in seen


# --- sweeping ---------------------------------------------------------------------------------------------------------


async def test_what_settled_tasks_leave_behind_is_swept(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeper, "EVERY", 10)
    async with opened(postgres_url) as backend:
        await backend.queue.add([message(f"{number}") for number in range(10)])
        hop = await backend.commit(Batch(), Claim(("q",), 10, "w:1", 30.0))
        await backend.commit(Batch([Settlement(delivery.receipt, Remove()) for delivery in hop.deliveries]))

        async def swept() -> bool:
            sql = "SELECT vacuum_count FROM pg_stat_all_tables WHERE relid = 'tq_messages'::regclass"
            [(count,)] = await backend.database.fetch(sql)
            return bool(count)

        await until(swept)
