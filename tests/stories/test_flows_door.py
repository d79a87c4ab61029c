"""A flow that could never join is refused where it is asked for, before anything is written."""

from __future__ import annotations

from typing import Any

import pytest

from tests.stories.flows import Stage, barrier, steps
from tq import Actions, FlowStep, Join, Task, TaskHandler, TaskQueuesManager, quorum, tolerate
from tq.errors import InvalidInputError, MissingPortError
from tq.ids import flow_id
from tq.memory import MemoryBackend
from tq.testing import VirtualClock
from tq.testing.harness import harness


@pytest.mark.spec("D-49")
async def test_what_could_never_join_is_refused_at_the_door(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        refused: list[tuple[dict[str, Any], str]] = [
            ({"join": "join"}, "join"),
            ({"join": Join("join", queue="nowhere")}, "join.queue"),
            ({"steps": [FlowStep("step", queue="nowhere")]}, r"steps\[0\].queue"),
            ({"steps": ["step"]}, r"steps\[0\]"),
            ({"steps": [FlowStep("step", queue="media", payload=object())]}, "payload"),
            ({"failure_policy": "whatever"}, "failure_policy"),
            ({"failure_policy": quorum(3)}, "quorum"),
            ({"failure_policy": tolerate(1.5)}, "tolerate"),
            ({"failure_policy": tolerate(-1)}, "tolerate"),
            ({"timeout": 0}, "timeout"),
            ({"timeout": -1.0}, "timeout"),
            ({"timeout": float("nan")}, "timeout"),
            ({"entity": "Item"}, "entity"),
            ({"steps": steps(1) * 100_001}, "100,000"),
        ]
        for settings, field in refused:
            arguments: dict[str, Any] = {"steps": steps(1, 2), "join": Join("join")} | settings
            with pytest.raises(InvalidInputError, match=field):
                await h.handler.start_flow(arguments.pop("steps"), **arguments)
        assert await barrier(h.handler).list() == []
        await h.assert_quiet()


@pytest.mark.spec("D-49")
async def test_a_start_that_is_refused_in_an_executor_fails_the_attempt_and_says_why(
    url: str, clock: VirtualClock
) -> None:
    stage = Stage()

    @stage.executors.executor("parent", retries=0)
    async def parent(task: Task[Any], actions: Actions) -> None:
        actions.start_flow(steps(1), join=Join("join"), timeout=-1)

    async with harness(stage.executors, url=url, clock=clock) as h:
        [task_id] = await h.run(parent.task(None))
        await h.assert_failed(task_id, "timeout")


@pytest.mark.spec("D-49")
async def test_without_a_barrier_a_flow_is_refused(clock: VirtualClock) -> None:
    backend, executors = MemoryBackend(clock=clock), TaskQueuesManager()
    executors.queue("default")
    handler = TaskHandler(queue=backend.queue, store=backend.store, executors=executors, clock=clock)
    handler.backend.barrier = None
    handler = TaskHandler.on(handler.backend, executors, clock=clock)
    with pytest.raises(MissingPortError, match="barrier"):
        await handler.start_flow([FlowStep("step")], join=Join("join"))


@pytest.mark.spec("F-23", "INV-05")
async def test_a_task_cannot_take_the_id_of_a_step_or_of_a_join(url: str, clock: VirtualClock) -> None:
    """The step would be taken for written already, and its flow would wait for it until it was called lost."""
    stage = Stage()
    flow = flow_id("handler", 0.0, 0, "tonight")

    @stage.executors.executor("parent", retries=0)
    async def parent(task: Task[Any], actions: Actions) -> None:
        actions.add_tasks([Task(type="join", id=f"{flow}.1")])

    async with harness(stage.executors, url=url, clock=clock) as h:
        for id in (f"{flow}.0", f"{flow}.join", f"{flow}.join.1", f"{await stage.start(h.handler, [1])}.0"):
            with pytest.raises(InvalidInputError, match=r"id is refused.*names a step or a join"):
                await h.handler.add_tasks([Task(type="join", id=id)])
        [task_id] = await h.run(parent.task(None))
        await h.assert_failed(task_id, "names a step or a join")
        assert await h.add(Task(type="step", queue_id="media", id="order.17")) == ["order.17"]
