"""Outcomes that nobody noted as carried out: which of them are, and which are still to be."""

from __future__ import annotations

from unittest.mock import patch

import pytest

from tests.unit.runner.servers import LEASE, LimitedQueue, Servers
from tq.clock import Clock
from tq.model import Delivery, Effects, Ending, Hold, Place, Rearm
from tq.ports import MessageQueue
from tq.runner.composite import CompositeBackend, Leftovers
from tq.runner.composite.leftovers import SETTLED
from tq.testing import Fault, Faults, ProcessDiedError, plans
from tq.testing.contracts.values import flow, hop, message, record, settle, write

REMEMBER = 7 * 86_400.0


async def taken(servers: Servers, place: Place, id: str = "a") -> Delivery:
    custody = servers.queue if place is Place.QUEUE else servers.store
    await custody.add([message(id, servers.clock.now())])
    (delivery,) = (await hop(servers.backend(), lease=LEASE)).deliveries
    return delivery


async def dies(servers: Servers, delivery: Delivery, verb: str, ending: Ending | None = None) -> None:
    """Let a process die before this call of the commit that ends the delivery."""
    dead = record(delivery.message.id, servers.clock.now(), dead=True, body=b"{}")
    process = Faults(plans.on(verb, Fault.DIE_BEFORE))
    with pytest.raises(ProcessDiedError):
        await settle(servers.backend(process), delivery, ending, Effects(records=() if ending else (dead,)))


async def look(backend: CompositeBackend, now: float) -> list[int]:
    """Return the attempts whose outcomes are still not noted as carried out once all were looked over."""
    leftovers = Leftovers(backend, REMEMBER)
    while await leftovers.look(now):
        pass
    return [stored.key.attempt for stored in await backend.store.uncarried(None, 100)]


@pytest.mark.parametrize("place", Place)
async def test_an_outcome_is_carried_out_once_its_message_is_gone(clock: Clock, place: Place) -> None:
    servers = Servers(clock)
    await dies(servers, await taken(servers, place), "store.carried")
    backend = servers.backend()
    assert await look(backend, clock.now() + SETTLED - 1.0) == [0], "its commit may be on its way"
    assert await look(backend, clock.now() + SETTLED) == []


@pytest.mark.parametrize("place", Place)
async def test_an_outcome_whose_message_is_still_there_is_left_to_whoever_gets_it(clock: Clock, place: Place) -> None:
    servers = Servers(clock)
    await dies(servers, await taken(servers, place), f"{place}.ack")
    await clock.sleep(REMEMBER)
    backend = servers.backend()
    assert await look(backend, clock.now()) == [0]
    assert (await hop(backend, lease=LEASE)).deliveries == []
    assert await backend.store.uncarried(None, 100) == [], "carried out, and noted"


@pytest.mark.parametrize("place", Place)
async def test_a_message_that_asks_for_its_next_attempt_has_the_last_one_behind_it(clock: Clock, place: Place) -> None:
    servers = Servers(clock)
    delivery = await taken(servers, place)
    await dies(servers, delivery, "store.carried", Rearm(clock.now() + 10_000.0, 1, b""))
    assert await look(servers.backend(), clock.now() + SETTLED) == []
    assert await servers.live() == {"a"}


@pytest.mark.parametrize("place", Place)
async def test_a_task_that_waits_for_a_flow_has_begun_to_wait(clock: Clock, place: Place) -> None:
    servers = Servers(clock)
    await write(servers.backend(), Effects(flows=(flow("f", 1, clock.now()),)))
    await dies(servers, await taken(servers, place), "store.carried", Hold("f"))
    assert await look(servers.backend(), clock.now() + SETTLED) == []


async def test_a_queue_that_does_not_tell_what_it_holds_is_waited_for(clock: Clock) -> None:
    def silent(queue: MessageQueue, clock: Clock) -> LimitedQueue:
        limited = LimitedQueue(queue, clock)
        limited.guarantees = limited.guarantees._replace(locates=False)
        return limited

    servers = Servers(clock, silent)
    await dies(servers, await taken(servers, Place.QUEUE), "store.carried")
    backend = servers.backend()
    assert await look(backend, clock.now() + REMEMBER - 1.0) == [0]
    assert await look(backend, clock.now() + REMEMBER) == []


async def test_all_are_looked_over_page_by_page(clock: Clock) -> None:
    servers = Servers(clock)
    for number in range(7):
        verb = "store.carried" if number % 2 else "queue.ack"
        await dies(servers, await taken(servers, Place.QUEUE, f"t{number}"), verb)
    with patch("tq.runner.composite.leftovers.PAGE", 2):
        assert len(await look(servers.backend(), clock.now() + SETTLED)) == 4


async def test_what_stood_in_for_a_refused_outcome_is_noted_with_it(clock: Clock) -> None:
    servers = Servers(clock)
    delivery = await taken(servers, Place.QUEUE)
    await dies(servers, delivery, "queue.ack")
    [stored] = await servers.store.uncarried(None, 1)
    await servers.store.put_outcomes([(stored.key._replace(attempt=-1), stored.outcome)], stored.at)
    assert sorted(await look(servers.backend(), clock.now() + SETTLED)) == [-1, 0]
    await servers.queue.ack([delivery.receipt])
    assert await look(servers.backend(), clock.now() + SETTLED) == []
