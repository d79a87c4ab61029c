"""A task that waits for a flow, whose worker died in the midst of saying so: what it brings is not lost with it."""

from __future__ import annotations

import pytest

from tests.unit.runner.servers import LEASE, Servers
from tq.clock import Clock
from tq.flow import Reconciler
from tq.model import Delivery, Effects, Hold, Place, Resolve, TaskStatus
from tq.testing import Fault, Faults, ProcessDiedError, plans
from tq.testing.contracts.values import flow, hop, message, record, settle


async def given(clock: Clock, place: Place) -> tuple[Servers, Delivery]:
    """Let a process die once the flow is there, and nothing else of what its task brings; return the flow's join."""
    servers, now = Servers(clock), clock.now()
    await (servers.queue if place is Place.QUEUE else servers.store).add([message("waits", now)])
    (waits,) = (await hop(servers.backend(), lease=LEASE)).deliveries
    brings = Effects(flows=(flow("f", 0, now),), messages=(message("child", now),))
    dying = servers.backend(Faults(plans.on("barrier.init_barrier", Fault.DIE_AFTER)))
    with pytest.raises(ProcessDiedError):
        await settle(dying, waits, Hold("f"), brings)
    assert (await Reconciler(servers.backend(), clock).tick_due()).dispatched == 1
    (join,) = (await hop(servers.backend(), lease=LEASE)).deliveries
    return servers, join


def ends(clock: Clock) -> Effects:
    """Return what the end of the join brings."""
    ended = record("waits", clock.now(), status=TaskStatus.EXECUTED)
    return Effects(resolves=(Resolve("waits", "f", Effects(records=(ended,))),))


@pytest.mark.spec("INV-01", "F-08")
@pytest.mark.parametrize("place", Place)
async def test_a_flow_that_was_faster_than_its_task_loses_nothing_that_the_task_brings(
    clock: Clock, place: Place
) -> None:
    servers, join = await given(clock, place)
    backend = servers.backend()
    assert (await settle(backend, join, effects=ends(clock))).refused == []
    await clock.sleep(LEASE + 1.0)
    begun = [it.message.id for _ in range(2) for it in (await hop(backend, lease=LEASE)).deliveries]
    assert begun == ["child"]
    assert await servers.live() == {"child"}
    assert (await servers.store.records(["waits"]))["waits"].status is TaskStatus.EXECUTED


@pytest.mark.spec("INV-01", "F-08")
@pytest.mark.parametrize("how", [Fault.DIE_BEFORE, Fault.DIE_AFTER])
@pytest.mark.parametrize("place", Place)
async def test_nor_does_whoever_dies_while_it_ends_that_task(clock: Clock, place: Place, how: Fault) -> None:
    last = 1
    while True:
        servers, join = await given(clock, place)
        process = Faults(plans.at(last, how))
        try:
            await settle(servers.backend(process), join, effects=ends(clock))
        except ProcessDiedError:
            last += 1
        else:
            assert last > 5
            return
        await clock.sleep(LEASE + 1.0)
        backend, begun = servers.backend(), set[str]()
        for _ in range(3):
            for delivery in (await hop(backend, lease=LEASE)).deliveries:
                begun.add(delivery.message.id)
                await settle(backend, delivery, effects=ends(clock) if delivery.message.id == "f.join" else Effects())
            await clock.sleep(LEASE + 1.0)
        assert "child" in begun, process
        assert await servers.live() == set(), process
        assert (await servers.store.records(["waits"]))["waits"].status is TaskStatus.EXECUTED
