"""A process may die at any call to any of its servers: another one goes on, and every task ends once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from tests.unit.runner.servers import LEASE, LimitedQueue, Servers, Worker, added, message, stalling
from tq.clock import Clock
from tq.ids import new_id
from tq.ports import MessageQueue
from tq.testing import Fault, Faults, ProcessDiedError, plans

DEATHS = [Fault.DIE_BEFORE, Fault.DIE_AFTER]

TASKS = {
    "plain": "plain",
    "parent": "parent",
    "later": "later",
    "flaky": "flaky",
    "flaky.far": "flaky.far",
    "failing": "failing",
    "fan": "fan",
    "waiter": "waiter",
    "empty": "empty",
}


async def given(servers: Servers, **tasks: str) -> None:
    """Add tasks from a process that lives."""
    now = servers.clock.now()
    messages = [message(id, type, now) for id, type in (tasks or TASKS).items()]
    messages.append(message(new_id(now), "plain", now))
    await servers.backend().commit(added(*messages))


async def live_on(servers: Servers, process: Faults) -> bool:
    """Run until the process dies, or all is done; tell which."""
    try:
        await Worker(servers, servers.backend(process)).run()
    except ProcessDiedError:
        await servers.clock.sleep(LEASE + 1.0)
        return False
    return True


async def check(servers: Servers, words: str) -> None:
    assert not await servers.live(), words
    assert not {id: count for id, count in servers.ended.items() if count > 1}, words
    expected = {
        *TASKS,
        "parent-0",
        "parent-1",
        "later-0",
        "flow-fan.0",
        "flow-fan.1",
        "flow-fan.2",
        "flow-fan.join",
        "flow-waiter.0",
        "flow-waiter.1",
        "flow-waiter.join",
        "flow-empty.join",
    }
    assert expected - set(servers.executed) == set(), words
    assert {it for it in servers.joined if it[1] != it[2]} == set(), words
    records = await servers.store.records(list(expected))
    assert {id: str(record.status) for id, record in records.items()} == {
        "failing": "failed",
        "waiter": "executed",
        "empty": "executed",
        "flow-fan.join": "executed",
        "flow-waiter.join": "executed",
        "flow-empty.join": "executed",
    }, words
    states = await servers.barrier.get(["flow-fan", "flow-waiter", "flow-empty"])
    assert [(state.succeeded, state.confirmed) for state in states.values()] == [(3, True), (2, True), (0, True)], words


async def test_everything_ends_once_where_nobody_dies(clock: Clock) -> None:
    servers = Servers(clock)
    await given(servers)

    assert await live_on(servers, Faults())

    await check(servers, "alive")
    again = {id for id, count in servers.executed.items() if count > 1}
    assert again == {"flaky", "flaky.far", "flow-fan.0"}
    assert len(servers.joined) == 3


def delivering_again(queue: MessageQueue, clock: Clock) -> LimitedQueue:
    return LimitedQueue(queue, clock, random.Random(7))


QUEUES: dict[str, Callable[[MessageQueue, Clock], object] | None] = {
    "able": None,
    "limited": LimitedQueue,
    "again": delivering_again,
}


@pytest.mark.parametrize("queue", QUEUES)
@pytest.mark.parametrize("how", DEATHS)
async def test_everything_ends_once_whichever_call_is_the_last(clock: Clock, how: Fault, queue: str) -> None:
    last = 1
    while True:
        servers = Servers(clock, QUEUES[queue])
        await given(servers)
        process = Faults(plans.at(last, how))
        if await live_on(servers, process):
            assert last > 50
            return
        assert await live_on(servers, Faults())
        await check(servers, f"{process}, after {process.calls[-12:-1]}")
        last += 1


@pytest.mark.parametrize("queue", QUEUES)
@pytest.mark.parametrize("seed", range(20))
async def test_everything_ends_once_however_often_processes_die(clock: Clock, seed: int, queue: str) -> None:
    chance = random.Random(seed)
    servers = Servers(clock, QUEUES[queue])
    await given(servers)
    for _ in range(200):
        if await live_on(servers, Faults(plans.dice(chance, faults=DEATHS))):
            break
    await check(servers, f"seed {seed}")


@pytest.mark.parametrize("queue", QUEUES)
@pytest.mark.parametrize("seed", range(20))
async def test_everything_ends_once_where_workers_stand_still_for_longer_than_a_lease(
    clock: Clock, seed: int, queue: str
) -> None:
    chance = random.Random(seed)
    servers = Servers(clock, QUEUES[queue])
    await given(servers)
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            backend = servers.backend(stalling(clock, chance, 0.03))
            group.create_task(Worker(servers, backend).run())
    await Worker(servers, servers.backend()).run()
    await check(servers, f"seed {seed}")
