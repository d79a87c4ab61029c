"""Short ways to the values that the runner passes around."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tq import Actions, Task, TaskQueuesManager
from tq.codec import decode_body, message_of
from tq.model import Delivery, Message
from tq.runner.execution import Execution
from tq.runner.registry import Registration

NOW = 1_900_000_000.0


def message(
    id: str = "t-1", type: str = "work", *, payload: bytes = b"null", attempt: int = 0, **fields: Any
) -> Message:
    """Return the message of a task; `fields` are those of `Task`."""
    return message_of(Task(type=type, id=id, **fields), payload, NOW)._replace(attempt=attempt)


def delivery(of: Message | None = None, **fields: Any) -> Delivery:
    """Return a delivery; `fields` are its own."""
    given: dict[str, Any] = {"token": "w:1", "fence": 1, **fields}
    return Delivery(message() if of is None else of, **given)


def registration(function: Any = None, type: str = "work", **options: Any) -> Registration:
    """Return the registration of an executor that succeeds, or of this function of (task, actions)."""

    async def work(task: Task[Any], actions: Actions) -> None:
        actions.success(task)

    class Groups:
        async def on_tasks(self, tasks: Sequence[Task[Any]], actions: Actions) -> None:
            for task in tasks:
                actions.success(task)

    executors = TaskQueuesManager()
    if options.get("multiple"):
        executors.register(type, Groups(), **options)
    else:
        executors.executor(type, **options)(function or work)
    return executors.registrations()[0]


def execution(of: Delivery | None = None, by: Registration | None = None) -> Execution:
    """Return an execution that has not begun."""
    of = delivery() if of is None else of
    return Execution(of, decode_body(of.message.body), by or registration(), "memory:default")
