"""One task, one executor that starts a flow, one join: run it, and it says `half a sky`."""

import asyncio
import sys
from typing import Any

from tq import Actions, FlowStep, Join, Task, TaskHandler, TaskQueuesManager

executors = TaskQueuesManager()


@executors.task("word.find", retries=3)  # speaks by return value and exception
def find(meaning: str) -> str:
    return {"50 %": "half", "one of": "a", "above us": "sky"}[meaning]


@executors.executor("sentence.make")  # speaks through its actions
async def make(task: Task[list[str]], actions: Actions) -> None:
    steps = [FlowStep("word.find", payload=meaning) for meaning in task.payload]
    actions.start_flow(steps, join=Join("sentence.join"))
    actions.success(task)


@executors.executor("sentence.join")  # runs once, when every step has ended
async def join(task: Task[Any], actions: Actions) -> None:
    words = [entry["result"] async for entry in actions.flow_results(task)]
    print(*words)
    actions.success(task)


async def main(url: str = "sqlite:///quickstart.db") -> None:
    async with TaskHandler.connect(url, executors) as handler:
        await handler.add_tasks([make.task(["50 %", "one of", "above us"])])
        await handler.drain()  # a worker calls `await handler.run()`, which goes on until it is stopped


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
