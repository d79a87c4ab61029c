"""Where an exception becomes a value."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tq import Actions, NonRetryableError, Task, TaskQueuesManager
from tq.errors import AttemptTimeoutError, HungTaskError, NoOutcomeError
from tq.model import Failed, Outcome, Released, Succeeded, TaskStatus
from tq.runner.actions import Attempt
from tq.runner.execution import Execution, Interruption
from tq.runner.invoke import interrupted_outcome, invoke
from tq.runner.outside import Outside
from tq.runner.registry import Registration

from .making import delivery, execution, registration


def function(body: Any, **options: Any) -> Registration:
    """Return the registration of a function of its payload."""
    executors = TaskQueuesManager()
    executors.task("work", **options)(body)
    return executors.registrations()[0]


@asynccontextmanager
async def threads() -> AsyncGenerator[ThreadPoolExecutor, None]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


async def outcome_of(by: Registration, resources: dict[Any, Any] | None = None) -> Outcome:
    one = execution(delivery(), by)
    actions = None
    if by.signature.takes_actions:
        one.attempt = Attempt(one.task)
        outside = cast("Outside", SimpleNamespace(worker_id="w-1"))
        actions = Actions({one.id: one.attempt}, one.attempt, outside, "memory:default")
    async with threads() as pool:
        return await invoke(one, by, actions, resources or {}, pool)


# --- what a body amounts to -------------------------------------------------------------------------------------------


@pytest.mark.spec("EXE-06")
async def test_a_group_of_exceptions_is_final_if_one_of_them_is_however_deep() -> None:
    async def fails(error: Exception) -> None:
        raise error

    async def side_by_side(payload: None) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fails(ValueError("again")))
            group.create_task(fails(ExceptionGroup("inner", [NonRetryableError("never again")])))

    outcome = await outcome_of(function(side_by_side, retries=3))
    assert isinstance(outcome, Failed)
    assert outcome.final
    assert outcome.error.endswith("(2 sub-exceptions): ValueError: again; NonRetryableError: never again")

    async def may_be_tried_again(payload: None) -> None:
        raise ExceptionGroup("all", [ValueError("a"), ExceptionGroup("inner", [OSError("b")])])

    outcome = await outcome_of(function(may_be_tried_again, retries=3))
    assert isinstance(outcome, Failed)
    assert not outcome.final


async def test_a_returned_value_is_a_success() -> None:
    async def typed(payload: None) -> int:
        return 5

    async def silent(payload: None) -> None: ...

    async def bare(payload: None):  # type: ignore[no-untyped-def]  # noqa: ANN202
        return None

    assert await outcome_of(function(typed)) == Succeeded(b"5")
    assert await outcome_of(function(silent)) == Succeeded()
    assert await outcome_of(function(bare)) == Succeeded()


@pytest.mark.spec("EXE-06", "D-06", "RES-10")
async def test_an_exception_is_a_failure_with_its_text_and_traceback() -> None:
    async def raises(payload: None) -> None:
        raise KeyError("here")

    failed = await outcome_of(function(raises))
    assert isinstance(failed, Failed)
    assert (failed.error, failed.final, type(failed.exception)) == ("'here'", False, KeyError)
    assert "in raises" in failed.stack


async def test_a_non_retryable_error_is_final() -> None:
    class OfMineError(NonRetryableError): ...

    async def raises(payload: None) -> None:
        raise OfMineError("never")

    failed = await outcome_of(function(raises))
    assert isinstance(failed, Failed)
    assert (failed.final, failed.error) == (True, "never")


@pytest.mark.spec("EXE-07", "EXE-14", "D-07", "D-10")
async def test_what_was_said_stands_and_silence_is_a_failure() -> None:
    async def succeeds(task: Task[Any], actions: Actions) -> None:
        actions.success(task, 1)
        raise ValueError("late")

    async def fails(task: Task[Any], actions: Actions) -> None:
        actions.fail(task, "said")
        raise ValueError("late")

    async def silent(task: Task[Any], actions: Actions) -> None: ...

    assert await outcome_of(registration(succeeds)) == Succeeded(b"1")
    assert await outcome_of(registration(fails)) == Failed("said")
    failed = await outcome_of(registration(silent))
    assert isinstance(failed, Failed)
    assert isinstance(failed.exception, NoOutcomeError)
    assert "'work' on queue 'default' returned without an outcome" in failed.error


async def test_arguments_come_in_the_order_in_which_they_are_asked_for() -> None:
    class Pool: ...

    seen: list[object] = []

    async def work(task: Task[Any], pool: Pool, actions: Actions) -> None:
        seen.extend([task.id, pool])
        actions.success(task)

    pool = Pool()
    executors = TaskQueuesManager()
    executors.executor("work")(work)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert await outcome_of(executors.registrations()[0], {Pool: pool}) == Succeeded()
    assert seen == ["t-1", pool]


# --- threads ----------------------------------------------------------------------------------------------------------


async def test_a_plain_function_runs_in_a_thread_with_this_tasks_context() -> None:
    variable = contextvars.ContextVar("variable", default="unset")
    seen: list[object] = []

    def work(payload: None) -> str:
        seen.extend([threading.current_thread() is threading.main_thread(), variable.get()])
        variable.set("changed there")
        return "done"

    variable.set("set here")
    assert await outcome_of(function(work)) == Succeeded(b'"done"')
    assert seen == [False, "set here"]
    assert variable.get() == "set here"


@pytest.mark.parametrize("error", [StopIteration(1), GeneratorExit(), SystemExit(1), KeyboardInterrupt()])
async def test_no_exception_is_lost_on_the_way_out_of_a_thread(error: BaseException) -> None:
    def work(payload: None) -> None:
        raise error

    failed = await outcome_of(function(work))
    assert isinstance(failed, Failed)
    assert type(error).__name__ in failed.stack


async def test_a_cancelled_call_waits_until_its_thread_has_ended() -> None:
    begun, go_on = threading.Event(), threading.Event()
    ended: list[str] = []

    def work(payload: None) -> None:
        begun.set()
        go_on.wait(5)
        ended.append("thread")

    by = function(work, timeout=5)
    one = execution(delivery(), by)
    async with threads() as pool:
        running = asyncio.ensure_future(invoke(one, by, None, {}, pool))
        await asyncio.get_running_loop().run_in_executor(None, begun.wait, 5)
        one.interrupted = Interruption.TIMEOUT
        running.cancel()
        await asyncio.sleep(0)
        assert not running.done(), "a thread cannot be cancelled: its slot is not free"
        go_on.set()
        failed = await running
    assert ended == ["thread"]
    assert isinstance(failed, Failed)
    assert isinstance(failed.exception, AttemptTimeoutError)


# --- who ended it -----------------------------------------------------------------------------------------------------


def interrupted(why: Interruption | None) -> Execution:
    one = execution(delivery(), registration(timeout=5))
    one.interrupted = why
    return one


def test_what_a_cancelled_body_amounts_to_depends_on_who_ended_it() -> None:
    cancelled = asyncio.CancelledError()
    timeout = interrupted_outcome(interrupted(Interruption.TIMEOUT), cancelled)
    assert isinstance(timeout, Failed)
    assert isinstance(timeout.exception, AttemptTimeoutError)
    assert (timeout.final, "5 s" in timeout.error) == (False, True)
    hung = interrupted_outcome(interrupted(Interruption.HUNG), cancelled)
    assert isinstance(hung, Failed)
    assert isinstance(hung.exception, HungTaskError)
    by_hand = interrupted_outcome(interrupted(Interruption.CANCEL), cancelled)
    assert isinstance(by_hand, Failed)
    assert (by_hand.status, by_hand.final) == (TaskStatus.CANCELLED, True)
    for why in (Interruption.SHUTDOWN, Interruption.LOST):
        assert isinstance(interrupted_outcome(interrupted(why), cancelled), Released)
    itself = interrupted_outcome(interrupted(None), cancelled)
    assert itself == Failed("the executor cancelled itself", exception=cancelled)


@pytest.mark.parametrize("why", [Interruption.TIMEOUT, Interruption.HUNG, Interruption.CANCEL])
async def test_a_body_that_swallowed_its_cancel_has_not_succeeded(why: Interruption) -> None:
    by = function(returns_five, timeout=5)
    one = execution(delivery(), by)
    one.interrupted = why
    async with threads() as pool:
        assert isinstance(await invoke(one, by, None, {}, pool), Failed)


async def test_a_body_that_ends_in_the_last_moment_of_a_shutdown_has_succeeded() -> None:
    by = function(returns_five)
    one = execution(delivery(), by)
    one.interrupted = Interruption.SHUTDOWN
    async with threads() as pool:
        assert await invoke(one, by, None, {}, pool) == Succeeded(b"5")


async def returns_five(payload: None) -> int:
    return 5
