"""What stands on every log line while a task runs, wherever it runs and whatever it leads to."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from tq import Actions, Backoff, FlowStep, Join, Task, TaskQueuesManager
from tq.clock import SystemClock, to_datetime
from tq.errors import InvalidInputError
from tq.logcontext import LogContextFilter, get_log_context, log_context
from tq.testing import VirtualClock
from tq.testing.harness import harness

EVEN = Backoff(jitter=0)
USER = {"tenant": "t-9", "request": "r-417"}


def given(context: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a task with this context."""
    return {"metadata": {"log_context": context}}


@pytest.mark.spec("LOG-01", "LOG-02", "LOG-03", "LOG-04", "D-60")
@pytest.mark.parametrize("kind", [{}, {"parallel": True}], ids=["sequential", "parallel"])
async def test_a_body_sees_its_task_s_context_and_what_tq_knows(url: str, clock: VirtualClock, kind: Any) -> None:
    executors, seen = TaskQueuesManager(), dict[str, list[dict[str, str]]]()

    class Work:
        async def on_task(self, task: Task[Any], actions: Actions) -> None:
            seen[task.id] = [dict(get_log_context())]
            await asyncio.sleep(1)
            async with asyncio.TaskGroup() as group:
                inner = group.create_task(look())
            seen[task.id] += [dict(get_log_context()), inner.result()]
            with log_context({"nested": "x"}):
                seen[task.id].append(dict(get_log_context()))
            seen[task.id].append(dict(get_log_context()))
            actions.success(task)

    async def look() -> dict[str, str]:
        return dict(get_log_context())

    executors.register("work", Work(), **kind)
    async with harness(executors, url=url, clock=clock) as h:
        tasks: list[Task[Any]] = [
            Task(type="work", id="with", **given(USER)),
            Task(type="work", id="without"),
            Task(type="work", id="rude", **given({"task_id": "mine", "worker_id": "mine", "own": "kept"})),
        ]
        with log_context({"outside": "of the task"}):
            await h.run(*tasks)
            assert get_log_context() == {"outside": "of the task"}
        worker_id = h.handler.worker_id
        runtime = {task.id: {"task_id": task.id, "task_type": "work", "worker_id": worker_id} for task in tasks}
        expected = {
            "with": {**USER, **runtime["with"]},
            "without": runtime["without"],
            "rude": {"own": "kept", **runtime["rude"]},
        }
        for task_id, whole in expected.items():
            assert seen[task_id] == [whole, whole, whole, {"nested": "x"}, whole]
        assert get_log_context() == {}


@pytest.mark.spec("LOG-02", "LOG-05", "EXE-12")
async def test_parallel_tasks_see_their_own_also_when_a_neighbour_fails(url: str, clock: VirtualClock) -> None:
    executors, seen = TaskQueuesManager(), dict[int, set[str]]()

    @executors.executor("work", store_on_success=True)
    async def work(task: Task[int], actions: Actions) -> None:
        mine = seen.setdefault(task.payload, set())
        for _ in range(4):
            mine.add(get_log_context().get("number", "none"))
            await asyncio.sleep(0.1 * (task.payload + 1))
            if task.payload == 1:
                raise ValueError("a neighbour")
        actions.success(task)

    async with harness(executors, url=url, clock=clock) as h:
        await h.run(*[work.task(number, **given({"number": str(number)})) for number in range(4)])
        assert seen == {number: {str(number)} for number in range(4)}


@pytest.mark.spec("LOG-01", "LOG-02")
@pytest.mark.realtime
async def test_a_plain_function_sees_it_in_its_thread(url: str) -> None:
    executors, seen = TaskQueuesManager(), list[dict[str, str]]()

    @executors.task("work", store_on_success=True)
    def work(payload: None) -> None:
        seen.append(dict(get_log_context()))

    async with harness(executors, url=url, clock=SystemClock()) as h:
        [task_id] = await h.run(work.task(None, **given(USER)))
        runtime = {"task_id": task_id, "task_type": "work", "worker_id": h.handler.worker_id}
        assert seen == [{**USER, **runtime}]


@pytest.mark.spec("LOG-06", "LOG-13", "ACT-05")
async def test_a_group_has_a_scope_of_its_own_and_each_task_its_context(
    url: str, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    seen, own = list[dict[str, str]](), list[dict[str, str]]()
    children, joins = list[dict[str, str]](), list[dict[str, str]]()

    class Group:
        async def on_tasks(self, tasks: list[Task[int]], actions: Actions) -> None:
            seen.append(dict(get_log_context()))
            actions.log.warning("of all")
            actions.add_tasks([Task(type="child", payload="of all")])
            actions.start_flow([FlowStep("child", payload="step of all")], join=Join("join"))
            for task in tasks:
                own.append(dict(task.log_context))
                fork = actions.fork_for_task(task)
                fork.log.warning("of one")
                fork.add_tasks([Task(type="child", payload=f"of {task.payload}")])
                fork.success(task)

    executors = TaskQueuesManager()
    executors.register("group", Group())

    @executors.executor("join")
    async def join(task: Task[Any], actions: Actions) -> None:
        joins.append(dict(task.log_context))
        actions.success(task)

    @executors.executor("child")
    async def child(task: Task[str], actions: Actions) -> None:
        children.append({"of": task.payload, **task.log_context})
        actions.success(task)

    async with harness(executors, url=url, clock=clock) as h:
        tasks: list[Task[Any]] = [
            Task(type="group", payload=1, id="a", **given({"tenant": "t-1"})),
            Task(type="group", payload=2, id="b"),
        ]
        await h.run(*tasks)
        worker = h.handler.worker_id
        assert seen == [{"worker_id": worker, "batch_size": "2"}]
        assert own == [{"tenant": "t-1"}, {}]
        lines = [record.message for record in caplog.records]
        assert [line.removesuffix(" of all") for line in lines if "of all" in line] == [
            f"[batch_size:2] [task_type:group] [worker_id:{worker}]"
        ]
        assert [line for line in lines if "of one" in line] == [
            f"[batch_size:2] [task_id:a] [task_type:group] [tenant:t-1] [worker_id:{worker}] of one",
            f"[batch_size:2] [task_id:b] [task_type:group] [worker_id:{worker}] of one",
        ]
        assert sorted(children, key=lambda child: child["of"]) == [
            {"of": "of 1", "tenant": "t-1"},
            {"of": "of 2"},
            {"of": "of all"},
            {"of": "step of all"},
        ]
        assert joins == [{}]


@pytest.mark.spec("LOG-07", "LOG-02")
async def test_it_survives_retries_a_dead_letter_and_its_replay(url: str, clock: VirtualClock) -> None:
    executors, seen = TaskQueuesManager(), list[dict[str, str]]()

    @executors.executor("work", retries=1, backoff=EVEN, store_on_success=True)
    async def work(task: Task[Any], actions: Actions) -> None:
        seen.append(dict(get_log_context()))
        if task.generation == 0:
            raise ValueError("first generation")
        actions.success(task)

    async with harness(executors, url=url, clock=clock) as h:
        await h.run(work.task(None, **given(USER)))
        await h.later(3)
        await h.handler.dead.replay()
        await h.drain()
        assert [{key: context[key] for key in USER} for context in seen] == [USER] * 3


@pytest.mark.spec("LOG-08", "ACT-05", "FLOW-08", "D-51", "D-26")
async def test_children_steps_and_joins_inherit_it_and_nothing_of_what_tq_knows(url: str, clock: VirtualClock) -> None:
    executors, seen = TaskQueuesManager(), dict[str, dict[str, str]]()

    @executors.executor("parent")
    async def parent(task: Task[Any], actions: Actions) -> None:
        actions.add_tasks(
            [
                Task(type="other", payload="child"),
                Task(type="other", payload="own", **given({"tenant": "its own", "more": "x"})),
                Task(type="other", payload="many", **given({f"a{number}": "x" for number in range(9)})),
                Task(type="other", payload="large", **given({"big": "ü" * 500})),
            ]
        )
        actions.start_flow([FlowStep("other", payload="step")], join=Join("join"))
        actions.success(task)

    @executors.executor("other")
    async def other(task: Task[str], actions: Actions) -> None:
        seen[task.payload] = dict(task.log_context)
        assert get_log_context()["task_id"] == task.id
        actions.success(task)

    @executors.executor("join")
    async def join(task: Task[Any], actions: Actions) -> None:
        seen["join"] = dict(task.log_context)
        actions.success(task)

    async with harness(executors, url=url, clock=clock) as h:
        await h.run(parent.task(None, **given(USER)))
        assert seen == {
            "child": USER,
            "own": {**USER, "tenant": "its own", "more": "x"},
            "many": {**{f"a{number}": "x" for number in range(9)}, "request": "r-417"},
            "large": {},
            "step": USER,
            "join": USER,
        }
        seen.clear()
        await h.run(parent.task(None))
        assert seen["child"] == seen["step"] == seen["join"] == {}


@pytest.mark.spec("LOG-10", "LOG-11", "LOG-12", "ADD-15", "D-60")
@pytest.mark.parametrize("when", [0, 600])
async def test_it_is_cut_and_dropped_at_the_door_and_never_in_the_way(
    url: str, clock: VirtualClock, when: int, caplog: pytest.LogCaptureFixture
) -> None:
    executors, seen = TaskQueuesManager(), dict[str, Any]()

    @executors.executor("work")
    async def work(task: Task[str], actions: Actions) -> None:
        seen[task.payload] = dict(task.metadata)
        actions.success(task)

    due = to_datetime(clock.now() + when)
    contexts: dict[str, dict[str, str]] = {
        "fits": {"k": "x" * 1016},
        "too large": {"k": "x" * 1017},
        "too large in bytes": {"k": "ü" * 509},
        "ten": {f"k{number}": "x" for number in range(10)},
        "eleven": {f"k{number:02}": "x" for number in reversed(range(11))},
        "eleven, fitting when cut": {**{f"k{number:02}": "x" for number in range(10)}, "z": "x" * 2000},
    }
    async with harness(executors, url=url, clock=clock) as h:
        with caplog.at_level(logging.WARNING):
            await h.add(*[work.task(name, execute_at=due, **given(context)) for name, context in contexts.items()])
        await h.later(when)
        ten = {f"k{number:02}": "x" for number in range(10)}
        assert seen == {
            "fits": {"log_context": contexts["fits"]},
            "too large": {},
            "too large in bytes": {},
            "ten": {"log_context": contexts["ten"]},
            "eleven": {"log_context": ten},
            "eleven, fitting when cut": {"log_context": ten},
        }
        warnings = [record.message for record in caplog.records if "log_context" in record.message]
        assert len(warnings) == 4
        with pytest.raises(InvalidInputError, match="log_context"):
            await h.add(work.task("refused", **given({"tenant": 7})))


@pytest.mark.spec("LOG-13", "LOG-14", "LOG-15", "LOG-16")
async def test_the_log_of_a_task_cannot_be_forged_and_costs_nothing_when_off(
    url: str, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    executors = TaskQueuesManager()

    @executors.executor("work")
    async def work(task: Task[Any], actions: Actions) -> None:
        actions.log.info("100 %s done", "%")
        actions.log.debug("off")
        logging.getLogger("app").warning("of the application")
        actions.success(task)

    handler = logging.Handler()
    shown = list[str]()
    handler.emit = lambda record: shown.append(f"{record.__dict__['log_context']} {record.getMessage()}")  # type: ignore[method-assign]
    handler.addFilter(LogContextFilter())
    logging.getLogger("app").addHandler(handler)
    try:
        with caplog.at_level(logging.INFO):
            async with harness(executors, url=url, clock=clock) as h:
                [task_id] = await h.run(work.task(None, **given({"bad": "a] [task_id:x\n", "task_id": "forged"})))
                head = f"[bad:a_ [task_id:x_] [task_id:{task_id}] [task_type:work] [worker_id:{h.handler.worker_id}]"
    finally:
        logging.getLogger("app").removeHandler(handler)
    lines = [record.message for record in caplog.records if record.name == "tq.task"]
    assert lines == [f"{head} 100 % done"]
    assert shown == [f" {head} of the application"]
