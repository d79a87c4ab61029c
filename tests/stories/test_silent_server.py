"""A server that takes a renewal of leases and never answers: it is asked again while there is time."""

from __future__ import annotations

from tq import Task, TaskHandler, TaskQueuesManager, TaskStatus
from tq.memory import MemoryBackend
from tq.testing import Fault, Faults, VirtualClock, plans


async def test_a_renewal_that_is_never_answered_costs_no_lease(clock: VirtualClock) -> None:
    executors, ran = TaskQueuesManager(), list[str]()

    @executors.task("long", store_on_success=True)
    async def long(_: None) -> None:
        ran.append("long")
        await clock.sleep(60)

    backend = MemoryBackend(clock=clock)
    faults = Faults(plans.on("keeper.renew", Fault.HANG, times=1), clock=clock, hang=1_000.0)
    first = TaskHandler.on(faults.backend(backend), executors, clock=clock, lease=6.0)
    second = TaskHandler.on(backend, executors, clock=clock, lease=6.0)
    [task_id] = await first.add_tasks([Task(type="long")])
    await first.start()
    await clock.sleep(0.5)
    await second.start()
    await clock.sleep(90)
    assert [str(fault) for _, fault in faults.done] == ["hang"]
    assert ran == ["long"], "nobody else was given it"
    assert await second.task(task_id).status() is TaskStatus.EXECUTED
    for handler in (first, second):
        await handler.close()
