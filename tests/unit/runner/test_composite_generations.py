"""A flow that is opened again across servers: an ending counts in one generation, whoever carries it out, and when."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import pytest

from tests.unit.runner.servers import LEASE, Servers
from tq.clock import Clock
from tq.flow import Reconciler
from tq.model import Delivery, Effects, FlowState, Place, Reopen, StepStatus
from tq.runner.composite import CompositeBackend
from tq.testing import Fault, Faults, ProcessDiedError, plans
from tq.testing.contracts.values import flow, hop, ids, mark, message, record, settle, write

FAILS = Effects(marks=(mark("f", 0, StepStatus.FAIL, error="no"),))


class Told(NamedTuple):
    """A flow of one member, which has been handed out."""

    servers: Servers
    other: CompositeBackend
    """Another process."""
    member: Delivery

    async def state(self) -> FlowState:
        return (await self.servers.barrier.get(["f"]))["f"]

    async def redrive(self) -> None:
        """Let the join run, and then the members that did not succeed once more."""
        now = self.servers.clock.now()
        (join,) = [it for it in (await hop(self.other, lease=LEASE)).deliveries if it.message.id == "f.join"]
        await settle(self.other, join)
        again = message("f.join.1", now, type="join")
        await write(self.other, Effects(reopens=(Reopen(flow_id="f", generation=1, join=again, at=now),)))


async def given(clock: Clock, place: Place = Place.QUEUE) -> Told:
    servers, now = Servers(clock), clock.now()
    other = servers.backend()
    await write(other, Effects(flows=(flow("f", 1, now, allowed=0),)))
    await (servers.queue if place is Place.QUEUE else servers.store).add([message("f.0", now)])
    (member,) = (await hop(other, lease=LEASE)).deliveries
    return Told(servers, other, member)


def failed(told: Told) -> Effects:
    """Return what the failure of the member brings."""
    dead = record("f.0", told.servers.clock.now(), dead=True, body=b"again", fence=told.member.fence)
    return FAILS._replace(records=(dead,))


@pytest.mark.spec("INV-05")
@pytest.mark.parametrize("place", Place)
async def test_an_ending_that_was_counted_does_not_count_in_the_next_generation_too(clock: Clock, place: Place) -> None:
    told = await given(clock, place)
    dying = told.servers.backend(Faults(plans.on("barrier.confirm_join", Fault.DIE_AFTER)))
    with pytest.raises(ProcessDiedError):
        await settle(dying, told.member, effects=failed(told))
    await told.redrive()
    await clock.sleep(LEASE + 1.0)

    begun = (await hop(told.other, lease=LEASE)).deliveries
    # A row that was live was left by the redrive. Now it has ended for good, and the quiet round may revive it.
    begun += (
        (await hop(told.other, lease=LEASE)).deliveries if await told.servers.store.revive(["f.0"], clock.now()) else []
    )

    assert [(it.message.id, it.message.generation) for it in begun] == [("f.0", 1)]
    state = await told.state()
    assert (state.flow.generation, state.failed, state.verdict) == (1, 0, None)


@pytest.mark.spec("INV-05", "F-29")
async def test_who_stood_still_for_longer_than_a_lease_counts_nothing_in_the_next_generation(clock: Clock) -> None:
    told = await given(clock)
    hangs = plans.on("barrier.batch_decrement_and_check", Fault.HANG)
    slow = told.servers.backend(Faults(hangs, clock=clock, hang=3 * LEASE))
    async with asyncio.TaskGroup() as group:
        ending = group.create_task(settle(slow, told.member, effects=failed(told)))
        await clock.sleep(LEASE + 1.0)
        assert (await hop(told.other, lease=LEASE)).deliveries == [], "whoever comes by carries its outcome out"
        await told.redrive()
        (again,) = (await hop(told.other, lease=4 * LEASE)).deliveries
    assert ids([again]) == ["f.0"], "the next generation has begun"
    assert ending.result().refused == [], "its outcome counts: it was recorded in time"

    state = await told.state()
    assert (state.flow.generation, state.failed, state.verdict) == (1, 0, None)


async def test_who_holds_its_lease_counts_in_the_generation_that_is_open(clock: Clock) -> None:
    told = await given(clock)
    await told.servers.barrier.batch_decrement_and_check(FAILS.marks)  # decided by somebody else: the reconciler
    await write(told.other, Effects(messages=(message("f.join", clock.now(), type="join"),), confirms=(("f", 0),)))
    await told.redrive()

    await settle(told.other, told.member, effects=failed(told))

    state = await told.state()
    assert (state.flow.generation, state.failed) == (1, 1)


@pytest.mark.spec("F-05", "INV-05")
async def test_a_join_that_is_written_late_does_not_run_once_more_after_a_redrive(clock: Clock) -> None:
    """Who sent it stood still until another had sent it too, and all that came of it was over."""
    told = await given(clock)
    await told.servers.barrier.batch_decrement_and_check(FAILS.marks)
    hangs = plans.either(plans.on("queue.add", Fault.HANG), plans.on("store.add", Fault.HANG))
    slow = told.servers.backend(Faults(hangs, clock=clock, hang=3 * LEASE))
    async with asyncio.TaskGroup() as group:
        group.create_task(Reconciler(slow, clock).tick_due())
        await clock.sleep(1.0)
        assert (await Reconciler(told.other, clock).tick_due()).dispatched == 1
        await told.redrive()
    assert [id for id in await told.servers.live() if "join" in id] == ["f.join"], "it was written once more"

    begun = ids((await hop(told.other, lease=LEASE)).deliveries)

    assert "f.join" not in begun, "it would be told what came in between"
    assert [id for id in await told.servers.live() if "join" in id] == []
