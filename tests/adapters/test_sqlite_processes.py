"""Several processes on one file, and processes that are killed."""

import asyncio
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from tq.clock import Clock, SystemClock
from tq.model import Batch, Claim, Flow, Mark, Message, Remove, Settlement, StepStatus
from tq_sqlite import SqliteBackend, SqliteSettings, open_backend


def message(id: str) -> Message:
    return Message(id, "q", "t", b"{}", 0.0)


def url(path: Path) -> str:
    return f"sqlite:///{path}"


async def work(path: str, name: str, adds: int) -> list[str]:
    """Add, and settle whatever comes, until nothing is left; return the ids settled."""
    backend = SqliteBackend(SqliteSettings(path=path, synchronous="OFF"), SystemClock())
    done: list[str] = []
    for number in range(adds):
        await backend.queue.add([message(f"{name}.{number}.{part}") for part in range(5)])
    endings: list[Settlement] = []
    hops = idle = 0
    while idle < 20:
        hops += 1
        hop = await backend.commit(Batch(endings), Claim(("q",), 3, f"{name}:{hops}", 30.0))
        assert hop.refused == []
        done += [ending.receipt.id for ending in endings]
        endings = [Settlement(delivery.receipt, Remove()) for delivery in hop.deliveries]
        idle = 0 if endings else idle + 1
    await backend.close()
    return done


def run(path: str, name: str, answers: "Queue[list[str]]") -> None:
    answers.put(asyncio.run(work(path, name, 40)))


def test_processes_share_the_work_and_never_a_task(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    answers: Queue[list[str]] = context.Queue()
    path = str(tmp_path / "tq.db")
    processes = [context.Process(target=run, args=(path, f"w{number}", answers)) for number in range(3)]
    for process in processes:
        process.start()
    settled = [id for _ in processes for id in answers.get(timeout=60)]
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    # What one process has not seen at its end another one settles; nobody settles anything twice.
    assert len(settled) == len(set(settled))
    left = asyncio.run(work(path, "last", 0))
    assert sorted(settled + left) == sorted(f"w{w}.{n}.{p}" for w in range(3) for n in range(40) for p in range(5))


async def mark_all(path: str, mine: int, together: Barrier) -> list[int]:
    """Mark every member of the flow, each in a transaction of its own; return what the barrier answered."""
    backend = SqliteBackend(SqliteSettings(path=path, synchronous="OFF"), SystemClock())
    barrier, answers = backend.barrier, list[int]()
    assert barrier is not None
    together.wait(60)
    for number in range(MEMBERS):
        marks = [Mark("f", (number * STEPS[mine]) % MEMBERS, StepStatus.SUCCESS)]
        answers += [state.answer for state in await barrier.batch_decrement_and_check(marks)]
    await backend.close()
    return answers


MEMBERS, STEPS = 100, (1, 7, 11)


def run_marks(path: str, mine: int, together: Barrier, answers: "Queue[list[int]]") -> None:
    answers.put(asyncio.run(mark_all(path, mine, together)))


@pytest.mark.spec("BAR-09", "INV-05")
def test_processes_that_count_one_flow_count_each_member_once(tmp_path: Path) -> None:
    path = str(tmp_path / "tq.db")

    async def opened() -> None:
        backend = SqliteBackend(SqliteSettings(path=path), SystemClock())
        join = Message("f.join", "q", "join", b"{}", 0.0)
        assert backend.barrier is not None
        await backend.barrier.init_barrier(
            [Flow(id="f", total=MEMBERS, allowed=0, needed=MEMBERS, join=join, started_at=0.0)]
        )
        await backend.close()

    asyncio.run(opened())
    context = multiprocessing.get_context("spawn")
    answers: Queue[list[int]] = context.Queue()
    together = context.Barrier(len(STEPS))
    processes = [context.Process(target=run_marks, args=(path, mine, together, answers)) for mine in range(len(STEPS))]
    for process in processes:
        process.start()
    told = [answer for _ in processes for answer in answers.get(timeout=60)]
    for process in processes:
        process.join(30)
    assert set(told) == set(range(MEMBERS)), "every count down was told, and no other"


PASSER_BY = """
import asyncio, sys
from tq.clock import SystemClock
from tq.model import Message
from tq_sqlite import SqliteBackend, SqliteSettings

async def main():
    backend = SqliteBackend(SqliteSettings(path=sys.argv[1]), SystemClock())
    await backend.queue.add([Message(sys.argv[2], "q", "t", b"{}", 0.0)])
    await backend.close()

asyncio.run(main())
"""


@pytest.mark.realtime
async def test_a_process_that_leaves_takes_no_log_away_from_those_that_stay(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "tq.db"
    backend = open_backend(url(path), clock=clock)
    async with backend.keeper():  # a connection more, opened while the others hold their locks
        for name in ("a", "b"):
            await backend.queue.add([message(f"ours {name}")])
            command = [sys.executable, "-c", PASSER_BY, str(path), f"theirs {name}"]
            await asyncio.to_thread(subprocess.run, command, check=True, timeout=60)
            assert path.with_name("tq.db-wal").exists(), "whoever leaves must not believe itself the last"
    added = ["ours a", "ours b", "theirs a", "theirs b"]
    assert sorted(await backend.queue.locate(added)) == added
    await backend.close()
    backend = open_backend(url(path), clock=clock)
    assert sorted(await backend.queue.locate(added)) == added
    await backend.close()


@pytest.mark.realtime
async def test_what_another_process_adds_is_noticed(tmp_path: Path, clock: Clock) -> None:
    ours, theirs = (
        open_backend(url(tmp_path / "tq.db"), clock=clock),
        open_backend(url(tmp_path / "tq.db"), clock=clock),
    )
    told: list[str] = []
    forget = ours.on_change(lambda: told.append("changed"))
    await theirs.queue.add([message("a")])
    assert await ours.changed()
    assert not await ours.changed()
    assert told == []
    await ours.queue.add([message("b")])
    assert told == ["changed"]
    assert not await ours.changed()  # our own commits are told, not asked for
    forget()
    await ours.queue.add([message("c")])
    assert told == ["changed"]
    await ours.close()
    await theirs.close()


@pytest.mark.realtime
async def test_a_commit_goes_on_when_its_caller_is_cancelled(tmp_path: Path, clock: Clock) -> None:
    backend = open_backend(url(tmp_path / "tq.db"), clock=clock)
    told = asyncio.Event()
    backend.on_change(told.set)
    other = sqlite3.connect(tmp_path / "tq.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    adding = asyncio.ensure_future(backend.queue.add([message("a")]))
    await asyncio.sleep(0.05)
    adding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await adding
    other.execute("ROLLBACK")
    other.close()
    async with asyncio.timeout(10):
        await told.wait()
    assert sorted(await backend.queue.locate(["a"])) == ["a"]
    await backend.close()


@pytest.mark.realtime
async def test_leases_are_kept_while_the_writer_is_busy(tmp_path: Path, clock: Clock) -> None:
    backend = open_backend(url(tmp_path / "tq.db"), clock=clock)
    await backend.queue.add([message("a")])
    (delivery,) = (await backend.commit(Batch(), Claim(("q",), 1, "w:1", 0.2))).deliveries

    def keep() -> None:
        async def renew() -> None:
            async with backend.keeper() as keeper:
                answer = await keeper.renew([delivery], 30.0)
                assert answer == ((), ())

        asyncio.run(renew())

    await asyncio.to_thread(keep)
    await asyncio.sleep(0.25)
    hop = await backend.commit(Batch(), Claim(("q",), 1, "w:2", 0.2))
    assert hop.deliveries == []
    assert await backend.queue.ack([delivery.receipt]) == []
    await backend.close()


WRITER = """
import asyncio, sys
from tq.clock import SystemClock
from tq.model import Message
from tq_sqlite import SqliteBackend, SqliteSettings

def endless(db):
    db.execute("INSERT INTO tq_paused (queue) VALUES ('half')")
    db.execute("PRAGMA cache_size = 1")
    number = 0
    while True:
        db.execute("INSERT INTO tq_workers (worker, queue, until) VALUES (?, 'q', 0)", ("w" * 2000 + str(number),))
        number += 1
        if number == 500:
            print("amid", flush=True)

async def main():
    backend = SqliteBackend(SqliteSettings(path=sys.argv[1]), SystemClock())
    await backend.queue.add([Message("kept", "q", "t", b"{}", 0.0)])
    await backend.database.write(endless)

asyncio.run(main())
"""


def kill_amid(path: Path) -> None:
    """Start a writer and kill it amid its second transaction."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "amid\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)
    process.stdout.close()


@pytest.mark.spec("F-28")
@pytest.mark.realtime
async def test_a_kill_amid_a_transaction_leaves_what_was_committed(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "tq.db"
    kill_amid(path)
    backend = open_backend(url(path), clock=clock)
    assert sorted(await backend.queue.locate(["kept"])) == ["kept"]
    assert await backend.queue.paused() == []
    check = await backend.database.read(lambda db: db.execute("PRAGMA integrity_check").fetchall())
    assert check == [("ok",)]
    await backend.close()
