"""What is kept of an ending: results, errors, and nothing where nothing was given (RFC 001)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from tq import Actions, AsyncTaskManager, Task, TaskQueuesManager, TaskStatus
from tq.errors import ResultNotKeptError, TaskFailedError
from tq.testing import Probe, VirtualClock
from tq.testing.harness import Harness, harness

LIMIT = 256 * 1024


PLAIN: list[Any] = [{"a": [1, 2.5, None, True, "ü€😀"]}, [], "", 0, False, "x", -(2**53), {"": {}}, [[[[]]]], None]


def answering(result: Any, *, result_ttl: float = 0) -> TaskQueuesManager:
    """Return an executor that succeeds with this result."""
    executors = TaskQueuesManager()

    @executors.executor("work", result_ttl=result_ttl, store_on_success=not result_ttl)
    async def work(task: Task[Any], actions: Actions) -> None:
        actions.success(task, result)

    return executors


@pytest.mark.spec("RES-01", "RES-07")
@pytest.mark.parametrize("result", PLAIN)
@pytest.mark.parametrize("returned", [False, True], ids=["said", "returned"])
async def test_a_result_is_kept_as_it_was_given(url: str, clock: VirtualClock, result: Any, *, returned: bool) -> None:
    executors = answering(result)

    @executors.task("function")
    async def function() -> dict[str, Any] | list[Any] | str | float | None:
        return result  # type: ignore[no-any-return]

    async with harness(executors, url=url, clock=clock) as h:
        [task_id] = await h.run(Task(type="function" if returned else "work"))
        kept = await h.handler.task(task_id).result()
        assert kept == result
        assert type(kept) is type(result)


@pytest.mark.spec("RES-07", "HND-03")
async def test_a_result_takes_the_same_way_after_a_hand_over(url: str, clock: VirtualClock) -> None:
    executors, result = TaskQueuesManager(), {"rows": [1, 2, 3]}

    @executors.executor("work", handoff_timeout=1, store_on_success=True)
    async def work(task: Task[Any], actions: Actions) -> None:
        await clock.sleep(60)
        actions.success(task, result)

    manager = AsyncTaskManager(clock=clock)
    async with harness(executors, url=url, clock=clock, async_tasks=manager) as h:
        [task_id] = await h.add(Task(type="work"))
        await h.handler.start()
        await clock.sleep(30)
        assert manager.is_handed_off(task_id)
        assert await h.handler.task(task_id).result(timeout=60) == result


@pytest.mark.spec("RES-02")
async def test_no_result_and_none_are_different(url: str, clock: VirtualClock) -> None:
    executors = TaskQueuesManager()

    @executors.executor("work", store_on_success=True)
    async def work(task: Task[str], actions: Actions) -> None:
        if task.payload == "nothing":
            actions.success(task)
        else:
            actions.success(task, None)

    async with harness(executors, url=url, clock=clock) as h:
        nothing, none = await h.run(work.task("nothing"), work.task("none"))
        assert (await h.record(nothing)).result is None
        assert (await h.record(none)).result == b"null"


@pytest.mark.spec("RES-05")
@pytest.mark.parametrize("character", ["x", "€"])
async def test_the_limit_counts_bytes_and_includes_its_last_one(
    url: str, clock: VirtualClock, caplog: pytest.LogCaptureFixture, character: str
) -> None:
    executors = TaskQueuesManager()
    width = len(character.encode())

    @executors.executor("work", store_on_success=True)
    async def work(task: Task[int], actions: Actions) -> None:
        actions.success(task, "y" * ((task.payload - 2) % width) + character * ((task.payload - 2) // width))

    async with harness(executors, url=url, clock=clock) as h:
        fits, too_large = await h.run(work.task(LIMIT), work.task(LIMIT + 1))
        assert len((await h.record(fits)).result or b"") == LIMIT
        record = await h.record(too_large)
        assert (record.status, record.result) == (TaskStatus.EXECUTED, None)
        assert "262,145 bytes" in (await h.stats(too_large))["result_dropped"]
        assert caplog.text.count("is dropped") == 1
        assert too_large in caplog.text


def circular() -> Any:
    ring: list[Any] = []
    ring.append(ring)
    return ring


UNWRITABLE = [circular(), object(), {"n": float("nan")}, [float("-inf")], 2**70, "\ud800", {"f": lambda: None}]


@pytest.mark.spec("RES-06")
@pytest.mark.parametrize("result", UNWRITABLE, ids=[type(item).__name__ for item in UNWRITABLE])
@pytest.mark.parametrize("returned", [False, True], ids=["said", "returned"])
async def test_a_result_that_cannot_be_written_is_dropped_and_the_task_succeeds(
    url: str, clock: VirtualClock, caplog: pytest.LogCaptureFixture, result: Any, *, returned: bool
) -> None:
    executors = answering(result, result_ttl=60)

    @executors.task("function")
    async def function(payload: None) -> list[Any]:
        return result  # type: ignore[no-any-return]

    async with harness(executors, url=url, clock=clock) as h:
        [task_id] = await h.run(Task(type="function" if returned else "work"))
        assert await h.handler.task(task_id).status() is TaskStatus.EXECUTED
        with pytest.raises(ResultNotKeptError, match="was dropped: result"):
            await h.handler.task(task_id).result()
        warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert len([words for words in warnings if "is dropped" in words]) == 1  # a server may be warned of, too


@pytest.mark.spec("RES-08", "EXE-12")
async def test_each_task_keeps_its_own_result(url: str, clock: VirtualClock) -> None:
    class Group:
        async def on_tasks(self, tasks: Sequence[Task[int]], actions: Actions) -> None:
            for task in reversed(tasks):
                decide(task, actions)

    def decide(task: Task[int], actions: Actions) -> None:
        match task.payload % 3:
            case 0:
                actions.success(task, {"of": task.payload})
            case 1:
                actions.success(task)
            case _:
                actions.fail(task, f"error of {task.payload}", {"of": task.payload})

    executors = TaskQueuesManager()
    executors.register("group", Group(), store_on_success=True)

    @executors.executor("single", store_on_success=True)
    async def single(task: Task[int], actions: Actions) -> None:
        await clock.sleep(10 - task.payload)
        decide(task, actions)

    async with harness(executors, url=url, clock=clock) as h:
        for type in ("group", "single"):
            ids = await h.run(*[Task(type=type, payload=number) for number in range(9)])
            for number, task_id in enumerate(ids):
                await check_own(h, task_id, number)


async def check_own(h: Harness, task_id: str, number: int) -> None:
    record, stats = await h.record(task_id), await h.stats(task_id)
    match number % 3:
        case 0:
            await h.assert_succeeded(task_id, {"of": number})
            assert stats == {}
        case 1:
            assert (record.status, record.result, record.error, stats) == (TaskStatus.EXECUTED, None, None, {})
        case _:
            assert (record.result, record.error) == (None, f"error of {number}")
            assert (stats["of"], stats["last_error"]) == (number, f"error of {number}")


@pytest.mark.spec("RES-09")
async def test_who_is_told_hears_what_is_kept(url: str, clock: VirtualClock, probe: Probe) -> None:
    executors = answering({"x": datetime(2020, 1, 2, tzinfo=UTC)})
    async with harness(executors, url=url, clock=clock, lifecycle=probe, lifecycle_mode="sync") as h:
        [task_id] = await h.run(Task(type="work"))
        [told] = probe.of("on_task_completed")
        assert told.value.result == await h.handler.task(task_id).result() == {"x": "2020-01-02T00:00:00Z"}


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.spec("RES-03", "MOD-05", "STO-06")
async def test_an_exception_is_kept_with_text_traceback_and_details(url: str, clock: VirtualClock) -> None:
    executors = TaskQueuesManager()

    @executors.executor("work")
    async def work(task: Task[Any], actions: Actions) -> None:
        try:
            dict[str, int]()["the deep reason"]
        except KeyError as error:
            actions.fail(task, error, {"row": 7, "imported_from": "here"})

    given = {"imported_from": "elsewhere", "batch": "b-1"}
    async with harness(executors, url=url, clock=clock) as h:
        [task_id] = await h.run(Task(type="work", execution_stats=given))
        stats = await h.stats(task_id)
        assert stats.pop("last_error_stack").startswith("Traceback")
        assert stats == {
            "last_error": "'the deep reason'",
            "row": 7,
            "imported_from": "here",
            "batch": "b-1",
            "retry_count": 0,
            "failed_at": clock.now(),
        }
        with pytest.raises(TaskFailedError, match="the deep reason"):
            await h.handler.task(task_id).result()


async def test_of_an_endless_error_the_first_words_are_kept(url: str, clock: VirtualClock) -> None:
    executors = TaskQueuesManager()

    @executors.task("work")
    async def work(raises: bool) -> None:  # noqa: FBT001 -- a payload
        raise ValueError("the reason: " + "x" * 10_000_000)

    async with harness(executors, url=url, clock=clock) as h:
        [task_id] = await h.run(Task(type="work", payload=True))
        stats = await h.stats(task_id)
        assert stats["last_error"].startswith("the reason: xxx")
        assert len(stats["last_error"]) == len(stats["last_error_stack"]) == 16_384


@pytest.mark.spec("RES-04")
async def test_a_failure_may_be_a_text_or_nothing(url: str, clock: VirtualClock) -> None:
    executors = TaskQueuesManager()

    @executors.executor("work")
    async def work(task: Task[str | None], actions: Actions) -> None:
        actions.fail(task, task.payload)

    async with harness(executors, url=url, clock=clock) as h:
        text, nothing = await h.run(work.task("some words"), work.task(None))
        assert await h.stats(text) == {"last_error": "some words", "retry_count": 0, "failed_at": clock.now()}
        assert await h.stats(nothing) == {"retry_count": 0, "failed_at": clock.now()}
        assert await h.handler.task(nothing).status() is TaskStatus.FAILED


@pytest.mark.spec("RES-10")
async def test_an_executor_that_raises_is_told_by_the_text_of_its_error(url: str, clock: VirtualClock) -> None:
    executors = TaskQueuesManager()

    @executors.task("work")
    async def work(payload: str) -> None:
        raise ValueError(payload)

    async with harness(executors, url=url, clock=clock) as h:
        text, silent = await h.run(work.task("told"), work.task(""))
        assert (await h.stats(text))["last_error"] == "told"
        assert "in work" in (await h.stats(text))["last_error_stack"]
        assert (await h.stats(silent))["last_error"] == "ValueError", "an error without words goes by its name"
