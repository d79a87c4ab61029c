"""What an executor is given is what the producer gave, wherever it waited meanwhile."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel

from tq import Actions, Entity, FlowStep, Join, Task, TaskQueuesManager
from tq.clock import to_datetime
from tq.testing import VirtualClock
from tq.testing.harness import harness

ABSENT = [
    "payload",
    "execute_at",
    "expires_at",
    "retries",
    "retry_after",
    "partition_key",
    "task_group",
    "task_hash",
    "entity",
]
GIVEN = [*ABSENT, "type", "queue_id", "id", "force_store", "metadata", "created_at", "execution_stats"]


class Order(BaseModel):
    number: int
    customer: str = "nobody"


@pytest.mark.spec("STO-01", "MOD-01", "MOD-03", "MOD-04", "ADD-08")
@pytest.mark.parametrize("delay", [0.0, 600.0])
async def test_every_field_arrives_as_it_was_given(url: str, clock: VirtualClock, delay: float) -> None:
    executors, seen = TaskQueuesManager(), list[Task[Any]]()

    @executors.executor("work", queue="q")
    async def work(task: Task[Any], actions: Actions) -> None:
        seen.append(task)
        actions.success(task)

    due = to_datetime(clock.now() + delay)
    given = Task[Any](
        type="work",
        queue_id="q",
        id="t-1",
        payload={"nested": {"list": [1, 2.5, None, "ü"]}},
        execute_at=due,
        expires_at=to_datetime(clock.now() + 9000),
        retries=7,
        retry_after=1.5,
        force_store=True,
        partition_key="p",
        task_group="g",
        task_hash="h",
        entity=Entity("Item", "item-1"),
        metadata={"log_context": {"tenant": "t"}, "own": {"x": [1]}},
        created_at=datetime(2001, 2, 3, 4, 5, 6, 789, tzinfo=UTC),
        execution_stats={"imported_from": "elsewhere"},
    )
    async with harness(executors, url=url, clock=clock) as h:
        await h.add(given)
        await h.later(delay)
    [task] = seen
    for name in GIVEN:
        assert getattr(task, name) == getattr(given, name), name


@pytest.mark.spec("STO-01", "STO-02", "MOD-01", "ADD-07")
async def test_what_was_absent_stays_absent_but_for_id_and_birth(url: str, clock: VirtualClock) -> None:
    executors, seen = TaskQueuesManager(), list[Task[Any]]()

    @executors.executor("work")
    async def work(task: Task[Any], actions: Actions) -> None:
        seen.append(task)
        actions.success(task)

    async with harness(executors, url=url, clock=clock) as h:
        born = to_datetime(clock.now())
        [task_id] = await h.add(Task(type="work"))
        await h.later(5)
    [task] = seen
    assert (task.id, task.created_at) == (task_id, born)
    assert (task.attempt, task.generation, task.fence) == (0, 0, 1)
    assert {name: getattr(task, name) for name in ABSENT} == dict.fromkeys(ABSENT)
    assert (task.force_store, dict(task.metadata), dict(task.execution_stats)) == (False, {}, {})


@pytest.mark.spec("D-16", "RET-05")
async def test_a_delayed_task_without_retries_has_its_executors(url: str, clock: VirtualClock) -> None:
    executors, attempts = TaskQueuesManager(), list[int]()

    @executors.executor("work", retries=2)
    async def work(task: Task[Any], actions: Actions) -> None:
        attempts.append(task.attempt)
        assert task.retries is None
        actions.fail(task, "no")

    async with harness(executors, url=url, clock=clock) as h:
        await h.add(Task(type="work", execute_at=to_datetime(clock.now() + 600)))
        await h.handler.start()
        await clock.sleep(700)
    assert attempts == [0, 1, 2]


@pytest.mark.spec("MQ-01")
async def test_tasks_arrive_in_the_order_in_which_they_were_added(url: str, clock: VirtualClock) -> None:
    executors, seen = TaskQueuesManager(), list[object]()

    @executors.task("work", concurrency=1)
    async def work(payload: dict[str, int]) -> None:
        seen.append(payload["n"])

    async with harness(executors, url=url, clock=clock) as h:
        for start in range(0, 30, 10):
            await h.add(*[work.task({"n": number}) for number in range(start, start + 10)])
        await h.drain()
    assert seen == list(range(30))


# --- partition keys ---------------------------------------------------------------------------------------------------


class Keyed:
    """An executor class that chooses partition keys, as the seeds write it."""

    def __init__(self, seen: list[Task[Any]]) -> None:
        self.seen = seen

    def get_partition_key(self, task: Task[Order]) -> str | None:
        return None if task.payload.customer == "nobody" else f"{task.type}/{task.payload.customer}"

    async def on_task(self, task: Task[Order], actions: Actions) -> None:
        self.seen.append(task)
        actions.success(task)


@pytest.mark.spec("ADD-07", "D-64")
async def test_the_executor_chooses_the_partition_key_on_every_route(url: str, clock: VirtualClock) -> None:
    executors, seen, derived = TaskQueuesManager(), list[Task[Any]](), list[str]()
    executors.register("class", Keyed(seen))

    @executors.executor("function", partition_key=lambda order: order.customer)
    async def function(task: Task[Order], actions: Actions) -> None:
        seen.append(task)
        actions.success(task)

    @executors.executor("parent")
    async def parent(task: Task[Any], actions: Actions) -> None:
        children = [{"number": 1, "customer": "kid"}, {"number": 2, "customer": "tot"}]
        actions.add_tasks([Task(type="function", id="child", payload=children[0])])
        derived.extend(actions.add_tasks([Task(type="function", payload=children[1])]))
        actions.success(task)

    @executors.executor("join")
    async def join(task: Task[Any], actions: Actions) -> None:
        actions.success(task)

    ann = {"number": 1, "customer": "ann"}
    async with harness(executors, url=url, clock=clock) as h:
        await h.add(
            Task(type="class", id="now", payload=ann, partition_key="given"),
            Task(type="class", id="none", payload={"number": 1}, partition_key="given"),
            Task(type="class", id="bare", payload={"number": 1}),
            Task(type="function", id="stored", payload=Order(number=1, customer="bob"), force_store=True),
            Task(type="function", id="later", payload=ann, execute_at=to_datetime(clock.now() + 600)),
            Task(type="parent"),
        )
        flow = await h.handler.start_flow(
            [FlowStep("class", payload=ann), FlowStep("function", payload={"number": 2, "customer": "eve"})],
            join=Join("join"),
        )
        await h.later(600)
    assert {task.id: task.partition_key for task in seen} == {
        "now": "class/ann",
        "none": "given",
        "bare": None,
        "stored": "bob",
        "later": "ann",
        "child": "kid",
        derived[0]: "tot",
        f"{flow}.0": "class/ann",
        f"{flow}.1": "eve",
    }
