"""What is left by a process that dies in the midst of an ending, where queue and store are different servers."""

from __future__ import annotations

from typing import Any

import pytest

from tq import Actions, Backoff, Task, TaskHandler, TaskQueuesManager, TaskStatus
from tq.errors import TaskFailedError
from tq.memory import MemoryQueue, MemoryStore
from tq.testing import Fault, Faults, VirtualClock, plans

DAY = 86_400.0


class Shop:
    """Fails in the first generation, succeeds in the next; its processes share a queue and a store."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.executors = TaskQueuesManager()
        self.queue, self.store = MemoryQueue(clock=clock), MemoryStore(clock=clock)
        self.ran: list[int] = []

        @self.executors.executor("order", store_on_success=True, backoff=Backoff(base=200.0, jitter=0.0))
        async def order(task: Task[Any], actions: Actions) -> None:
            self.ran.append(task.generation)
            if not task.generation:
                raise ValueError("sold out")
            actions.success(task)

    def handler(self, faults: Faults | None = None) -> TaskHandler:
        faults = faults or Faults()
        queue, store = faults.queue(self.queue), faults.store(self.store)
        return TaskHandler(executors=self.executors, clock=self.clock, queue=queue, store=store)

    async def dies_at(self, verb: str, fault: Fault, *tasks: Task[Any]) -> None:
        """Let a process add and run tasks until this call of it."""
        faults = Faults(plans.on(verb, fault))
        handler = self.handler(faults)
        await handler.add_tasks(tasks)
        await handler.start()
        await faults.death.wait()
        await handler.kill()


@pytest.mark.spec("D-34", "F-34")
@pytest.mark.parametrize("retries", [0, 1], ids=["from the queue", "from the store"])
async def test_a_dead_letter_is_replayed_though_nobody_came_to_its_acknowledgement(
    clock: VirtualClock, retries: int
) -> None:
    shop = Shop(clock)
    await shop.dies_at("store.record", Fault.DIE_AFTER, Task(type="order", id="o", retries=retries))
    second = shop.handler()
    died = clock.now()

    assert await second.dead.replay("o") == ["o"]
    await second.drain()

    assert clock.now() - died < 1.0, "not when the lease of the dead is over"
    assert await second.task("o").status() is TaskStatus.EXECUTED
    assert shop.ran == [0] * (retries + 1) + [1]
    await second.close()


@pytest.mark.spec("D-34")
async def test_a_task_that_was_seen_to_fail_may_be_tried_again_at_once(clock: VirtualClock) -> None:
    """Its worker lives, and is about to acknowledge it."""
    shop = Shop(clock)
    hangs = Faults(plans.on("store.ack", Fault.HANG), clock=clock, hang=5.0)
    first, second = shop.handler(hangs), shop.handler()
    await first.add_tasks([Task(type="order", id="o", retries=1)])
    await first.start()
    await clock.sleep(201.0)
    with pytest.raises(TaskFailedError, match="sold out"):
        await second.task("o").result()
    await second.task("o").retry()
    await clock.sleep(10.0)
    assert await second.task("o").status() is TaskStatus.EXECUTED
    assert shop.ran == [0, 0, 1]
    await first.close()
    await second.close()


@pytest.mark.spec("ADP-10", "STO-10")
async def test_an_outcome_that_nobody_noted_as_carried_out_does_not_stay(clock: VirtualClock) -> None:
    shop = Shop(clock)
    await shop.dies_at("store.carried", Fault.DIE_BEFORE, Task(type="order", id="o"))
    second = shop.handler()
    await clock.sleep(1000.0)
    await second.drain()
    assert await shop.store.uncarried(None, 10) == []
    await clock.sleep(8 * DAY)
    await second.drain()
    assert (await shop.store.stats())["outcomes"] == 0
    await second.close()
