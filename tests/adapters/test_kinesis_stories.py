"""Whole workers on a stream: shards come and go, workers die and stand still, and everything has its order."""

import asyncio
from collections import Counter, defaultdict
from random import Random
from typing import Any

import pytest

from tests.adapters.kinesis_crew import Crew, Worker
from tq import Actions, Entity, FlowStep, Join, Task, TaskQueuesManager
from tq.clock import Clock
from tq.model import Backoff
from tq.testing import Probe
from tq_kinesis.position import ENDED


class Ledger:
    """What bodies did: for each entity, what has begun and what has succeeded."""

    def __init__(self, clock: Clock, chance: Random, failing: float = 0.0, longest: float = 0.3) -> None:
        self.succeeded: defaultdict[str, set[int]] = defaultdict(set)
        self.runs: Counter[tuple[str, int]] = Counter()
        self.disorder: list[str] = []
        self.executors = TaskQueuesManager()

        @self.executors.task("step", retries=9, backoff=Backoff(base=0.5, cap=3.0))
        async def step(at: tuple[str, int]) -> None:
            entity, number = at
            self.runs[entity, number] += 1
            missing = [it for it in range(number) if it not in self.succeeded[entity]]
            if missing:
                self.disorder.append(f"{entity} {number} began before {missing}")
            await clock.sleep(chance.random() * longest)
            if chance.random() < failing:
                raise RuntimeError("not this time")
            self.succeeded[entity].add(number)

    @property
    def count(self) -> int:
        return sum(len(it) for it in self.succeeded.values())


def steps(entities: int, numbers: range) -> list[Task[Any]]:
    return [
        Task(type="step", payload=(f"e{entity}", number), entity=Entity("E", f"e{entity}"))
        for number in numbers
        for entity in range(entities)
    ]


async def until(clock: Clock, seconds: float, true: object) -> None:
    """Wait until something is true."""
    for _ in range(int(seconds / 0.25)):
        if true():  # type: ignore[operator]
            return
        await clock.sleep(0.25)
    raise AssertionError("it does not come true")


@pytest.mark.spec("D-71", "D-70", "D-36", "INV-11", "INV-02", "SHC-02")
@pytest.mark.parametrize("seed", range(4))
async def test_shards_split_and_merge_while_one_worker_dies_and_another_stands_still(clock: Clock, seed: int) -> None:
    crew, chance = Crew(clock, shards=4), Random(seed)
    ledger = Ledger(clock, chance, failing=0.1)
    workers = [await crew.worker(ledger.executors) for _ in range(3)]
    producer = workers[2].handler
    entities, each = 24, 12
    await producer.add_tasks(steps(entities, range(4)))
    await clock.sleep(2.0 + chance.random())
    split, merged = ("shardId-000000000000", "shardId-000000000001"), ("shardId-000000000002", "shardId-000000000003")
    for shard in split:
        crew.double.split(shard)
    await producer.add_tasks(steps(entities, range(4, 7)))
    crew.double.merge(*merged)
    await workers[0].kill()
    await producer.add_tasks(steps(entities, range(7, 9)))
    await clock.sleep(chance.random())
    workers[1].freeze()
    await clock.sleep(15.0)
    await producer.add_tasks(steps(entities, range(9, each)))
    workers[1].thaw()
    await until(clock, 600.0, lambda: ledger.count == entities * each)
    await clock.sleep(30.0)
    assert ledger.disorder == []
    assert await crew.store.counts() == {}
    rows = await crew.rows()
    assert {shard for shard, row in rows.items() if row.checkpoint == ENDED} == {*split, *merged}
    assert {rows[shard].owner for shard in crew.double.open} == {worker.queue.worker for worker in workers[1:]}
    assert max(crew.leases.ownerless.values()) <= crew.lease + crew.lease / 3 + 1.0
    for worker in workers[1:]:
        await worker.stop()


async def test_a_worker_that_joins_gets_its_share_and_nothing_runs_twice(clock: Clock) -> None:
    crew = Crew(clock, shards=4)
    ledger = Ledger(clock, Random(1), longest=4.0)
    first = await crew.worker(ledger.executors)
    await first.handler.add_tasks(steps(20, range(6)))
    await clock.sleep(3.0)
    others = [await crew.worker(ledger.executors) for _ in range(2)]
    await clock.sleep(40.0)
    counts = Counter(row.owner for row in (await crew.rows()).values())
    assert sorted(counts.values()) == [1, 1, 2]
    await until(clock, 600.0, lambda: ledger.count == 120)
    assert set(ledger.runs.values()) == {1}
    assert ledger.disorder == []
    for worker in (first, *others):
        await worker.stop()


@pytest.mark.spec("D-70")
async def test_a_worker_that_stood_still_does_not_take_its_shard_back(clock: Clock) -> None:
    crew = Crew(clock)
    ledger = Ledger(clock, Random(1))
    stalled = await crew.worker(ledger.executors)
    await clock.sleep(1.0)
    other = await crew.worker(ledger.executors)
    await clock.sleep(5.0)
    stalled.freeze()
    await clock.sleep(20.0)
    await other.handler.add_tasks(steps(3, range(3)))
    await clock.sleep(5.0)
    assert ledger.count == 9
    stalled.thaw()
    await clock.sleep(60.0)
    owners = [owner for _, owner in crew.leases.owners["shardId-000000000000"]]
    assert owners == [stalled.queue.worker, other.queue.worker]
    assert stalled.queue.shards() == []
    await other.handler.add_tasks(steps(3, range(3, 5)))
    await until(clock, 60.0, lambda: ledger.count == 15)
    assert set(ledger.runs.values()) == {1}
    for worker in (stalled, other):
        await worker.stop()


@pytest.mark.spec("INV-11")
async def test_a_stall_under_back_pressure_loses_nothing(clock: Clock) -> None:
    crew = Crew(clock)
    gate, done = asyncio.Event(), list[int]()
    executors = TaskQueuesManager()

    @executors.task("step")
    async def step(number: int) -> None:
        await gate.wait()
        done.append(number)

    worker = await crew.worker(executors, window_records=20)
    for start in range(0, 600, 100):
        await worker.handler.add_tasks([Task(type="step", payload=number) for number in range(start, start + 100)])
    await clock.sleep(120.0)
    (view,) = worker.queue.shards()
    assert view.records <= 20 + 50, "reading waits for room"
    reads = crew.double.calls["get_records"]
    await clock.sleep(60.0)
    assert crew.double.calls["get_records"] == reads
    assert view.checkpoint == "TRIM_HORIZON"
    gate.set()
    await until(clock, 300.0, lambda: len(done) == 600)
    assert sorted(done) == list(range(600))
    await worker.stop()


@pytest.mark.spec("D-66", "D-69")
async def test_a_poison_record_is_buried_and_the_shard_goes_on(clock: Clock) -> None:
    crew = Crew(clock)
    done, killers = set[str](), Counter[str]()
    executors = TaskQueuesManager()
    alive: list[Worker] = []

    @executors.task("step", max_crashes=2)
    async def step(name: str) -> None:
        await clock.sleep(0.2)
        if name == "poison":
            killers["deaths"] += 1
            dead.set()
            await asyncio.Event().wait()
        done.add(name)

    dead = asyncio.Event()
    alive.append(await crew.worker(executors))
    names = [f"n{number}" for number in range(30)]
    names.insert(7, "poison")
    ids = await alive[0].handler.add_tasks([Task(type="step", payload=name) for name in names])
    poison = ids[7]
    for _ in range(40):
        waiting = asyncio.ensure_future(dead.wait())
        await asyncio.wait([waiting], timeout=120.0)
        waiting.cancel()
        if not dead.is_set():
            break
        dead.clear()
        await alive[-1].kill()
        alive.append(await crew.worker(executors))
    assert killers["deaths"] == 4, "twice in company, twice alone"
    assert done == set(names) - {"poison"}
    records = await crew.store.records([poison])
    assert records[poison].dead
    assert "2 alone" in (records[poison].error or "")
    (row,) = (await crew.rows()).values()
    assert row.note == ""
    await alive[-1].stop()


@pytest.mark.spec("D-69")
async def test_a_record_of_somebody_else_is_buried_with_what_it_holds(clock: Clock) -> None:
    crew = Crew(clock)
    ledger = Ledger(clock, Random(1))
    crew.double.put_raw(b"hello")
    worker = await crew.worker(ledger.executors)
    await worker.handler.add_tasks(steps(1, range(2)))
    await until(clock, 30.0, lambda: ledger.count == 2)
    await clock.sleep(10.0)
    (letter,) = await crew.store.list_records(dead=True)
    assert letter.body == b"hello"
    (row,) = (await crew.rows()).values()
    assert row.checkpoint.isdigit()
    await worker.stop()


@pytest.mark.spec("D-64")
async def test_a_key_waits_for_its_failing_task_and_others_do_not(clock: Clock) -> None:
    crew = Crew(clock)
    order: list[str] = []
    executors = TaskQueuesManager()

    @executors.task("step", retries=3, backoff=Backoff(base=20.0, jitter=0.0))
    async def step(name: str) -> None:
        order.append(name)
        if order.count(name) == 1 and name == "a1":
            raise RuntimeError("once")

    async def play(**options: str) -> list[str]:
        order.clear()
        worker = await crew.worker(executors, **options)
        tasks = [Task(type="step", payload=name, partition_key=name[0]) for name in ("a1", "b1", "a2", "b2", "a3")]
        await worker.handler.add_tasks(tasks)
        await until(clock, 120.0, lambda: len(order) == 6)
        await worker.handler.add_tasks([Task(type="step", payload="a4", partition_key="a")])
        await until(clock, 120.0, lambda: len(order) == 7)
        await worker.stop()
        return [name for name in order if name[0] == "a"]

    assert await play() == ["a1", "a1", "a2", "a3", "a4"]
    assert order.index("b2") < order.index("a2")
    assert await play(on_failure="skip") == ["a1", "a2", "a3", "a1", "a4"]


async def test_who_waits_for_a_flow_does_not_hold_up_the_key_that_its_members_share(clock: Clock) -> None:
    crew, order = Crew(clock), list[str]()
    executors = TaskQueuesManager()

    @executors.executor("parent")
    async def parent(task: Task[Any], actions: Actions) -> None:
        order.append("parent")
        steps = [FlowStep("member", payload=number, entity=task.entity) for number in range(3)]
        actions.success_when(actions.start_flow(steps, join=Join("join"), entity=task.entity))

    @executors.task("member")
    async def member(number: int) -> None:
        order.append(f"member {number}")

    @executors.executor("join", store_on_success=True)
    async def join(task: Task[Any], actions: Actions) -> None:
        order.append("join")
        actions.success(task)

    worker = await crew.worker(executors)
    await worker.handler.add_tasks([Task(type="parent", entity=Entity("E", "1"))])
    await until(clock, 60.0, lambda: "join" in order)
    await clock.sleep(10.0)
    assert sorted(order) == ["join", "member 0", "member 1", "member 2", "parent"]
    assert await crew.store.counts() == {}
    await worker.stop()


async def test_a_long_task_moves_to_the_store_and_frees_the_checkpoint(clock: Clock) -> None:
    crew, done = Crew(clock), list[int]()
    executors = TaskQueuesManager()

    @executors.task("long", handoff_timeout=2.0, max_duration=900.0)
    async def long(number: int) -> None:
        await clock.sleep(300.0 if number == 0 else 0.1)
        done.append(number)

    worker = await crew.worker(executors)
    await worker.handler.add_tasks([Task(type="long", payload=number) for number in range(20)])
    await clock.sleep(20.0)
    assert sorted(done) == list(range(1, 20))
    last = max(record.number for shard in crew.double.shards.values() for record in shard.records)
    (row,) = (await crew.rows()).values()
    assert row.checkpoint == str(last)
    await until(clock, 400.0, lambda: 0 in done)
    await worker.stop()


@pytest.mark.spec("D-32")
async def test_a_task_that_the_reader_of_its_shard_does_not_serve_is_left_to_who_does(clock: Clock) -> None:
    crew, done = Crew(clock), list[str]()
    here, there = TaskQueuesManager(), TaskQueuesManager()
    here.queue("elsewhere")

    @here.task("step")
    async def step(name: str) -> None:
        done.append(name)

    @there.task("step", queue="elsewhere")
    async def other(name: str) -> None:
        done.append(name)

    worker = await crew.worker(here)
    await worker.handler.add_tasks([Task(type="step", queue_id="elsewhere", payload="strange")])
    await worker.handler.add_tasks([Task(type="step", payload=f"{number}") for number in range(3)])
    await clock.sleep(60.0)
    assert sorted(done) == ["0", "1", "2"]
    (view,) = worker.queue.shards()
    assert (view.records, view.checkpoint.isdigit()) == (0, True)
    second = await crew.worker(there)
    await until(clock, 120.0, lambda: "strange" in done)
    for one in (worker, second):
        await one.stop()


@pytest.mark.spec("QLC-04", "QLC-05", "QLC-06", "D-76")
async def test_observers_hear_who_reads_which_shard_and_how_far(clock: Clock, probe: Probe) -> None:
    crew = Crew(clock, shards=2)
    ledger = Ledger(clock, Random(1))
    worker = Worker(crew, ledger.executors, observer=probe)
    await worker.start()
    await worker.handler.add_tasks(steps(10, range(3)))
    await until(clock, 60.0, lambda: ledger.count == 30)
    await clock.sleep(10.0)
    other = await crew.worker(ledger.executors)
    await clock.sleep(20.0)
    await worker.stop()
    await other.stop()
    connected = [it.value for it in probe.of("on_consumer_connected") if it.value.consumer_type == "shard"]
    assert [it.shard_id for it in connected] == sorted(crew.double.shards)
    parents = {it.value.consumer_id for it in probe.of("on_consumer_connected") if it.value.consumer_type == "worker"}
    assert {it.parent_consumer_id for it in connected} == parents
    assert {(it.queue_id, it.provider) for it in connected} == {("default", "kinesis")}
    left = [it.value for it in probe.of("on_consumer_disconnected") if it.value.consumer_type == "shard"]
    assert [it.reason for it in left] == ["rebalance", "shutdown"]
    assert {it.shard_id for it in left} == set(crew.double.shards)
    noted = [it.value for it in probe.of("on_consumer_checkpoint")]
    assert sum(it.records_since_last for it in noted) == 30
    rows = await crew.rows()
    assert {it.shard_id: it.checkpoint for it in noted} == {shard: row.checkpoint for shard, row in rows.items()}


@pytest.mark.spec("D-77", "AIMD-03", "AIMD-06")
async def test_the_strategy_hears_of_tasks_that_failed_and_of_their_types(clock: Clock) -> None:
    crew, executors = Crew(clock), TaskQueuesManager()

    @executors.task("good")
    async def good(number: int) -> None: ...

    @executors.task("bad", retries=1, backoff=Backoff(base=500.0))
    async def bad(number: int) -> None:
        raise RuntimeError("never")

    @executors.task("worse")
    async def worse(number: int) -> None:
        raise RuntimeError("never ever")

    worker = await crew.worker(executors)
    (shard,) = crew.double.shards
    for number in range(20):
        await worker.handler.add_tasks([Task(type="good", payload=number)])
        await clock.sleep(2.0)
    assert worker.queue.strategy.get_snapshot(shard).current_batch_size > 50
    for number in range(6):
        await worker.handler.add_tasks([Task(type=type, payload=number) for type in ("good", "bad", "worse")])
        await clock.sleep(2.0)
    seen = worker.queue.strategy.get_snapshot(shard)
    assert seen.current_batch_size == 10
    assert seen.hot_task_types == ["bad", "worse"]
    await worker.stop()
