"""One task, one executor that starts a flow, one join: count the words of a book, page by page.

python examples/quickstart.py      prints: Ode to a queue has 9 words on 3 pages
"""

import asyncio
import sys
from dataclasses import dataclass
from typing import Any

from tq import Actions, Entity, FlowStep, Join, Task, TaskHandler, TaskQueuesManager

executors = TaskQueuesManager()


@dataclass
class Book:
    title: str
    pages: list[str]


@executors.task("page.count", retries=3)  # speaks by return value and exception; what comes in is checked
def count(page: str) -> int:
    return len(page.split())


@executors.executor("book.count")  # speaks through its actions
async def count_book(task: Task[Book], actions: Actions) -> None:
    pages = [FlowStep("page.count", payload=page) for page in task.payload.pages]
    actions.start_flow(pages, join=Join("book.counted"), entity=Entity("Book", task.payload.title))
    actions.success(task)


@executors.executor("book.counted")  # runs once, when every page has ended, however it ended
async def counted(task: Task[Any], actions: Actions) -> None:
    words = [entry["result"] async for entry in actions.flow_results(task) if entry["status"] == "success"]
    print(f"Ode to a queue has {sum(words)} words on {len(words)} pages")
    actions.success(task, {"words": sum(words)})


async def main(url: str = "sqlite:///quickstart.db") -> None:
    async with TaskHandler.connect(url, executors) as handler:
        await handler.add_tasks(
            [count_book.task(Book("Ode to a queue", ["nothing is lost", "and none", "is waited for again"]))]
        )
        await handler.drain()  # a worker calls `await handler.run()`, which goes on until it is stopped


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
