"""What actions, handlers and settings refuse, and that whoever is refused goes on as before."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tq import Actions, AsyncTaskManager, FlowStep, Join, Task, TaskHandler, TaskQueuesManager, TaskStatus, connect
from tq.clock import to_datetime
from tq.errors import ConfigurationError, InvalidInputError, MissingPortError
from tq.memory import MemoryQueue, MemoryStore
from tq.testing import VirtualClock
from tq.testing.harness import harness

Call = Callable[[Task[Any], Any], object]
NAN, INF = float("nan"), float("inf")


class Stage:
    """An executor that makes a call through its actions and then succeeds."""

    def __init__(self, call: Call) -> None:
        self.executors = TaskQueuesManager()
        self.children: list[object] = []

        @self.executors.executor("caller", store_on_success=True, retries=1)
        async def caller(task: Task[Any], actions: Actions) -> None:
            call(task, actions)
            actions.success(task, "went on")

        @self.executors.task("child")
        async def child(payload: Any) -> None:
            self.children.append(payload)


def child(payload: object = None, **fields: Any) -> Task[Any]:
    return Task(type="child", payload=payload, **fields)


CALLS: list[tuple[Call, str]] = [
    (lambda task, actions: actions.add_tasks(child()), "tasks is refused.*give a list"),
    (lambda task, actions: actions.add_tasks(None), "tasks is refused.*give a list"),
    (lambda task, actions: actions.add_tasks(["child"]), "give Tasks"),
    (lambda task, actions: actions.add_tasks([child(queue_id="nowhere")]), "queue_id is refused.*declare it"),
    (lambda task, actions: actions.add_tasks([child(NAN)]), "payload is refused.*finite"),
    (lambda task, actions: actions.add_tasks([task]), "id is refused.*reschedule"),
    (lambda task, actions: actions.reschedule(-1), "delay is refused.*zero or more"),
    (lambda task, actions: actions.reschedule(INF), "delay is refused.*finite"),
    (lambda task, actions: actions.reschedule("soon"), "delay is refused.*number"),
    (lambda task, actions: actions.success_when("nobody's"), "flow_id is refused.*start the flow"),
    (lambda task, actions: actions.success(child(id="x")), "task is refused.*of this execution"),
    (lambda task, actions: actions.fail(task, "x", ["no", "mapping"]), "meta is refused.*mapping"),
    (lambda task, actions: actions.fail(task, "x", {"n": NAN}), "meta.n is refused.*finite"),
    (lambda task, actions: actions.fail(task, "x", {"n": object()}), "meta is refused.*JSON"),
    (lambda task, actions: actions.start_flow(FlowStep("child"), join=Join("child")), "steps is refused.*list"),
]


@pytest.mark.parametrize(("call", "words"), CALLS)
async def test_a_refused_call_says_why_and_changes_nothing(
    clock: VirtualClock, call: Call, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(task: Task[Any], actions: Actions) -> None:
        with pytest.raises(InvalidInputError, match=words):
            call(task, actions)

    stage = Stage(refused)
    async with harness(stage.executors, clock=clock) as h:
        [task_id] = await h.run(Task(type="caller"))
        await h.assert_succeeded(task_id, "went on")
        assert stage.children == []
        await h.assert_quiet()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_the_details_of_a_failure_may_be_anything_that_pydantic_can_write(url: str, clock: VirtualClock) -> None:
    def fails(task: Task[Any], actions: Actions) -> None:
        actions.fail(task, "no", {"when": to_datetime(0), "tags": {"one"}, "pair": (1, 2)})

    async with harness(Stage(fails).executors, url=url, clock=clock) as h:
        [task_id] = await h.run(Task(type="caller"))
        assert await h.handler.task(task_id).status() is TaskStatus.SCHEDULED, "it is retried like any other"
        await h.later(3)
        stats = await h.stats(task_id)
    assert (stats["when"], stats["tags"], stats["pair"]) == ("1970-01-01T00:00:00Z", ["one"], [1, 2])


@pytest.mark.spec("D-49")
async def test_a_flow_needs_a_barrier_in_the_handler_and_in_executors(clock: VirtualClock) -> None:
    def starts(task: Task[Any], actions: Actions) -> None:
        with pytest.raises(MissingPortError, match="barrier="):
            actions.start_flow([FlowStep("child")], join=Join("child"))

    queue, store = MemoryQueue(clock=clock), MemoryStore(clock=clock)
    handler = TaskHandler(queue=queue, store=store, executors=Stage(starts).executors, clock=clock)
    with pytest.raises(MissingPortError, match="barrier="):
        await handler.start_flow([FlowStep("child")], join=Join("child"))
    [task_id] = await handler.add_tasks([Task(type="caller")])
    await handler.drain()
    assert await handler.task(task_id).result() == "went on"
    await handler.close()


async def test_a_join_nobody_here_runs_is_warned_of_at_once(
    url: str, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It is no error: another worker may know it, or one that is deployed next."""
    stage = Stage(lambda task, actions: None)
    async with harness(stage.executors, url=url, clock=clock) as h:
        with caplog.at_level(logging.WARNING):
            flow = await h.handler.start_flow([FlowStep("child")], join=Join("misspelt"))
        assert "no executor is registered here for the join 'misspelt'" in caplog.text
        await h.drain()
        assert (await h.handler.flow(flow).status()).verdict == "completed"
        join = await h.handler.flow(flow).join()
        assert await join.status() is TaskStatus.SCHEDULED, "it waits for a worker that knows it"

        @stage.executors.executor("misspelt", store_on_success=True)
        async def now_known(task: Task[Any], actions: Actions) -> None:
            actions.success(task)

        await h.later(10)
        assert await join.status() is TaskStatus.EXECUTED


# --- the handler ------------------------------------------------------------------------------------------------------

OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"concurrency": 0}, "concurrency is refused: got 0; give a whole number, 1 or more"),
    ({"concurrency": True}, "concurrency is refused: got True"),
    ({"concurrency": 2.5}, "concurrency is refused: got 2.5"),
    ({"thread_count": 0}, "thread_count is refused: got 0"),
    ({"lease": 0}, "lease is refused: got 0; give a finite number of seconds, more than zero"),
    ({"lease": -1}, "lease is refused: got -1"),
    ({"lease": NAN}, "lease is refused: got nan"),
    ({"lease": "30"}, "lease is refused: got '30'; give seconds as a number, or a timedelta"),
    ({"lease": None}, "lease is refused: got None"),
    ({"stall_limit": 0}, "stall_limit is refused: got 0"),
    ({"unknown_grace": timedelta(0)}, "unknown_grace is refused: got datetime.timedelta(0)"),
    ({"grace_period": -1}, "grace_period is refused: got -1; give a finite number of seconds, zero or more"),
    ({"heartbeat_interval": 0}, "heartbeat_interval is refused: got 0"),
    ({"remember": -1}, "remember is refused: got -1"),
    ({"lifecycle_mode": "later"}, 'lifecycle_mode is refused: got \'later\'; give "async" or "sync"'),
    ({"lifespan": 5}, "lifespan is refused: got 5; give a function"),
    ({"executors": {"work": print}}, "executors is refused"),
    ({"queues": "default"}, "queues is refused: got 'default'; give a list"),
    ({"retries": 3}, "TaskHandler takes no retries=…"),
]


@pytest.mark.parametrize(("options", "words"), OPTIONS)
def test_a_refused_setting_names_value_and_way_out(clock: VirtualClock, options: dict[str, Any], words: str) -> None:
    arguments: dict[str, Any] = {"executors": TaskQueuesManager(), "clock": clock, **options}
    with pytest.raises((InvalidInputError, ConfigurationError)) as caught:
        TaskHandler.connect("memory://", **arguments)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [{"max_tasks": -1}, {"max_tasks": True}, {"default_max_duration": -1}, {"shutdown_grace_period": NAN}],
)
def test_the_managers_settings_are_checked_too(clock: VirtualClock, options: dict[str, Any]) -> None:
    [(name, value)] = options.items()
    with pytest.raises(InvalidInputError, match=rf"{name} is refused: got {value}"):
        AsyncTaskManager(clock=clock, **options)


@pytest.mark.parametrize("url", ["", "memory", "tq.db", "://x", "memory://some/name", None, 5])
def test_what_is_no_url_is_refused(url: Any) -> None:
    with pytest.raises(InvalidInputError, match="url is refused"):
        connect(url)


def test_a_url_that_no_adapter_takes_names_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match=r"no adapter takes carrier-pigeon://.*memory.*sqlite"):
        connect("carrier-pigeon://coop")
    with pytest.raises(ConfigurationError, match=r"takes no such option.*speed"):
        connect("memory://", speed=3)


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "10", None])
async def test_a_batch_has_at_least_one_task(clock: VirtualClock, limit: Any) -> None:
    async with harness(Stage(lambda task, actions: None).executors, clock=clock) as h:
        with pytest.raises(InvalidInputError, match=r"limit is refused.*1 or more"):
            await h.handler.process_batch("default", limit)
        with pytest.raises(InvalidInputError, match=r"limit is refused.*1 or more"):
            await h.handler.dead.replay(limit=limit)
        with pytest.raises(InvalidInputError, match=r"limit is refused.*1 or more"):
            await h.handler.dead.list(limit=limit)


async def test_what_runs_by_itself_is_not_run_by_hand_too(url: str, clock: VirtualClock) -> None:
    async with harness(Stage(lambda task, actions: None).executors, url=url, clock=clock) as h:
        await h.handler.start()
        with pytest.raises(ConfigurationError, match="runs already"):
            await h.handler.drain()
        with pytest.raises(ConfigurationError, match="runs already"):
            await h.handler.process_batch("default")


@pytest.mark.spec("MQ-03")
async def test_an_unknown_queue_is_refused_wherever_it_is_named(url: str, clock: VirtualClock) -> None:
    stage = Stage(lambda task, actions: None)
    stage.executors.queue("far")
    async with harness(stage.executors, url=url, clock=clock) as h:
        with pytest.raises(InvalidInputError, match=r"queue_id is refused: got 'nowhere'.*known are: default, far"):
            await h.add(Task(type="child", queue_id="nowhere"))
        with pytest.raises(InvalidInputError, match=r"queue is refused: got 'nowhere'"):
            await h.handler.process_batch("nowhere")
        assert len(await h.add(Task(type="anything", queue_id="far"))) == 1, "declared is known"


@pytest.mark.spec("MQ-03")
async def test_a_queue_that_a_live_worker_announces_is_known_to_every_producer(url: str, clock: VirtualClock) -> None:
    executors = TaskQueuesManager()

    @executors.task("work", queue="far")
    async def work(payload: None) -> None: ...

    here = TaskQueuesManager()
    here.queue("here")
    backend = connect(url, clock=clock)
    parts: dict[str, Any] = {"queue": backend.queue, "store": backend.store, "barrier": backend.barrier, "clock": clock}
    worker, producer = TaskHandler(**parts, executors=executors), TaskHandler(**parts, executors=here)
    with pytest.raises(InvalidInputError, match=r"queue_id is refused.*known are: here"):
        await producer.add_tasks([Task(type="work", queue_id="far")])
    await worker.start()
    await producer.add_tasks([Task(type="work", queue_id="far")])
    await worker.close()
    await backend.close()
