"""What an executor may say through its actions, and when it becomes real."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tq import Actions, Backoff, FlowStep, Join, Task, TaskQueuesManager
from tq.clock import to_datetime
from tq.errors import ActionsRevokedError, InvalidInputError
from tq.testing import VirtualClock
from tq.testing.harness import harness

Said = Callable[[Task[Any], Actions], object]
EVEN = Backoff(jitter=0)


class Stage:
    """Executors of a parent, of its children and of a join; `say` is what the parent says."""

    def __init__(self, say: Said, **options: Any) -> None:
        self.executors = TaskQueuesManager()
        self.children: list[Task[Any]] = []
        self.joins: list[Task[Any]] = []

        @self.executors.executor("parent", backoff=EVEN, store_on_success=True, **options)
        async def parent(task: Task[Any], actions: Actions) -> None:
            say(task, actions)

        @self.executors.executor("child", store_on_success=True)
        async def child(task: Task[Any], actions: Actions) -> None:
            self.children.append(task)
            actions.success(task)

        @self.executors.executor("join")
        async def join(task: Task[Any], actions: Actions) -> None:
            self.joins.append(task)
            actions.success(task)


def child(payload: object = None, **fields: Any) -> Task[Any]:
    return Task(type="child", payload=payload, **fields)


# --- who they speak for -----------------------------------------------------------------------------------------------


@pytest.mark.spec("ACT-01", "MQ-06")
async def test_actions_know_worker_and_consumer(clock: VirtualClock) -> None:
    seen: list[tuple[str, str]] = []

    def say(task: Task[Any], actions: Actions) -> None:
        seen.append((actions.consumer_id, actions.worker_id))
        actions.success(task)

    for url, name in (
        ("memory://", "memory:default"),
        ("immediate://", "immediate:default"),
        ("sqlite://", "sqlite:default"),
    ):
        async with harness(Stage(say).executors, url=url, clock=clock) as h:
            await h.run(Task(type="parent"))
            assert seen.pop() == (name, h.handler.worker_id)


class Group:
    def __init__(self, decide: Callable[[Sequence[Task[Any]], Actions], object]) -> None:
        self.decide = decide

    async def on_tasks(self, tasks: Sequence[Task[Any]], actions: Actions) -> None:
        self.decide(tasks, actions)


@pytest.mark.spec("ACT-01", "ACT-07", "D-11")
async def test_a_group_may_speak_for_each_of_its_members_whoever_is_asked(url: str, clock: VirtualClock) -> None:
    def decide(tasks: Sequence[Task[Any]], actions: Actions) -> None:
        first, second, third = tasks
        actions.fork_for_task(first).success(second, "by the first's actions")
        actions.fork_for_task(second).success(first, "by the second's")
        actions.success(third, "by the group's")
        assert [actions.get_task_result_status(task) for task in tasks] == ["success"] * 3

    executors = TaskQueuesManager()
    executors.register("work", Group(decide), store_on_success=True)
    async with harness(executors, url=url, clock=clock) as h:
        first, second, third = await h.run(*[Task(type="work") for _ in range(3)])
        await h.assert_succeeded(first, "by the second's")
        await h.assert_succeeded(second, "by the first's actions")
        await h.assert_succeeded(third, "by the group's")
        await h.assert_quiet()


async def test_actions_speak_for_no_task_of_another_execution(url: str, clock: VirtualClock) -> None:
    def say(task: Task[Any], actions: Actions) -> None:
        with pytest.raises(InvalidInputError, match="a task of this execution"):
            actions.success(child(id="somebody else"))
        actions.success(task)

    async with harness(Stage(say).executors, url=url, clock=clock) as h:
        [task_id] = await h.run(Task(type="parent"))
        await h.assert_succeeded(task_id)


@pytest.mark.spec("ACT-03")
async def test_what_is_said_after_the_end_is_refused_and_has_no_effect(url: str, clock: VirtualClock) -> None:
    kept: list[tuple[Task[Any], Actions]] = []

    def say(task: Task[Any], actions: Actions) -> None:
        kept.append((task, actions))
        actions.success(task, "in time")

    stage = Stage(say)
    async with harness(stage.executors, url=url, clock=clock) as h:
        [task_id] = await h.run(Task(type="parent"))
        [(task, actions)] = kept
        for late in (
            lambda: actions.success(task, "too late"),
            lambda: actions.fail(task),
            lambda: actions.reschedule(1),
            lambda: actions.add_tasks([child()]),
            lambda: actions.start_flow([FlowStep("child")], join=Join("join")),
        ):
            with pytest.raises(ActionsRevokedError):
                late()
        await h.drain()
        await h.assert_succeeded(task_id, "in time")
        assert stage.children == []


# --- children ---------------------------------------------------------------------------------------------------------


@pytest.mark.spec("F-36", "ACT-04")
async def test_children_become_real_with_their_parents_end(url: str, clock: VirtualClock) -> None:
    ids: list[str] = []

    def say(task: Task[Any], actions: Actions) -> None:
        ids.extend(
            actions.add_tasks([child(1), child(2, id="given"), child(3, execute_at=to_datetime(clock.now() + 60))])
        )
        actions.success(task)

    stage = Stage(say)
    async with harness(stage.executors, url=url, clock=clock) as h:
        await h.run(Task(type="parent"))
        assert [task.payload for task in stage.children] == [1, 2]
        await h.later(60)
        assert [task.id for task in stage.children] == ids
        assert ids[1] == "given"


@pytest.mark.spec("ACT-04", "ACT-05", "FLOW-08")
async def test_children_and_steps_of_a_group_belong_to_a_task_or_to_the_whole(url: str, clock: VirtualClock) -> None:
    def begin(actions: Actions, whose: str) -> None:
        actions.add_tasks([child(f"child {whose}")])
        actions.start_flow([FlowStep("child", payload=f"step {whose}")], join=Join("join"))

    def decide(tasks: Sequence[Task[Any]], actions: Actions) -> None:
        begin(actions, "of the group")
        for task in tasks:
            begin(actions.fork_for_task(task), f"of {task.payload}")
            actions.success(task)

    stage = Stage(lambda task, actions: None)
    stage.executors.register("group", Group(decide))
    context = {"tenant": "t"}
    async with harness(stage.executors, url=url, clock=clock) as h:
        await h.run(Task(type="group", payload=1, metadata={"log_context": context}), Task(type="group", payload=2))
    assert {task.payload: dict(task.log_context) for task in stage.children} == {
        f"{kind} of {whose}": context if whose == "1" else {}
        for kind in ("child", "step")
        for whose in ("the group", "1", "2")
    }
    assert len(stage.joins) == 3


@pytest.mark.spec("ACT-05")
@pytest.mark.parametrize(
    ("parents", "own", "expected"),
    [
        ({"a": "1", "b": "2"}, None, {"a": "1", "b": "2"}),
        ({"a": "1", "b": "2"}, {"b": "own", "c": "3"}, {"a": "1", "b": "own", "c": "3"}),
        (None, {"c": "3"}, {"c": "3"}),
        (None, None, {}),
    ],
)
async def test_children_inherit_the_log_context_and_their_own_keys_win(
    url: str, clock: VirtualClock, parents: Any, own: Any, expected: Any
) -> None:
    def metadata(context: Any) -> dict[str, Any]:
        return {} if context is None else {"log_context": context}

    def say(task: Task[Any], actions: Actions) -> None:
        actions.add_tasks([child(metadata={"mine": 1, **metadata(own)})])
        actions.success(task)

    stage = Stage(say)
    async with harness(stage.executors, url=url, clock=clock) as h:
        await h.run(Task(type="parent", metadata=metadata(parents)))
    [task] = stage.children
    assert task.log_context == expected
    assert task.metadata["mine"] == 1


@pytest.mark.spec("ACT-08", "D-62", "INV-09")
async def test_an_execution_adds_at_most_a_thousand_children(url: str, clock: VirtualClock) -> None:
    def say(task: Task[Any], actions: Actions) -> None:
        actions.add_tasks([child(number) for number in range(999)])
        with pytest.raises(InvalidInputError, match=r"1001.*at most 1000 children, or start a flow"):
            actions.add_tasks([child("x"), child("y")])
        actions.add_tasks(child(number) for number in [999])
        actions.success(task)

    stage = Stage(say)
    async with harness(stage.executors, url=url, clock=clock) as h:
        await h.run(Task(type="parent"))
    assert sorted(task.payload for task in stage.children) == list(range(1000))


@pytest.mark.spec("RET-17", "D-52")
async def test_children_of_a_failed_attempt_are_added_and_a_repetition_adds_nothing(
    url: str, clock: VirtualClock
) -> None:
    """RET-17: an outcome of its own makes everything said before it real, be it a failure; ids are derived."""

    def say(task: Task[Any], actions: Actions) -> None:
        actions.add_tasks([child("same"), child("same"), child(f"attempt {task.attempt}")])
        actions.fail(task, "again")

    stage = Stage(say, retries=1)
    async with harness(stage.executors, url=url, clock=clock) as h:
        [task_id] = await h.run(Task(type="parent"))
        assert sorted(task.payload for task in stage.children) == ["attempt 0", "same", "same"]
        await h.later(3)
        await h.assert_failed(task_id, "again")
    assert sorted(task.payload for task in stage.children) == ["attempt 0", "attempt 1", "same", "same"]


@pytest.mark.spec("D-52")
async def test_an_attempt_that_raises_without_an_outcome_starts_nothing(url: str, clock: VirtualClock) -> None:
    def say(task: Task[Any], actions: Actions) -> None:
        actions.add_tasks([child(task.attempt)])
        actions.start_flow([FlowStep("child", payload=f"step {task.attempt}")], join=Join("join"))
        if task.attempt == 0:
            raise ValueError("not this time")
        actions.success(task)

    stage = Stage(say, retries=1)
    async with harness(stage.executors, url=url, clock=clock) as h:
        await h.run(Task(type="parent"))
        assert (stage.children, await h.flows()) == ([], [])
        await h.later(3)
        assert sorted(str(task.payload) for task in stage.children) == ["1", "step 1"]
        assert len(stage.joins) == 1


@pytest.mark.spec("D-85", "D-14")
async def test_running_the_same_task_again_is_a_reschedule_not_a_child(url: str, clock: VirtualClock) -> None:
    seen: list[tuple[float, int]] = []

    def say(task: Task[Any], actions: Actions) -> None:
        with pytest.raises(InvalidInputError, match="reschedule"):
            actions.add_tasks([task])
        seen.append((clock.now(), task.attempt))
        if len(seen) < 3:
            actions.reschedule(30)
        else:
            actions.success(task)

    async with harness(Stage(say).executors, url=url, clock=clock) as h:
        began = clock.now()
        [task_id] = await h.run(Task(type="parent"))
        await h.later(30)
        await h.later(30)
        await h.assert_succeeded(task_id)
    assert seen == [(began, 0), (began + 30, 0), (began + 60, 0)]


# --- flows ------------------------------------------------------------------------------------------------------------


@pytest.mark.spec("ACT-06")
async def test_starting_a_flow_gives_back_its_id_and_starts_it_with_the_end(url: str, clock: VirtualClock) -> None:
    ids: list[str] = []

    def say(task: Task[Any], actions: Actions) -> None:
        ids.append(actions.start_flow([FlowStep("child", payload=n) for n in range(2)], join=Join("join")))
        ids.append(actions.start_flow([FlowStep("child", payload=9)], join=Join("join"), key="own"))
        actions.success(task)

    stage = Stage(say)
    async with harness(stage.executors, url=url, clock=clock) as h:
        await h.run(Task(type="parent"))
        assert {state.id for state in await h.flows()} == set(ids)
        assert sorted(task.payload for task in stage.children) == [0, 1, 9]
        assert len(stage.joins) == len(set(ids)) == 2
        await h.assert_quiet()
