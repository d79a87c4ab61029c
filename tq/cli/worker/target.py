"""From `MODULE:OBJECT` to a handler."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Sequence
from typing import Any

import typer

from tq.app.handler import TaskHandler
from tq.runner.registry import ExecutorFunction, TaskFunction, TaskQueuesManager

__all__ = ["as_handler", "load"]


def load(target: str) -> object:
    """Import what a target names; modules of the current folder are found as well.

    Raises:
        BadParameter: it is no target, there is no such module or object, or the module cannot be imported.
    """
    module_name, colon, path = target.partition(":")
    if not (module_name and colon and path):
        raise typer.BadParameter(f"{target!r} is not MODULE:OBJECT, such as shop.tasks:executors")
    here = os.getcwd()  # noqa: PTH109 -- sys.path holds text
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise _unimportable(module_name, error) from error
        raise typer.BadParameter(f"there is no module {module_name!r}") from error
    except Exception as error:  # a user's module may raise anything
        raise _unimportable(module_name, error) from error
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError as error:
            raise typer.BadParameter(f"module {module_name!r} has no {path!r}") from error
    return found


def _unimportable(module: str, error: Exception) -> typer.BadParameter:
    return typer.BadParameter(f"module {module!r} cannot be imported: {type(error).__name__}: {error}")


async def as_handler(
    found: object,
    target: str,
    *,
    url: str | None,
    default_url: str,
    queues: Sequence[str] | None,
    concurrency: int | None,
) -> TaskHandler:
    """Make a handler of what a target names: executors, a handler, or a function that returns one of them.

    Args:
        found: what was loaded.
        target: its name.
        url: --url, if it was given.
        default_url: where executors are to work if it was not.
        queues: --queue, if any were given.
        concurrency: --concurrency, if it was given.

    Raises:
        BadParameter: it is none of these, or a handler is given what it has already.
    """
    if isinstance(found, TaskFunction | ExecutorFunction):  # to call it would be to run a task
        kind, queue = found.registration.type, found.registration.queue
        raise typer.BadParameter(
            f"{target} is the executor {kind!r} on queue {queue!r}; name the TaskQueuesManager that holds it"
        )
    if callable(found) and not isinstance(found, TaskHandler | TaskQueuesManager):
        found = found()
        if inspect.isawaitable(found):
            found = await found
    match found:
        case TaskHandler():
            given = {"--url": url, "--queue": queues, "--concurrency": concurrency}
            if named := [name for name, value in given.items() if value]:
                raise typer.BadParameter(f"{target} is a TaskHandler, which has its own {', '.join(named)}")
            return found
        case TaskQueuesManager():
            options: dict[str, Any] = {}
            if concurrency is not None:
                options["concurrency"] = concurrency
            if queues:
                _check_queues(found, target, queues)
                options["queues"] = list(queues)
            return TaskHandler.connect(url or default_url, found, **options)
        case _:
            raise typer.BadParameter(
                f"{target} is of type {type(found).__name__}; name a TaskQueuesManager, a TaskHandler, or a "
                "function that returns one"
            )


def _check_queues(executors: TaskQueuesManager, target: str, queues: Sequence[str]) -> None:
    """Refuse a queue without executors: such a worker would take nothing, or give back all that it takes."""
    known = executors.served_queues()
    if unknown := [queue for queue in queues if queue not in known]:
        raise typer.BadParameter(
            f"{target} has no executor on {', '.join(unknown)}; it has some on {', '.join(known) or 'no queue at all'}"
        )
