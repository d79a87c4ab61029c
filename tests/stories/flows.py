"""What stories of flows share: executors that do as their payload says, joins that remember what they were told."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

from tq import Actions, Backoff, FlowStep, Join, NonRetryableError, Task, TaskQueuesManager
from tq.app.handler import TaskHandler
from tq.model import Delivery, Projection, Renewal
from tq.ports import FlowBarrierProvider, Keeper, ProjectionQuery

__all__ = ["Deaf", "Stage", "barrier", "entries", "projection", "steps"]


class Stage:
    """Executors "step" (media), "join" and "other" (default).

    A payload tells a step what to do: a number or text is its result; `{"sleep": seconds, …}` waits first;
    `{"fail": text}` records a failure, `{"raise": text}` raises, `{"final": text}` raises what is not tried again;
    `{"result": value}` succeeds with it. Steps are tried once unless the step says otherwise.
    """

    def __init__(self) -> None:
        self.executors = TaskQueuesManager()
        self.told: list[dict[str, Any]] = []
        """`flow_results` of every run of a join, in order."""
        self.told_at: list[float] = []
        """When each of these runs began, by the clock's `monotonic`."""
        self.joins: list[Task[Any]] = []
        self.ran: list[str] = []
        """Ids of steps, in the order in which their bodies began."""
        self.seen: dict[str, Task[Any]] = {}
        self.cancelled: list[str] = []
        """Ids of steps whose bodies were cancelled."""
        self.join_says: Any = "joined"
        """What joins record: a result, or an exception to raise."""
        self.join_sleeps = 0.0
        self.executors.executor("step", queue="media", retries=0, backoff=Backoff(jitter=0))(self._step)
        self.executors.executor("join", retries=0, store_on_success=True)(self._join)

    async def _step(self, task: Task[Any], actions: Actions) -> None:
        self.ran.append(task.id)
        self.seen[task.id] = task
        given: Any = task.payload
        orders = cast("dict[str, Any]", given) if isinstance(given, dict) else {"result": given}
        try:
            await asyncio.sleep(orders.get("sleep", 0.0))
        except asyncio.CancelledError:
            self.cancelled.append(task.id)
            raise
        if "final" in orders:
            raise NonRetryableError(orders["final"])
        if "raise" in orders:
            raise ValueError(orders["raise"])
        if "fail" in orders:
            actions.fail(task, orders["fail"])
        else:
            actions.success(task, orders.get("result"))

    async def _join(self, task: Task[Any], actions: Actions) -> None:
        self.joins.append(task)
        self.told.append(task.payload["flow_results"])
        self.told_at.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.join_sleeps)
        if isinstance(self.join_says, Exception):
            raise self.join_says
        actions.success(task, self.join_says)

    @property
    def runs(self) -> Counter[str]:
        """How often the body of each step began."""
        return Counter(self.ran)

    @property
    def only(self) -> dict[str, Any]:
        """What the one run of the one join was told.

        Raises:
            AssertionError: there was none, or more than one.
        """
        assert len(self.told) == 1, f"joins ran {len(self.told)} times: {self.told}"
        return self.told[0]

    async def start(self, handler: TaskHandler, payloads: Sequence[Any], **settings: Any) -> str:
        """Start a flow of steps with these payloads, from outside executors."""
        return await handler.start_flow(steps(*payloads), join=Join("join"), **settings)


def steps(*payloads: Any) -> list[FlowStep]:
    """Return a step for each payload."""
    return [FlowStep("step", queue="media", payload=payload) for payload in payloads]


def entries(told: dict[str, Any]) -> list[tuple[int, str, Any]]:
    """Return (index, status, result or error) of each entry that a join was given inline."""
    return [(it["step_index"], it["status"], it.get("error", it.get("result"))) for it in told["steps"]]


def barrier(handler: TaskHandler) -> FlowBarrierProvider:
    """Return the handler's barrier."""
    assert handler.backend.barrier is not None
    return handler.backend.barrier


async def projection(handler: TaskHandler, task_id: str) -> Projection | None:
    """Return the row of a task or flow, from the query side of the backend's own provider."""
    query = cast("ProjectionQuery", handler.backend.projections)
    return (await query.get_projections([task_id])).get(task_id)


class Deaf(Keeper):
    """Renews nothing, and says that all is well: a worker that is cut off from its server, and does not know."""

    async def __aenter__(self) -> Keeper:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def renew(self, deliveries: Sequence[Delivery], lease: float) -> Renewal:
        return Renewal()
