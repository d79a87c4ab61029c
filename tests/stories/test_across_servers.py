"""Queue, store and flows on different servers: the same stories, and those that only several servers can tell."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from tq import (
    Actions,
    AsyncTaskManager,
    Backoff,
    Entity,
    FlowStep,
    Join,
    RoutedQueue,
    Task,
    TaskHandler,
    TaskQueuesManager,
    TaskStatus,
)
from tq.clock import to_datetime
from tq.memory import MemoryBackend, MemoryBarrier, MemoryProjections, MemoryQueue, MemoryStore
from tq.model import Place, Projection
from tq.ports import ProjectionQuery
from tq.testing import Fault, Faults, VirtualClock, plans
from tq_sqlite import SqliteBackend, SqliteSettings

Parts = dict[str, Any]


def memories(clock: VirtualClock, _: Path) -> Parts:
    return {"queue": MemoryQueue(clock=clock), "store": MemoryStore(clock=clock), "barrier": MemoryBarrier(clock=clock)}


def sqlite_store(clock: VirtualClock, folder: Path) -> Parts:
    kept = SqliteBackend(SqliteSettings(path=str(folder / "kept.db"), synchronous="OFF"), clock)
    return {"queue": MemoryQueue(clock=clock), "store": kept.store, "barrier": kept.barrier}


def flows_elsewhere(clock: VirtualClock, _: Path) -> Parts:
    home = MemoryBackend(clock=clock)
    return {"queue": home.queue, "store": home.store, "barrier": MemoryBarrier(clock=clock)}


def brokers(clock: VirtualClock, _: Path) -> Parts:
    queue = RoutedQueue({"media": MemoryQueue(clock=clock), "*": MemoryQueue(clock=clock)})
    return {"queue": queue, "store": MemoryStore(clock=clock), "barrier": MemoryBarrier(clock=clock)}


@pytest.fixture(params=[memories, sqlite_store, flows_elsewhere, brokers], ids=lambda it: str(it.__name__))
def parts(request: pytest.FixtureRequest, clock: VirtualClock, tmp_path: Path) -> Iterator[Parts]:
    """Where the story's handlers keep their tasks: all of them share these."""
    make: Callable[[VirtualClock, Path], Parts] = request.param
    made = make(clock, tmp_path)
    yield made
    for home in {getattr(part, "backend", None) for part in made.values()}:
        if isinstance(home, SqliteBackend):
            asyncio.run(home.close())


class Studio:
    """Resizes on one queue, joins on another, and remembers what happened."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.executors = TaskQueuesManager()
        self.ran: list[str] = []
        self.joined: list[dict[str, Any]] = []
        self.executors.executor("album", store_on_success=True)(self._album)
        self.executors.executor("resize", queue="media", retries=1, backoff=Backoff(base=5.0, jitter=0))(self._resize)
        self.executors.executor("album.done", store_on_success=True)(self._done)

    async def _album(self, task: Task[Any], actions: Actions) -> None:
        pages = [FlowStep("resize", queue="media", payload=page) for page in task.payload]
        flow = actions.start_flow(pages, join=Join("album.done"))
        actions.success_when(flow)

    async def _resize(self, task: Task[Any], actions: Actions) -> None:
        self.ran.append(task.id)
        await asyncio.sleep(1.0)
        if task.payload == "torn" and task.attempt == 0:
            actions.fail(task, "torn")
        else:
            actions.success(task, task.payload)

    async def _done(self, task: Task[Any], actions: Actions) -> None:
        self.joined.append(task.payload["flow_results"])
        actions.success(task, len(task.payload["flow_results"]["steps"]))

    def handler(self, parts: Parts, **options: Any) -> TaskHandler:
        return TaskHandler(executors=self.executors, clock=self.clock, **parts, **options)


@pytest.mark.spec("INV-01", "INV-05")
async def test_a_task_ends_as_its_flow_does_across_servers(parts: Parts, clock: VirtualClock) -> None:
    studio = Studio(clock)
    handler = studio.handler(parts)
    assert not handler.backend.atomic
    await handler.start()
    [album] = await handler.add_tasks([Task(type="album", payload=["a", "torn", "c"])])
    assert await handler.task(album).result(timeout=60.0) == 3
    assert [entry["status"] for entry in studio.joined[0]["steps"]] == ["success"] * 3
    assert len(studio.joined) == 1
    assert len(studio.ran) == 4
    await handler.close()


@pytest.mark.spec("INV-02", "D-36")
async def test_a_killed_workers_flow_is_finished_by_another(parts: Parts, clock: VirtualClock) -> None:
    studio = Studio(clock)
    first, second = studio.handler(parts), studio.handler(parts)
    [album] = await first.add_tasks([Task(type="album", payload=["a", "b"])])
    await first.start()
    await clock.sleep(0.5)
    assert len(studio.ran) == 2
    await first.kill()
    await second.start()
    assert await second.task(album).result(timeout=120.0) == 2
    assert len(studio.joined) == 1
    await second.close()


@pytest.mark.spec("D-38", "STO-01")
async def test_what_is_due_later_waits_in_the_store_and_runs_from_there(parts: Parts, clock: VirtualClock) -> None:
    executors, ran = TaskQueuesManager(), list[tuple[str, float]]()

    @executors.executor("note", store_on_success=True)
    async def note(task: Task[Any], actions: Actions) -> None:
        ran.append((task.payload, clock.now()))
        if task.payload == "again" and len(ran) == 1:
            actions.reschedule(3600.0)
        else:
            actions.success(task)

    handler = TaskHandler(executors=executors, clock=clock, **parts)
    await handler.start()
    began = clock.now()
    at = to_datetime(began + 1800.0)
    ids = await handler.add_tasks(
        [Task(type="note", payload="again"), Task(type="note", payload="later", execute_at=at)]
    )
    await clock.sleep(4000)
    assert [(name, round(at - began)) for name, at in ran] == [("again", 0), ("later", 1800), ("again", 3600)]
    assert [await handler.task(id).status() for id in ids] == [TaskStatus.EXECUTED] * 2
    await handler.close()


@pytest.mark.spec("D-20", "D-31")
async def test_a_long_run_moves_to_the_store_and_its_worker_may_die(parts: Parts, clock: VirtualClock) -> None:
    executors, began = TaskQueuesManager(), list[int]()

    @executors.executor("render", handoff_timeout=5.0, store_on_success=True)
    async def render(task: Task[Any], actions: Actions) -> None:
        began.append(task.fence)
        await asyncio.sleep(300.0)
        actions.success(task, "film")

    def handler() -> TaskHandler:
        manager = AsyncTaskManager(clock=clock)
        return TaskHandler(executors=executors, clock=clock, async_tasks=manager, **parts)

    first, second = handler(), handler()
    [task_id] = await first.add_tasks([Task(type="render")])
    await first.start()
    await clock.sleep(100)
    live = (await parts["store"].locate([task_id]))[task_id]
    assert live.place is Place.STORE
    assert began == [1]
    await first.kill()
    await second.start()
    assert await second.task(task_id).result(timeout=400.0) == "film"
    assert began == [1, 2]
    await second.close()


async def test_a_task_that_kills_its_workers_is_convicted_alone(parts: Parts, clock: VirtualClock) -> None:
    executors, dying = TaskQueuesManager(), asyncio.Event()

    @executors.executor("poison")
    async def poison(task: Task[Any], actions: Actions) -> None:
        dying.set()
        await asyncio.sleep(1e6)

    producer = TaskHandler(executors=executors, clock=clock, **parts)
    [task_id] = await producer.add_tasks([Task(type="poison")])
    deaths = 0
    while await producer.task(task_id).status() is not TaskStatus.FAILED:
        dying.clear()
        worker = TaskHandler(executors=executors, clock=clock, **parts)
        await worker.start()
        try:
            async with clock.timeout(60):
                await dying.wait()
        except TimeoutError:
            await worker.stop()
            break
        await worker.kill()
        deaths += 1
    record = await producer.task(task_id).record()
    assert record is not None
    assert "alone" in (record.error or "")
    assert deaths == 5, "two crashes in company, then three alone"
    await producer.close()


@pytest.mark.spec("D-56")
async def test_a_dead_letter_is_tried_again_by_hand(parts: Parts, clock: VirtualClock) -> None:
    executors, ran = TaskQueuesManager(), list[int]()

    @executors.executor("fragile", retries=0, store_on_success=True)
    async def fragile(task: Task[Any], actions: Actions) -> None:
        ran.append(task.generation)
        if task.generation == 0:
            actions.fail(task, "not today")
        else:
            actions.success(task, "tomorrow")

    handler = TaskHandler(executors=executors, clock=clock, **parts)
    await handler.start()
    [task_id] = await handler.add_tasks([Task(type="fragile")])
    await clock.sleep(1)
    assert await handler.task(task_id).status() is TaskStatus.FAILED
    await handler.task(task_id).retry()
    assert await handler.task(task_id).result(timeout=10.0) == "tomorrow"
    assert ran == [0, 1]
    await handler.close()


@pytest.mark.spec("FLOW-24", "INV-06")
async def test_a_deadline_ends_a_flow_and_the_task_that_waits_for_it(parts: Parts, clock: VirtualClock) -> None:
    executors, joined = TaskQueuesManager(), list[Any]()

    @executors.executor("parent", store_on_success=True)
    async def parent(task: Task[Any], actions: Actions) -> None:
        flow = actions.start_flow(
            [FlowStep("quick"), FlowStep("slow")], join=Join("done"), timeout=20.0, cancel_siblings=True
        )
        actions.success_when(flow)

    @executors.executor("quick")
    async def quick(task: Task[Any], actions: Actions) -> None:
        actions.success(task, 1)

    @executors.executor("slow")
    async def slow(task: Task[Any], actions: Actions) -> None:
        await asyncio.sleep(500.0)
        actions.success(task, 2)

    @executors.executor("done")
    async def done(task: Task[Any], actions: Actions) -> None:
        joined.append([entry["status"] for entry in task.payload["flow_results"]["steps"]])
        actions.success(task, "late")

    handler = TaskHandler(executors=executors, clock=clock, **parts)
    await handler.start()
    [task_id] = await handler.add_tasks([Task(type="parent")])
    assert await handler.task(task_id).result(timeout=60.0) == "late"
    assert joined == [["success", "cancelled"]]
    await clock.sleep(60)
    counts = await parts["queue"].counts()
    assert sum(number for states in counts.values() for number in states.values()) == 0
    await handler.close()


class OwnRows:
    """A user's own provider, which is down at first."""

    def __init__(self) -> None:
        self.down = True
        self.rows: dict[str, Projection] = {}

    async def upsert_projections(self, rows: Sequence[Projection]) -> None:
        if self.down:
            raise ConnectionError("down")
        self.rows |= {
            row.task_id: row for row in rows if row.version > getattr(self.rows.get(row.task_id), "version", -1)
        }


@pytest.mark.spec("ADD-16")
async def test_a_users_own_rows_converge_though_their_server_was_down(parts: Parts, clock: VirtualClock) -> None:
    executors, own = TaskQueuesManager(), OwnRows()

    @executors.executor("work")
    async def work(task: Task[Any], actions: Actions) -> None:
        actions.success(task)

    handler = TaskHandler(executors=executors, clock=clock, projections=own, **parts)
    await handler.start()
    [task_id] = await handler.add_tasks([Task(type="work", entity=Entity("Item", "i-1"))])
    await clock.sleep(100)
    assert own.rows == {}
    own.down = False
    await clock.sleep(400)
    assert own.rows[task_id].status is TaskStatus.EXECUTED
    await handler.close()


async def test_rows_of_a_server_at_hand_ride_with_the_commit(clock: VirtualClock) -> None:
    home, rows = MemoryBackend(clock=clock), MemoryBackend(clock=clock).projections
    assert isinstance(rows, MemoryProjections)
    executors = TaskQueuesManager()

    @executors.executor("work")
    async def work(task: Task[Any], actions: Actions) -> None:
        actions.success(task)

    kept = MemoryBackend(clock=clock)
    handler = TaskHandler(
        queue=home.queue, store=kept.store, barrier=kept.barrier, projections=rows, executors=executors, clock=clock
    )
    await handler.start()
    [task_id] = await handler.add_tasks([Task(type="work", entity=Entity("Item", "i-1"))])
    await clock.sleep(1)
    assert (await rows.get_projections([task_id]))[task_id].status is TaskStatus.EXECUTED
    await handler.close()


@pytest.mark.spec("ENT-09", "INV-07")
async def test_a_last_row_that_a_server_at_hand_did_not_take_comes_by_itself(clock: VirtualClock) -> None:
    """It waited in the outbox for the next row, which may never come."""
    faults, executors = Faults(plans.at(3, Fault.BEFORE)), TaskQueuesManager()
    rows = faults.backend(MemoryBackend(clock=clock)).projections

    @executors.executor("work")
    async def work(task: Task[Any], actions: Actions) -> None:
        actions.success(task)

    parts: Parts = {"queue": MemoryQueue(clock=clock), "store": MemoryStore(clock=clock), "projections": rows}
    handler = TaskHandler(executors=executors, clock=clock, **parts)
    await handler.start()
    [task_id] = await handler.add_tasks([Task(type="work", entity=Entity("Item", "i-1"))])
    await clock.sleep(5)
    assert faults.calls[:3] == ["projections.upsert_projections"] * 3, "scheduled, processing, executed"
    assert (await cast("ProjectionQuery", rows).get_projections([task_id]))[task_id].status is TaskStatus.EXECUTED
    assert (await handler.backend.store.stats())["outgoing"] == 0
    await handler.close()


@pytest.mark.spec("ENT-01", "INV-09")
@pytest.mark.parametrize("store", ["of a backend", "alone"])
async def test_without_a_provider_rows_are_kept_with_the_store_or_nowhere(clock: VirtualClock, store: str) -> None:
    """What nobody reads must not pile up in the outbox."""
    executors, kept = TaskQueuesManager(), MemoryBackend(clock=clock)

    @executors.executor("work")
    async def work(task: Task[Any], actions: Actions) -> None:
        actions.success(task)

    parts: Parts = {"store": kept.store if store == "of a backend" else MemoryStore(clock=clock)}
    handler = TaskHandler(queue=MemoryQueue(clock=clock), executors=executors, clock=clock, **parts)
    await handler.start()
    [task_id] = await handler.add_tasks([Task(type="work", entity=Entity("Item", "i-1"))])
    await clock.sleep(1)
    assert isinstance(kept.projections, MemoryProjections)
    rows = await kept.projections.get_projections([task_id])
    assert [row.status for row in rows.values()] == ([TaskStatus.EXECUTED] if store == "of a backend" else [])
    assert (await handler.backend.store.stats())["outgoing"] == 0
    await handler.close()


async def test_a_child_for_a_broker_that_nobody_named_is_a_dead_letter_that_says_so(clock: VirtualClock) -> None:
    executors = TaskQueuesManager()
    queue = RoutedQueue({"orders": MemoryQueue(clock=clock)})
    executors.queue("parcels")

    @executors.executor("order", queue="orders")
    async def order(task: Task[Any], actions: Actions) -> None:
        actions.add_tasks([Task(type="parcel", queue_id="parcels")])
        actions.success(task)

    handler = TaskHandler(queue=queue, store=MemoryStore(clock=clock), executors=executors, clock=clock)
    await handler.start()
    [task_id] = await handler.add_tasks([Task(type="order", queue_id="orders")])
    await clock.sleep(5)
    record = await handler.task(task_id).record()
    assert record is not None
    assert "no broker takes queue 'parcels'" in (record.error or "")
    await handler.close()


async def test_what_one_broker_has_runs_while_another_one_is_away(clock: VirtualClock) -> None:
    """Nor is a task of the one convicted of what the other did: nothing was handed out and forgotten."""
    executors, ran = TaskQueuesManager(), list[int]()
    gone, back = clock.now() + 1.0, clock.now() + 300.0
    away = Faults(lambda _: Fault.BEFORE if gone <= clock.now() < back else None)
    queue = RoutedQueue({"media": away.queue(MemoryQueue(clock=clock)), "*": MemoryQueue(clock=clock)})

    @executors.executor("work", max_crashes=0, store_on_success=True)
    async def work(task: Task[int], actions: Actions) -> None:
        ran.append(task.payload)
        await asyncio.sleep(60.0)
        actions.success(task)

    @executors.executor("film", queue="media", store_on_success=True)
    async def film(task: Task[int], actions: Actions) -> None:
        actions.success(task)

    store = MemoryStore(clock=clock)
    handler = TaskHandler(queue=queue, store=store, executors=executors, clock=clock, concurrency=4, lease=10.0)
    await handler.start()
    await clock.sleep(5)
    ids = await handler.add_tasks([Task(type="work", payload=number) for number in range(8)])
    await clock.sleep(250)
    assert list(await queue.parts[1].announced()) == ["default"]
    assert [record.status for record in (await store.records(ids)).values()] == [TaskStatus.EXECUTED] * 8
    assert ran == list(range(8))
    await clock.sleep(60)
    [later] = await handler.add_tasks([Task(type="film", queue_id="media", payload=1)])
    await clock.sleep(10)
    assert await handler.task(later).status() is TaskStatus.EXECUTED
    await handler.close()
