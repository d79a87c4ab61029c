"""Run an executor's body. The one place where an exception becomes a value (EXE-06, D-06)."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

from tq.errors import AttemptTimeoutError, HungTaskError, NoOutcomeError, PayloadError
from tq.model import SUCCEEDED, Failed, Outcome, Released, Succeeded, TaskStatus
from tq.runner.actions import Actions, Attempt, failed_by
from tq.runner.execution import Execution, Interruption
from tq.runner.registry import Registration
from tq.runner.signature import Source

__all__ = ["Resources", "interrupted_outcome", "invoke", "invoke_group"]

log = logging.getLogger("tq.runner")

Resources = Mapping[Any, Any]


async def invoke(
    execution: Execution, registration: Registration, actions: Actions | None, resources: Resources, threads: Executor
) -> Outcome:
    """Run one task's body and return its outcome; never raises.

    An outcome recorded through the actions stands, whatever came after it (EXE-07, EXE-14).
    """
    signature = registration.signature
    try:
        if signature.is_async and registration.of_payload:
            value = await registration.function(execution.payload)
        else:
            arguments = _arguments(registration, resources, execution, None, actions)
            if signature.is_async:
                value = await registration.function(*arguments)
            else:
                value = await _in_thread(registration.function, arguments, threads)
    except BaseException as error:  # noqa: BLE001 -- executors raise whatever they like; the worker must live on
        outcome = interrupted_outcome(execution, error)
        attempt = execution.attempt
        recorded = attempt.outcome if attempt is not None else None
        return outcome if recorded is None else recorded
    if execution.attempt is not None and (recorded := execution.attempt.outcome) is not None:
        return recorded
    if execution.interrupted is not None and execution.interrupted is not Interruption.SHUTDOWN:
        return interrupted_outcome(execution, None)
    if registration.takes_actions:
        return _silent(registration)
    return _returned(execution, registration, value)


async def invoke_group(
    executions: Sequence[Execution],
    registration: Registration,
    actions: Actions,
    attempts: Sequence[Attempt],
    resources: Resources,
    threads: Executor,
) -> list[Outcome]:
    """Run one group of a multi executor; return an outcome per task (EXE-05, D-08)."""
    error: BaseException | None = None
    try:
        arguments = _arguments(registration, resources, None, [attempt.task for attempt in attempts], actions)
        if registration.signature.is_async:
            await registration.function(*arguments)
        else:
            await _in_thread(registration.function, arguments, threads)
    except BaseException as raised:  # noqa: BLE001 -- as above
        error = raised
    outcomes: list[Outcome] = []
    for execution, attempt in zip(executions, attempts, strict=True):
        if attempt.outcome is not None:
            outcomes.append(attempt.outcome)
        elif error is not None or execution.interrupted is not None:
            outcomes.append(interrupted_outcome(execution, error))
        else:
            outcomes.append(_silent(registration))
    return outcomes


def interrupted_outcome(execution: Execution, error: BaseException | None) -> Outcome:
    """Return what an exception amounts to, given why, if at all, tq ended the body."""
    options = execution.registration.options if execution.registration is not None else None
    match execution.interrupted:
        case None:
            if isinstance(error, asyncio.CancelledError):
                return Failed("the executor cancelled itself", exception=error)
            return failed_by(error)
        case Interruption.TIMEOUT:
            limit = options.timeout if options is not None else None
            return failed_by(AttemptTimeoutError(f"the attempt took longer than its timeout of {limit:g} s"))
        case Interruption.HUNG:
            return failed_by(HungTaskError("the task ran longer than its max_duration and was swept"))
        case Interruption.CANCEL:
            return Failed("cancelled", final=True, status=TaskStatus.CANCELLED)
        case Interruption.LOST | Interruption.SHUTDOWN:
            return Released(reason="shutdown")


async def _in_thread(function: Callable[..., Any], arguments: Sequence[object], threads: Executor) -> Any:
    """Run a plain function in a thread, with this task's context variables; await what it returns if that is asked for.

    A thread cannot be cancelled: when the attempt is, the wait ends here, but the slot is kept until the body ends.
    """
    context = contextvars.copy_context()
    loop = asyncio.get_running_loop()
    running = loop.run_in_executor(threads, lambda: context.run(_caught, function, arguments))
    try:
        value, error = await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
    if error is not None:
        raise error
    return await value if inspect.isawaitable(value) else value


def _caught(function: Callable[..., Any], arguments: Sequence[object]) -> tuple[Any, BaseException | None]:
    """Call a function; what it raises is returned: no future carries a StopIteration, or a GeneratorExit."""
    try:
        return function(*arguments), None
    except BaseException as error:  # noqa: BLE001 -- raised again where the call is awaited
        return None, error


def _arguments(
    registration: Registration,
    resources: Resources,
    execution: Execution | None,
    tasks: Sequence[Any] | None,
    actions: Actions | None,
) -> list[object]:
    signature = registration.signature
    wanted = iter(signature.resources)
    arguments: list[object] = []
    for source in signature.sources:
        match source:
            case Source.PAYLOAD:
                arguments.append(execution.payload if execution is not None else None)
            case Source.TASK:
                arguments.append(execution.task if execution is not None else None)
            case Source.TASKS:
                arguments.append(tasks)
            case Source.ACTIONS:
                arguments.append(actions)
            case Source.RESOURCE:
                arguments.append(resources[next(wanted)[1]])
    return arguments


def _silent(registration: Registration) -> Failed:
    what = f"executor {registration.type!r} on queue {registration.queue!r}"
    text = f"{what} returned without an outcome: call actions.success, fail, reschedule or success_when"
    return failed_by(NoOutcomeError(text))


def _returned(execution: Execution, registration: Registration, value: object) -> Succeeded:
    """Return the success that a returned value amounts to; one that cannot be written is dropped (RES-05, RES-06)."""
    shape = registration.result
    if shape is None or (value is None and not shape.checked):
        return SUCCEEDED
    try:
        return Succeeded(shape.dump_result(value))
    except PayloadError as error:
        log.warning("the result of task %s is dropped: %s", execution.id, error)
        return Succeeded(None, dropped=str(error))
