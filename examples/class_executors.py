"""Executors that are classes: one task at a time, several side by side, or a whole group in one call.

python examples/class_executors.py
"""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from tq import Actions, NonRetryableError, Task, TaskHandler, TaskQueuesManager


@dataclass
class Row:
    number: int
    name: str = ""


class Ledger:
    """One at a time, as classes are unless they say otherwise: what it keeps needs no lock."""

    def __init__(self) -> None:
        self.balance = 0

    async def on_task(self, task: Task[Row], actions: Actions) -> None:
        self.balance += task.payload.number
        actions.success(task, {"balance": self.balance})


class Fetch:
    """A window of at most two at a time; options stand on the class, and may be overridden when it is registered."""

    parallel = True
    chunk_size = 2
    default_retries = 5

    running: ClassVar[list[int]] = []

    async def on_task(self, task: Task[Row], actions: Actions) -> None:
        self.running.append(task.payload.number)
        print(f"fetching {task.payload.number}, {len(self.running)} at a time")
        await asyncio.sleep(0.01)
        self.running.remove(task.payload.number)
        actions.success(task)


class Import:
    """A whole group in one call; each task of it has an ending of its own."""

    chunk_size = 100

    async def on_tasks(self, tasks: Sequence[Task[Row]], actions: Actions) -> None:
        print(f"importing {len(tasks)} rows in one go")
        for task in tasks:
            if task.payload.name:
                actions.success(task)
            else:
                actions.fail(task, NonRetryableError(f"row {task.payload.number} has no name"))


async def main(url: str = "sqlite:///class_executors.db") -> None:
    executors = TaskQueuesManager()
    ledger = Ledger()
    executors.register("ledger.add", ledger, queue="ledger")
    executors.register("page.fetch", Fetch(), queue="web", timeout=10.0)
    executors.register("rows.import", Import(), queue="batch")

    async with TaskHandler.connect(url, executors) as handler:
        await handler.add_tasks(
            [
                *(Task(type="ledger.add", queue_id="ledger", payload=Row(number)) for number in range(5)),
                *(Task(type="page.fetch", queue_id="web", payload=Row(number)) for number in range(4)),
                *(Task(type="rows.import", queue_id="batch", payload=Row(number, "x" * number)) for number in range(3)),
            ]
        )
        await handler.drain()
        print(f"the balance is {ledger.balance}")
        for letter in await handler.dead.list(queue="batch"):
            print(f"dead: {letter.error}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
