"""How executors are registered, found, and refused when they could not be called."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import BaseModel

from tq import Actions, Backoff, Task, TaskHandler, TaskQueuesManager
from tq.errors import ConfigurationError, MissingPortError, RegistrationError
from tq.memory import MemoryQueue, MemoryStore
from tq.testing import Probe, VirtualClock
from tq.testing.harness import harness


class Single:
    async def on_task(self, task: Task[Any], actions: Actions) -> None:
        actions.success(task)


class Parcel(BaseModel):
    weight: float


async def quiet(payload: None) -> None: ...


async def yields(payload: None) -> Any:
    yield payload


def yields_in_a_thread(payload: None) -> Any:
    yield payload


class Groups:
    async def on_tasks(self, tasks: Sequence[Task[Any]], actions: Actions) -> None: ...


@pytest.mark.parametrize("function", [yields, yields_in_a_thread])
def test_a_body_that_yields_is_refused_for_nobody_would_run_it(function: Any) -> None:
    with pytest.raises(RegistrationError, match="executor 'work' on queue 'default': it yields"):
        TaskQueuesManager().task("work")(function)


def test_groups_are_for_objects_and_one_at_a_time_or_so_many() -> None:
    with pytest.raises(RegistrationError, match="multiple is for objects with on_tasks"):
        TaskQueuesManager().task("work", multiple=True)(quiet)
    with pytest.raises(RegistrationError, match="give multiple or parallel"):
        TaskQueuesManager().register("work", Groups(), parallel=True)


# --- the registry -----------------------------------------------------------------------------------------------------


@pytest.mark.spec("MGR-01", "MGR-02", "MGR-03", "MQ-03")
def test_executors_are_found_by_queue_and_type() -> None:
    executors = TaskQueuesManager()
    executors.register("a", Single(), queue="q")
    executors.register("b", Single(), queue="q")
    executors.task("a")(quiet)
    executors.queue("far")
    found = executors.get_executor("q", "a")
    assert found is not None
    assert (found.queue, found.type) == ("q", "a")
    assert executors.get_executor("default", "a") is not found
    assert executors.get_executor("q", "c") is None
    assert executors.get_executor("nowhere", "a") is None
    assert executors.get_queues() == ["q", "default", "far"]
    assert executors.served_queues() == ["q", "default"]
    assert executors.get_task_types_for_queue("q") == ["a", "b"]
    assert executors.get_task_types_for_queue("far") == []
    assert executors.get_task_types_for_queue("nowhere") == []


@pytest.mark.spec("MGR-03")
async def test_registering_a_pair_again_replaces_the_executor(url: str, clock: VirtualClock) -> None:
    executors, ran = TaskQueuesManager(), list[str]()

    @executors.task("work", retries=1)
    async def first(payload: None) -> None:
        ran.append("first")

    @executors.task("work", retries=1)
    async def second(payload: None) -> None:
        ran.append("second")

    executors.register("class", Single())
    executors.register("class", Single())
    async with harness(executors, url=url, clock=clock) as h:
        await h.run(Task(type="work"))
    assert ran == ["second"]


@pytest.mark.spec("MGR-03")
def test_registering_a_pair_again_with_other_options_is_refused() -> None:
    executors = TaskQueuesManager()
    executors.task("work", retries=1)(quiet)
    with pytest.raises(RegistrationError, match=r"'work' on queue 'default'.*retries was 1, is 2"):
        executors.task("work", retries=2)(quiet)


@pytest.mark.spec("MGR-04")
async def test_two_applications_in_one_process_know_nothing_of_each_other(url: str, clock: VirtualClock) -> None:
    one, other, ran = TaskQueuesManager(), TaskQueuesManager(), list[str]()

    @one.task("work")
    async def work_of_one(payload: None) -> None:
        ran.append("one")

    @other.task("work")
    async def work_of_other(payload: None) -> None:
        ran.append("other")

    async with harness(one, url=url, clock=clock) as first, harness(other, url=url, clock=clock) as second:
        await first.run(Task(type="work"))
        await second.drain()
        assert ran == ["one"]
        await second.run(Task(type="work"))
        assert ran == ["one", "other"]


# --- classes ----------------------------------------------------------------------------------------------------------


class Configured:
    """Carries its options as attributes, as in the seeds."""

    default_retries = 4
    store_on_failure = False
    parallel = True
    chunk_size = 3
    timeout = 9

    async def on_task(self, task: Task[Parcel], actions: Actions) -> None:
        actions.success(task)


class Group:
    async def on_tasks(self, tasks: Sequence[Task[Parcel]], actions: Actions) -> None:
        for task in tasks:
            actions.success(task)


def test_classes_carry_options_as_attributes_and_arguments_win() -> None:
    executors = TaskQueuesManager()
    executors.register("a", Configured(), timeout=5)
    found = executors.get_executor("default", "a")
    assert found is not None
    options = found.options
    assert (options.retries, options.store_on_failure, options.parallel, options.chunk_size) == (4, False, True, 3)
    assert options.timeout == 5
    assert (found.limit, found.signature.payload) == (3, Parcel)


def test_a_class_with_on_tasks_takes_groups() -> None:
    executors = TaskQueuesManager()
    executors.register("a", Group(), chunk_size=7)
    found = executors.get_executor("default", "a")
    assert found is not None
    assert (found.options.multiple, found.options.chunk_size, found.limit) == (True, 7, 1)
    assert found.signature.payload is Parcel


class Neither: ...


class NoActions:
    async def on_task(self, task: Task[Any]) -> None: ...


@pytest.mark.parametrize(
    ("executor", "options", "words"),
    [
        (Neither(), {}, "no on_tasks method"),
        (Single(), {"multiple": True}, "no on_tasks method"),
        (Group(), {"multiple": False}, "no on_task method"),
        (NoActions(), {}, r"must take \(task, actions\)"),
    ],
)
def test_a_class_that_could_not_be_called_is_refused(executor: object, options: dict[str, Any], words: str) -> None:
    with pytest.raises(RegistrationError, match=rf"'a' on queue 'q'.*{words}"):
        TaskQueuesManager().register("a", executor, queue="q", **options)


# --- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.spec("D-83")
@pytest.mark.parametrize(
    ("option", "value", "way_out"),
    [
        ("retries", -1, "0 or more"),
        ("retries", 1.5, "whole number"),
        ("retries", True, "whole number"),
        ("max_crashes", -1, "0 or more"),
        ("concurrency", 0, "1 or more"),
        ("chunk_size", 0, "1 or more"),
        ("chunk_size", -5, "1 or more"),
        ("max_concurrent_async", 0, "1 or more"),
        ("timeout", 0, "more than zero"),
        ("timeout", -1, "more than zero"),
        ("timeout", float("nan"), "finite"),
        ("timeout", "5", "seconds as a number"),
        ("handoff_timeout", 0, "more than zero"),
        ("max_duration", float("inf"), "finite"),
        ("cancel_grace", -0.1, "zero or more"),
        ("result_ttl", -1, "zero or more"),
        ("backoff", -2, "zero or more"),
        ("backoff", "often", "Backoff"),
        ("backoff", None, "Backoff"),
        ("retries", None, "0 or more"),
        ("max_crashes", None, "0 or more"),
        ("chunk_size", None, "1 or more"),
        ("store_on_failure", 1, "True or False"),
        ("store_on_success", "yes", "True or False"),
        ("parallel", 2, "True or False"),
        ("partition_key", "customer", "function of the payload"),
    ],
)
def test_a_refused_option_names_executor_option_value_and_way_out(option: str, value: object, way_out: str) -> None:
    options: dict[str, Any] = {option: value}
    with pytest.raises(RegistrationError) as caught:
        TaskQueuesManager().task("work", queue="q", **options)(quiet)
    text = str(caught.value)
    for part in ("'work' on queue 'q'", option, repr(value), way_out):
        assert part in text


def test_an_unknown_option_is_refused_and_the_known_ones_are_listed() -> None:
    wrong: dict[str, Any] = {"retry": 3}
    with pytest.raises(RegistrationError, match=r"unknown option 'retry'.*retries"):
        TaskQueuesManager().task("work", **wrong)(quiet)


def test_a_backoff_that_could_go_back_in_time_is_refused() -> None:
    for wrong in ({"base": -1}, {"cap": -1}, {"jitter": 1}, {"jitter": -0.5}):
        with pytest.raises(ValueError, match="backoff"):
            Backoff(**wrong)


async def test_a_payload_that_is_not_given_is_the_function_s_default(url: str, clock: VirtualClock) -> None:
    executors, seen = TaskQueuesManager(), list[Any]()

    @executors.task("count")
    async def count(upto: int = 3) -> None:
        seen.append(upto)

    @executors.task("maybe")
    async def maybe(name: str | None = "nobody") -> None:
        seen.append(name)

    async with harness(executors, url=url, clock=clock) as h:
        await h.run(count.task(), count.task(5, id="c-5"), maybe.task(), maybe.task(None))
    assert sorted(map(str, seen)) == ["3", "5", "None", "nobody"]
    await count()
    assert seen[-1] == 3


@pytest.mark.parametrize("name", ["", None, 5, "a\0b"])
def test_names_of_queues_and_types_are_names(name: Any) -> None:
    executors = TaskQueuesManager()
    with pytest.raises(RegistrationError, match="queue"):
        executors.queue(name)
    with pytest.raises(RegistrationError, match="type"):
        executors.task(name)(quiet)
    with pytest.raises(RegistrationError, match="queue"):
        executors.task("work", queue=name)(quiet)
    assert executors.get_queues() == [] or name not in executors.get_queues()


# --- signatures that cannot be called ---------------------------------------------------------------------------------


def test_a_function_that_could_not_be_called_is_refused_by_the_name_of_its_argument() -> None:
    executors = TaskQueuesManager()

    async def swallowing(payload: int, *rest: int) -> None: ...
    async def keyword(payload: int, *, pool: Parcel) -> None: ...
    async def unclear(payload: int, pool) -> None: ...  # type: ignore[no-untyped-def]  # noqa: ANN001
    async def unknown(payload: "Nobody") -> None: ...  # type: ignore[name-defined]  # noqa: F821, UP037
    async def unchecked(payload: functools.partial) -> None: ...  # type: ignore[type-arg]

    functions: list[tuple[Any, str]] = [
        (swallowing, "rest"),
        (keyword, "pool"),
        (unclear, "pool"),
        (unknown, "Nobody"),
        (unchecked, "partial"),
    ]
    for function, name in functions:
        with pytest.raises(RegistrationError, match=rf"'work' on queue 'default'.*{name}"):
            executors.task("work")(function)
    assert executors.registrations() == []


# --- what a handler needs ---------------------------------------------------------------------------------------------


@pytest.mark.spec("MGR-04")
def test_a_missing_part_is_a_construction_error_that_names_it(clock: VirtualClock) -> None:
    with pytest.raises(MissingPortError, match="queue=") as without_queue:
        TaskHandler(store=MemoryStore(clock=clock), clock=clock)
    with pytest.raises(MissingPortError, match="store=") as without_store:
        TaskHandler(queue=MemoryQueue(clock=clock), clock=clock)
    assert (without_queue.value.port, without_store.value.port) == ("queue", "store")


@pytest.mark.spec("D-87")
async def test_a_queue_without_executor_is_refused_before_the_worker_is_said_to_have_started(
    url: str, clock: VirtualClock, probe: Probe
) -> None:
    executors = TaskQueuesManager()
    executors.task("work", queue="q")(quiet)
    executors.queue("far")
    async with harness(executors, url=url, clock=clock, queues=["q", "far"], workers=probe) as h:
        for verb in (h.handler.start, h.handler.run, h.handler.drain):
            with pytest.raises(ConfigurationError, match=r"no executor is registered on far.*q"):
                await verb()
    assert probe.events == []


@pytest.mark.spec("D-87")
async def test_a_worker_with_nothing_to_do_is_refused(url: str, clock: VirtualClock) -> None:
    async with harness(TaskQueuesManager(), url=url, clock=clock) as h:
        with pytest.raises(ConfigurationError, match="register an executor"):
            await h.handler.start()


async def test_executors_registered_too_late_are_not_left_out_in_silence(url: str, clock: VirtualClock) -> None:
    executors = TaskQueuesManager()
    executors.task("work")(quiet)
    async with harness(executors, url=url, clock=clock) as h:
        executors.task("more", queue="late")(quiet)
        with pytest.raises(ConfigurationError, match="late"):
            await h.handler.start()


@pytest.mark.parametrize("queues", ["default", 5, {"default": 1}, [""], [None]])
def test_queues_are_given_as_a_list_of_names(queues: Any, clock: VirtualClock) -> None:
    executors = TaskQueuesManager()
    executors.task("work")(quiet)
    with pytest.raises(ValueError, match="queues"):
        TaskHandler.connect("memory://", executors, clock=clock, queues=queues)
