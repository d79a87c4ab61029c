"""What must be refused is refused at the door: the error names the field, the value and the way out (design 1.6)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, cast

import pytest
from pydantic import BaseModel, Field

from tq import Actions, Backoff, Entity, FlowStep, Join, Task, TaskQueuesManager
from tq.errors import AddTasksError, InvalidInputError, PayloadError
from tq.testing import VirtualClock
from tq.testing.harness import harness

NAN, INF = float("nan"), float("inf")
Call = Callable[[Task[Any], Any], object]


class Place(BaseModel):
    lat: float
    names: list[str] = Field(default_factory=list[str])
    extra: Any = None


def executors_of(call: Call | None = None) -> TaskQueuesManager:
    """Return executors of typed and untyped payloads, and one that makes a call through its actions."""
    executors = TaskQueuesManager()

    @executors.task("typed")
    async def typed(payload: Place) -> None: ...

    @executors.task("free")
    async def free(payload: Any) -> None: ...

    @executors.executor("join")
    async def join(task: Task[Any], actions: Actions) -> None:
        actions.success(task)

    @executors.executor("caller", store_on_success=True)
    async def caller(task: Task[Any], actions: Actions) -> None:
        if call is not None:
            call(task, actions)
        actions.success(task, "went on")

    return executors


def circular() -> Any:
    ring: dict[str, Any] = {}
    ring["ring"] = ring
    return ring


def deep() -> Any:
    value: Any = 1
    for _ in range(5_000):
        value = [value]
    return value


# --- payloads ---------------------------------------------------------------------------------------------------------

PAYLOADS: list[tuple[str, Any, str, str]] = [
    # type, payload, field that is named, words of the way out
    ("typed", {"lat": "far north"}, "payload.lat", "must fit Place"),
    ("typed", {}, "payload.lat", "must fit Place: Field required"),
    ("typed", None, "payload", "must fit Place"),
    ("typed", {"lat": 1, "names": ["a", 2]}, "payload.names[1]", "must fit Place"),
    ("typed", {"lat": NAN}, "payload.lat", "finite"),
    ("typed", Place(lat=INF), "payload.lat", "finite"),
    ("typed", {"lat": 1, "extra": {"deep": [1, -INF]}}, "payload.extra.deep[1]", "finite"),
    ("typed", Place(lat=1, extra=(NAN,)), "payload.extra[0]", "finite"),
    ("free", NAN, "payload", "finite"),
    ("free", [1, {"x": INF}], "payload[1].x", "finite"),
    ("free", {"model": Place(lat=NAN)}, "payload.model.lat", "finite"),
    ("free", [Place(lat=1, extra=NAN)], "payload[0].extra", "finite"),
    ("free", object(), "payload", "JSON"),
    ("free", {"f": print}, "payload", "JSON"),
    ("free", circular(), "payload", "JSON"),
    ("free", deep(), "payload", "JSON"),
    ("free", 2**70, "payload", "JSON"),
    ("free", "\ud800", "payload", "JSON"),
    ("free", b"\xff\xfe", "payload", "JSON"),
    ("free", "x" * (1024 * 1024 - 1), "payload", "at most 1,048,576 bytes"),
    ("typed", {"lat": 1, "extra": "x" * 1024 * 1024}, "payload", "reference to where the data lies"),
    ("unknown", {"x": NAN}, "payload.x", "finite"),
    ("unknown", "x" * 1024 * 1024, "payload", "at most 1,048,576 bytes"),
]


@pytest.mark.parametrize(("type", "payload", "field", "way_out"), PAYLOADS)
async def test_a_refused_payload_is_named_and_nothing_is_written(
    clock: VirtualClock, type: str, payload: Any, field: str, way_out: str
) -> None:
    async with harness(executors_of(), clock=clock) as h:
        with pytest.raises(PayloadError) as caught:
            await h.add(Task(type=type, payload=payload))
        assert caught.value.field == field
        assert way_out in str(caught.value)
        assert len(str(caught.value)) < 1_000
        await h.assert_quiet()


async def test_what_is_just_small_enough_passes(url: str, clock: VirtualClock) -> None:
    executors, seen = TaskQueuesManager(), list[int]()

    @executors.task("free")
    async def free(payload: str) -> None:
        seen.append(len(payload))

    async with harness(executors, url=url, clock=clock) as h:
        await h.run(free.task("x" * (1024 * 1024 - 2)))
        with pytest.raises(PayloadError, match=r"100,000,002 bytes of JSON"):
            await h.add(free.task("x" * 100_000_000))
    assert seen == [1024 * 1024 - 2]


async def test_a_producer_without_executors_checks_size_and_form(url: str, clock: VirtualClock) -> None:
    async with harness(TaskQueuesManager(), url=url, clock=clock) as h:
        await h.add(Task(type="anything", queue_id="anywhere", payload={"lat": "far north"}))
        for bad in (NAN, object(), "x" * 1024 * 1024):
            with pytest.raises(PayloadError, match="payload"):
                await h.add(Task(type="anything", payload=bad))


async def test_what_pydantic_can_write_is_a_payload(url: str, clock: VirtualClock) -> None:
    executors, seen = TaskQueuesManager(), list[Any]()

    @executors.task("free")
    async def free(payload: Any) -> None:
        seen.append(payload)

    async with harness(executors, url=url, clock=clock) as h:
        await h.run(free.task({"d": Decimal("1.50"), "t": (1, 2), "p": Place(lat=1), "s": timedelta(minutes=1)}))
    assert seen == [{"d": "1.50", "t": [1, 2], "p": {"lat": 1.0, "names": [], "extra": None}, "s": "PT1M"}]


# --- the other fields of a task ---------------------------------------------------------------------------------------

FIELDS: list[tuple[dict[str, Any], str, str]] = [
    ({"type": ""}, "type", "executor is registered"),
    ({"type": None}, "type", "executor is registered"),
    ({"type": "a\0b"}, "type", "no NUL"),
    ({"queue_id": ""}, "queue_id", "name of a queue"),
    ({"queue_id": "a\0b"}, "queue_id", "no NUL"),
    ({"queue_id": "nowhere"}, "queue_id", "known are: default"),
    ({"id": 5}, "id", "string of at most 200"),
    ({"id": "x" * 201}, "id", "string of at most 200"),
    ({"id": "\ud800"}, "id", "UTF-8"),
    ({"task_hash": "\ud800"}, "task_hash", "UTF-8"),
    ({"retries": -1}, "retries", "zero or more"),
    ({"retries": 1.0}, "retries", "whole number"),
    ({"retries": True}, "retries", "whole number"),
    ({"retry_after": -0.001}, "retry_after", "zero or more"),
    ({"retry_after": timedelta(seconds=-1)}, "retry_after", "zero or more"),
    ({"retry_after": NAN}, "retry_after", "finite"),
    ({"retry_after": "2"}, "retry_after", "seconds as a number"),
    ({"execute_at": datetime(2030, 1, 1)}, "execute_at", "aware datetime"),  # noqa: DTZ001 -- the point
    ({"expires_at": datetime(2030, 1, 1)}, "expires_at", "aware datetime"),  # noqa: DTZ001 -- the point
    ({"created_at": datetime(2030, 1, 1)}, "created_at", "aware datetime"),  # noqa: DTZ001 -- the point
    ({"execute_at": 1_900_000_000}, "execute_at", "aware datetime"),
    ({"force_store": "yes"}, "force_store", "True or False"),
    ({"partition_key": 5}, "partition_key", "string"),
    ({"task_group": 5}, "task_group", "string"),
    ({"entity": "item-1"}, "entity", "Entity(type, id)"),
    ({"metadata": "m"}, "metadata", "mapping"),
    ({"metadata": {"x": NAN}}, "metadata.x", "finite"),
    ({"metadata": {"x": object()}}, "metadata", "JSON"),
    ({"metadata": {"x": "x" * 300_000}}, "metadata", "at most 262,144 bytes"),
    ({"metadata": {"flow_meta": {"flow_id": "f", "step_index": 0}}}, "metadata.flow_meta", "tq writes it"),
    ({"metadata": {"log_context": "tenant"}}, "metadata.log_context", "mapping of strings to strings"),
    ({"metadata": {"log_context": {"n": 1}}}, "metadata.log_context['n']", "str(value)"),
    ({"execution_stats": {"x": NAN}}, "execution_stats.x", "finite"),
    ({"execution_stats": [1]}, "execution_stats", "mapping"),
]


@pytest.mark.parametrize(("fields", "name", "way_out"), FIELDS)
async def test_a_refused_field_is_named(clock: VirtualClock, fields: dict[str, Any], name: str, way_out: str) -> None:
    arguments: dict[str, Any] = {"type": "free", **fields}
    async with harness(executors_of(), clock=clock) as h:
        with pytest.raises(InvalidInputError) as caught:
            await h.add(Task(**arguments))
        assert caught.value.field == name
        assert way_out in str(caught.value)
        await h.assert_quiet()


@pytest.mark.parametrize(("type", "id"), [("", "1"), ("Item", ""), ("Item", None), (5, "1")])
def test_an_entity_has_a_type_and_an_id(type: Any, id: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"entity\.(type|id).*not empty"):
        Entity(type, id)


@pytest.mark.parametrize("make", [FlowStep, Join])
def test_no_step_and_no_join_has_a_name_that_a_database_cannot_hold(make: Callable[..., object]) -> None:
    for arguments, name in ((("a\0b",), "type"), (("a", "b\0"), "queue")):
        with pytest.raises(InvalidInputError, match=rf"\.{name} is refused.*no NUL"):
            make(arguments[0], **dict(zip(["queue"], arguments[1:], strict=False)))


@pytest.mark.parametrize("tasks", [None, 5, "work", {"type": "free"}, Task(type="free")])
async def test_tasks_come_in_a_list(clock: VirtualClock, tasks: Any) -> None:
    async with harness(executors_of(), clock=clock) as h:
        with pytest.raises(InvalidInputError, match=r"tasks is refused.*give a list of tasks"):
            await h.handler.add_tasks(tasks)


async def test_of_several_refused_tasks_each_is_named(clock: VirtualClock) -> None:
    wrong: Any = "no task"
    async with harness(executors_of(), clock=clock) as h:
        with pytest.raises(AddTasksError, match="3 tasks were not accepted, 0 were") as caught:
            await h.add(Task(type="typed", id="a"), Task(type="free"), wrong, Task(type="free", payload=NAN))
        assert set(caught.value.failed) == {"a", "tasks[2]", "tasks[3]"}
        assert all(isinstance(error, InvalidInputError) for error in caught.value.failed.values())
        await h.assert_quiet()


@pytest.mark.spec("LOG-10", "LOG-11", "LOG-12", "ADD-15")
async def test_a_log_context_over_its_limits_is_cut_or_dropped_with_a_warning(
    url: str, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    executors, seen = TaskQueuesManager(), dict[str, Any]()

    @executors.executor("work")
    async def work(task: Task[Any], actions: Actions) -> None:
        seen[task.id] = dict(task.metadata)
        actions.success(task)

    keys = {f"k{number:02}": "v" for number in range(12)}
    contexts = {"fits": {"a": "b"}, "many": keys, "large": {"a": "x" * 1100}}
    async with harness(executors, url=url, clock=clock) as h:
        with caplog.at_level(logging.WARNING):
            await h.run(
                *[work.task(None, id=id, metadata={"log_context": dict(c)}) for id, c in contexts.items()],
                work.task(None, id="both", metadata={"log_context": {"a": "x" * 1100}, "mine": 1}),
            )
    assert seen["fits"] == {"log_context": {"a": "b"}}
    assert sorted(seen["many"]["log_context"]) == sorted(keys)[:10]
    assert (seen["large"], seen["both"]) == ({}, {"mine": 1})
    assert caplog.text.count("log_context") == 3
    assert "task many" in caplog.text


# --- flows ------------------------------------------------------------------------------------------------------------

STEP, JOIN = FlowStep("free"), Join("join")
FLOWS: list[tuple[dict[str, Any], str, str]] = [
    ({"steps": STEP}, "steps", "list of FlowStep"),
    ({"steps": None}, "steps", "list of FlowStep"),
    ({"steps": ["free"]}, "steps[0]", "FlowStep"),
    ({"steps": [STEP, FlowStep("free", queue="nowhere")]}, "steps[1].queue", "known are: default"),
    ({"steps": [STEP, FlowStep("typed", payload={"lat": "x"})]}, "steps[1].payload.lat", "must fit Place"),
    ({"steps": [FlowStep("free", payload=NAN)]}, "steps[0].payload", "finite"),
    ({"join": "join"}, "join", 'Join("the.type")'),
    ({"join": None}, "join", 'Join("the.type")'),
    ({"join": Join("join", queue="nowhere")}, "join.queue", "known are: default"),
    ({"failure_policy": "maybe"}, "failure_policy", '"continue", "abort"'),
    ({"timeout": 0}, "timeout", "more than zero"),
    ({"timeout": -1}, "timeout", "more than zero"),
    ({"timeout": timedelta(0)}, "timeout", "more than zero"),
    ({"timeout": INF}, "timeout", "finite"),
    ({"tolerate": -1}, "tolerate", "zero or more"),
    ({"tolerate": 1.5}, "tolerate", "share between"),
    ({"quorum": 0}, "quorum", "from 1 to 1"),
    ({"quorum": 2}, "quorum", "from 1 to 1"),
    ({"tolerate": 1, "quorum": 1}, "quorum", "not both"),
    ({"entity": "item-1"}, "entity", "Entity(type, id)"),
]


@pytest.mark.parametrize(("given", "name", "way_out"), FLOWS)
async def test_a_refused_flow_is_not_started(
    clock: VirtualClock, given: dict[str, Any], name: str, way_out: str
) -> None:
    arguments: dict[str, Any] = {"steps": [STEP], "join": JOIN, **given}

    def call(task: Task[Any], actions: Any) -> None:
        with pytest.raises(InvalidInputError) as caught:
            actions.start_flow(**arguments)
        assert (caught.value.field, way_out in str(caught.value)) == (name, True)

    async with harness(executors_of(call), clock=clock) as h:
        with pytest.raises(InvalidInputError) as caught:
            await h.handler.start_flow(**arguments)
        assert (caught.value.field, way_out in str(caught.value)) == (name, True)
        [task_id] = await h.run(Task(type="caller"))
        await h.assert_succeeded(task_id, "went on")
        assert await h.flows() == []
        await h.assert_quiet()


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"retries": -1}, "step.retries"),
        ({"retries": True}, "step.retries"),
        ({"retry_after": -5}, "step.retry_after"),
        ({"retry_after": NAN}, "step.retry_after"),
        ({"partition_key": 3}, "step.partition_key"),
        ({"entity": "item-1"}, "step.entity"),
    ],
)
def test_a_step_is_refused_as_it_is_made(given: dict[str, Any], name: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        FlowStep("free", **given)
    assert caught.value.field == name


@pytest.mark.spec("LOG-10", "LOG-11")
async def test_the_log_context_of_a_flow_has_the_limits_of_any_other(
    url: str, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    executors, seen = TaskQueuesManager(), list[dict[str, str]]()

    @executors.executor("work")
    async def work(task: Task[Any], actions: Actions) -> None:
        seen.append(dict(task.log_context))
        actions.success(task)

    keys = {f"k{number:02}": "v" for number in range(12)}
    async with harness(executors, url=url, clock=clock) as h:
        for given in ({"a": "b"}, keys, {"a": "x" * 1100}):
            await h.handler.start_flow([], join=Join("work"), log_context=given)
        for wrong, name in ((5, "log_context"), ("ab", "log_context"), ({"a": 1}, "log_context['a']")):
            with pytest.raises(InvalidInputError) as caught:
                await h.handler.start_flow([], join=Join("work"), log_context=cast("Any", wrong))
            assert caught.value.field == name
        await h.drain()
    assert sorted(len(context) for context in seen) == [0, 1, 10]
    assert caplog.text.count("log_context") == 2


async def test_a_step_waits_for_its_retry_as_long_as_it_says(url: str, clock: VirtualClock) -> None:
    executors, began = TaskQueuesManager(), list[float]()

    @executors.task("work", retries=1, backoff=Backoff(jitter=0.0))
    async def work() -> None:
        began.append(clock.now())
        raise ValueError("not yet")

    @executors.task("join")
    async def join() -> None: ...

    async with harness(executors, url=url, clock=clock) as h:
        step = FlowStep("work", retry_after=timedelta(seconds=40))
        await h.handler.start_flow([step], join=Join("join"))
        await h.drain()
        await h.later(39)
        assert len(began) == 1
        await h.later(2)
        assert len(began) == 2
