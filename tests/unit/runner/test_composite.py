"""What a composite of several servers promises besides the suite of every backend."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from tests.unit.runner.servers import Failing, LimitedQueue, Servers, Worker, added, flow, message
from tq.clock import Clock
from tq.codec import decode_projection, dumps, message_of
from tq.errors import BackendError, BackendUnavailableError, ConfigurationError, ContentRefusedError, MissingPortError
from tq.flow import Reconciler, plan_flow
from tq.ids import new_id
from tq.memory import MemoryBackend, MemoryProjections, MemoryQueue, MemoryStore
from tq.model import (
    Batch,
    Claim,
    Delivery,
    Effects,
    Ending,
    Hop,
    Mark,
    Message,
    Place,
    Projection,
    Rearm,
    Receipt,
    Record,
    Remove,
    Renewal,
    Settlement,
    State,
    StepStatus,
    Task,
    TaskStatus,
)
from tq.ports import OutcomeKey
from tq.runner.composite import CompositeBackend
from tq.testing import Faults

AWAY = BackendUnavailableError("away")
REFUSED = ContentRefusedError("too large")


def claim(limit: int = 10, lease: float = 30.0, *, numbers: list[int] = []) -> Claim:  # noqa: B006 -- counts on purpose
    numbers.append(1)
    return Claim(("default",), limit, f"w:{len(numbers)}", lease)


async def take(backend: CompositeBackend, limit: int = 10) -> list[Delivery]:
    return (await backend.commit(Batch(), claim(limit))).deliveries


def ending(delivery: Delivery, end: Ending | None = None, effects: Effects | None = None) -> Settlement:
    return Settlement(delivery.receipt, end or Remove(), effects or Effects(), delivery.place, delivery.message)


async def settle(
    backend: CompositeBackend, delivery: Delivery, end: Ending | None = None, effects: Effects | None = None
) -> Hop:
    return await backend.commit(Batch(settlements=[ending(delivery, end, effects)]))


async def one(servers: Servers, backend: CompositeBackend, id: str = "a", **changes: Any) -> Delivery:
    """Return a delivery of a task that was added to the queue just now."""
    await servers.queue.add([message(id, "plain", servers.clock.now())._replace(**changes)])
    (delivery,) = await take(backend)
    return delivery


def row(id: str, now: float) -> Projection:
    return Projection(id, "e", "E", "t", "default", TaskStatus.EXECUTED, 2, now, now)


# --- construction -----------------------------------------------------------------------------------------------------


def test_a_memory_shorter_than_redelivery_is_refused(clock: Clock) -> None:
    servers = Servers(clock)
    servers.queue.guarantees = servers.queue.guarantees._replace(redelivery=3600.0)
    with pytest.raises(ConfigurationError, match="may deliver again for 3600 s"):
        servers.backend(remember=3600.0)
    assert servers.backend(remember=3601.0).name == "memory"


async def test_flows_without_a_barrier_are_refused_before_anything_is_written(clock: Clock) -> None:
    queue, store = MemoryQueue(clock=clock), MemoryStore(clock=clock)
    backend = CompositeBackend(queue, store, clock=clock)
    await queue.add([message("a", "plain", clock.now())])
    (delivery,) = await take(backend)
    with pytest.raises(MissingPortError, match="barrier="):
        await settle(backend, delivery, effects=Effects(marks=(Mark("f", 0, StepStatus.SUCCESS),)))
    assert await store.stats() == dict.fromkeys(await store.stats(), 0)
    assert (await settle(backend, delivery)).refused == []


# --- what a task costs ------------------------------------------------------------------------------------------------


async def test_a_plain_success_is_one_acknowledgement(clock: Clock) -> None:
    servers, process = Servers(clock), Faults()
    backend = servers.backend(process)
    delivery = await one(servers, backend, new_id(clock.now()))
    process.calls.clear()
    assert (await settle(backend, delivery)).refused == []
    assert process.calls == ["queue.ack"]


async def test_a_busy_queue_is_claimed_from_without_asking_the_store_every_time(clock: Clock) -> None:
    servers, process = Servers(clock), Faults()
    backend = servers.backend(process)
    await servers.queue.add([message(new_id(clock.now()), "plain", clock.now()) for _ in range(40)])
    for _ in range(4):
        assert len(await take(backend, 10)) == 10
    assert process.calls.count("store.claim") == 1
    assert process.calls.count("queue.claim") == 4


# --- who takes a message ----------------------------------------------------------------------------------------------


async def test_messages_go_where_their_time_says(clock: Clock) -> None:
    servers = Servers(clock)
    backend, now = servers.backend(near=60.0), clock.now()
    forced = message_of(Task(type="plain", id="forced", force_store=True), b'"x"', now)
    told = message_of(Task(type="plain", id="told"), b'{"force_store":true}', now)
    sent = [
        message("now", "plain", now),
        *(message(f"in {s}", "plain", now)._replace(run_at=now + s) for s in (60, 61)),
    ]
    await backend.commit(added(*sent, forced, told))
    assert sorted(await servers.queue.locate(["now", "in 60", "in 61", "forced", "told"])) == ["in 60", "now", "told"]
    assert sorted(await servers.store.locate(["now", "in 60", "in 61", "forced", "told"])) == ["forced", "in 61"]


async def test_an_id_is_taken_wherever_it_is(clock: Clock) -> None:
    servers = Servers(clock)
    backend, now = servers.backend(), clock.now()
    later = message("later", "plain", now)._replace(run_at=now + 500)
    await backend.commit(added(message("soon", "plain", now), later))
    await servers.store.record([Record("ended", "default", "plain", TaskStatus.EXECUTED, now, now + 60)])
    swapped = [message("later", "plain", now), message("soon", "plain", now)._replace(run_at=now + 500)]
    hop = await backend.commit(added(*swapped, message("ended", "plain", now), swapped[0]))
    assert sorted(hop.duplicates) == ["ended", "later", "later", "soon"]
    assert len(await servers.live()) == 2


async def test_a_message_that_was_added_without_an_answer_is_not_added_elsewhere(clock: Clock) -> None:
    """Its time has come nearer meanwhile: by it alone the queue would take it now."""
    servers, process = Servers(clock), Failing()
    backend, now = servers.backend(process), clock.now()
    id = new_id(now)
    batch = added(message(id, "plain", now)._replace(run_at=now + 121))
    process.fail("store.add", AWAY, after=True)
    with pytest.raises(BackendUnavailableError):
        await backend.commit(batch)
    await clock.sleep(5)
    assert (await backend.commit(batch)).duplicates == [id]
    assert await servers.queue.list(None, "", 10) == []


# --- claims -----------------------------------------------------------------------------------------------------------


async def filled(servers: Servers, number: int) -> None:
    now = servers.clock.now()
    await servers.queue.add([message(new_id(now), "plain", now) for _ in range(number)])
    await servers.store.add([message(new_id(now), "plain", now) for _ in range(number)])


def places(deliveries: list[Delivery]) -> tuple[int, int]:
    from_store = sum(delivery.place is Place.STORE for delivery in deliveries)
    return len(deliveries) - from_store, from_store


async def test_both_custodians_get_their_share(clock: Clock) -> None:
    servers = Servers(clock)
    backend = servers.backend()
    await filled(servers, 30)
    assert places(await take(backend, 10)) == (5, 5)
    assert places([it for _ in range(10) for it in await take(backend, 1)]) == (5, 5)
    assert places(await take(backend, 100)) == (20, 20)


async def test_what_one_leaves_the_other_gives(clock: Clock) -> None:
    servers = Servers(clock)
    backend, now = servers.backend(), clock.now()
    await servers.store.add([message(new_id(now), "plain", now) for _ in range(10)])
    await servers.queue.add([message(new_id(now), "plain", now)])
    deliveries = await take(backend, 8)
    assert places(deliveries) == (1, 7)
    assert len({delivery.receipt for delivery in deliveries}) == 8
    assert (await backend.commit(Batch(settlements=[ending(it) for it in deliveries]))).refused == []


async def test_a_cap_holds_over_both(clock: Clock) -> None:
    servers = Servers(clock)
    backend = servers.backend()
    await filled(servers, 10)
    hop = await backend.commit(Batch(), claim(10)._replace(caps={("default", "plain"): 7}))
    assert len(hop.deliveries) == 7


async def test_next_due_is_the_sooner_of_both(clock: Clock) -> None:
    servers = Servers(clock)
    backend, now = servers.backend(), clock.now()
    await servers.store.add([message("a", "plain", now)._replace(run_at=now + 300)])
    assert (await backend.commit(Batch(), claim())).next_due == now + 300
    await servers.queue.add([message("b", "plain", now)._replace(run_at=now + 20)])
    assert (await backend.commit(Batch(), claim())).next_due == now + 20


async def test_one_custodian_works_on_while_the_other_is_away(clock: Clock) -> None:
    servers, process = Servers(clock), Failing()
    backend = servers.backend(process)
    await filled(servers, 4)
    process.fail("store.claim", AWAY)
    assert places(await take(backend, 10)) == (4, 0)
    process.fail("queue.claim", AWAY)
    assert places(await take(backend, 3)) == (0, 3)
    process.fail("store.claim", AWAY)
    process.fail("queue.claim", AWAY)
    with pytest.raises(BackendUnavailableError):
        await take(backend, 10)


async def test_what_is_written_is_not_called_into_question_by_a_claim_that_fails(clock: Clock) -> None:
    servers, process = Servers(clock), Failing()
    backend = servers.backend(process)
    delivery = await one(servers, backend)
    process.fail("store.claim", AWAY)
    process.fail("queue.claim", AWAY)
    hop = await backend.commit(Batch(settlements=[ending(delivery)]), claim())
    assert (hop.refused, hop.deliveries) == ([], [])
    assert hop.next_due == clock.now() + 1


async def test_deliveries_of_which_nothing_can_be_told_are_given_back_uncounted(clock: Clock) -> None:
    servers, process = Servers(clock), Failing()
    backend = servers.backend(process)
    await one(servers, backend)
    await clock.sleep(31)
    process.fail("store.outcomes", AWAY)
    assert await take(backend) == []
    await clock.sleep(1.1)
    (again,) = await take(backend)
    assert (again.crashes, again.message.attempt) == (1, 0)


async def test_a_delivery_whose_row_lives_in_the_store_is_left_to_it(clock: Clock) -> None:
    servers = Servers(clock)
    backend = servers.backend()
    delivery = await one(servers, backend)
    await servers.store.park(delivery.message, "w:parked", 100.0)
    await clock.sleep(31)
    assert await take(backend) == []
    assert await servers.queue.locate(["a"]) == {}
    assert (await servers.store.locate(["a"]))["a"].token == "w:parked"


# --- outcomes ---------------------------------------------------------------------------------------------------------


async def test_the_first_outcome_counts_for_everybody(clock: Clock) -> None:
    servers, slow = Servers(clock), Failing()
    first, second = servers.backend(slow), servers.backend()
    delivery = await one(servers, first)
    child = Effects(messages=(message("child", "plain", clock.now()),))
    slow.fail("queue.ack", AWAY)
    with pytest.raises(BackendUnavailableError):
        await settle(first, delivery, effects=child)
    await clock.sleep(31)
    assert [it.message.id for it in await take(second)] == ["child"]  # not run again: it has ended
    assert (await settle(first, delivery, effects=child)).refused == []
    other = await settle(first, delivery, Rearm(clock.now(), 1, b""))
    assert other.refused == [delivery.receipt]
    assert await servers.live() == {"child"}


async def test_an_outcome_that_a_newer_version_wrote_is_left_to_it(clock: Clock) -> None:
    servers = Servers(clock)
    backend = servers.backend()
    delivery = await one(servers, backend)
    await servers.store.put_outcomes([(OutcomeKey("a", 0, 0), dumps({"v": 9}))], clock.now())
    assert (await settle(backend, delivery, Rearm(clock.now(), 1, b""))).refused == [delivery.receipt]
    assert (await servers.queue.locate(["a"]))["a"].attempt == 0
    assert await take(backend) == []
    await clock.sleep(11)
    assert await take(backend) == []
    assert "a" in await servers.live()


async def test_carrying_is_noted_later_where_the_store_is_away(clock: Clock) -> None:
    servers, process = Servers(clock), Failing()
    backend = servers.backend(process)
    delivery = await one(servers, backend)
    process.fail("store.carried", AWAY)
    assert (await settle(backend, delivery)).refused == []
    key = OutcomeKey("a", 0, 0)
    assert not (await servers.store.outcomes([key]))[key].carried
    await settle(backend, await one(servers, backend, "b"))
    assert (await servers.store.outcomes([key]))[key].carried


async def test_two_deliveries_of_one_execution_end_it_once(clock: Clock) -> None:
    servers = Servers(clock)
    backend, now = servers.backend(), clock.now()
    await servers.queue.add([message("a", "plain", now)])
    await servers.store.add([message("a", "plain", now)])
    twins = [*(await servers.queue.claim(claim())).deliveries, *(await servers.store.claim(claim())).deliveries]
    children = [Effects(messages=(message(f"child of {index}", "plain", now),)) for index in range(2)]
    batch = [ending(twin, None, child) for twin, child in zip(twins, children, strict=True)]
    hop = await backend.commit(Batch(settlements=batch))
    assert hop.refused == [twins[1].receipt]
    assert await servers.live() == {"child of 0"}


# --- content that a server refuses ------------------------------------------------------------------------------------


def dead(settlement: Settlement, error: Exception, now: float) -> Settlement:
    id = settlement.receipt.id
    record = Record(id, "default", "plain", TaskStatus.FAILED, now, now + 60, dead=True, error=str(error), body=b"{}")
    return settlement._replace(ending=Remove(), effects=Effects(records=(record,)))


async def settle_or_bury(backend: CompositeBackend, settlement: Settlement, now: float) -> Hop:
    """Settle; what is refused becomes a dead letter, as the committer makes it."""
    with pytest.raises(ContentRefusedError):
        await backend.commit(Batch(settlements=[settlement]))
    with pytest.raises(ContentRefusedError) as refusal:  # once more, as after a split
        await backend.commit(Batch(settlements=[settlement]))
    letter = dead(settlement, refusal.value, now)
    try:
        return await backend.commit(Batch(settlements=[letter]))
    except ContentRefusedError:
        return await backend.commit(Batch(settlements=[letter._replace(effects=Effects())]))


async def test_an_outcome_that_is_refused_gives_way_to_a_dead_letter(clock: Clock) -> None:
    servers, process = Servers(clock), Failing()
    backend = servers.backend(process)
    delivery = await one(servers, backend)
    process.fail("queue.add", REFUSED, times=50)
    child = Effects(messages=(message("child", "plain", clock.now()),))
    hop = await settle_or_bury(backend, ending(delivery, None, child), clock.now())
    assert hop.refused == []
    assert await servers.live() == set()
    assert (await servers.store.records(["a"]))["a"].error == "too large"


async def test_a_dead_letter_that_is_refused_too_gives_way_to_an_ending_without_effects(clock: Clock) -> None:
    servers, process = Servers(clock), Failing()
    backend = servers.backend(process)
    delivery = await one(servers, backend)
    process.fail("queue.add", REFUSED, times=50)
    process.fail("store.record", REFUSED, times=50)
    child = Effects(messages=(message("child", "plain", clock.now()),))
    assert (await settle_or_bury(backend, ending(delivery, None, child), clock.now())).refused == []
    assert await servers.live() == set()


async def test_an_outcome_that_is_refused_to_whoever_finds_it_runs_again_and_ends(clock: Clock) -> None:
    servers, dying, process = Servers(clock), Failing(), Failing()
    delivery = await one(servers, first := servers.backend(dying))
    now = clock.now()
    child = Effects(messages=(message("child", "plain", now),))
    dying.fail("queue.add", AWAY)
    with pytest.raises(BackendUnavailableError):
        await settle(first, delivery, effects=child)
    await servers.queue.add([message("neighbour", "plain", now)])
    await clock.sleep(31)
    process.fail("queue.add", REFUSED, times=50)
    backend = servers.backend(process)
    deliveries = {it.message.id: it for it in await take(backend)}
    assert sorted(deliveries) == ["a", "neighbour"]
    hop = await settle_or_bury(backend, ending(deliveries["a"], None, child), now)
    assert hop.refused == []
    assert (await servers.store.records(["a"]))["a"].dead
    assert await servers.live() == {"neighbour"}
    key = OutcomeKey("a", 0, 0)
    assert (await servers.store.outcomes([key]))[key].carried


async def test_a_member_whose_end_is_refused_still_counts_once_in_its_flow(clock: Clock) -> None:
    servers, process = Servers(clock), Failing()
    backend, now = servers.backend(process), clock.now()
    await backend.commit(Batch(effects=[plan_flow(flow("f", 2), now=now, origin=None, parent=None)]))
    first, second = await take(backend)
    process.fail("queue.add", REFUSED, times=50)
    bad = Effects(marks=(Mark("f", 0, StepStatus.SUCCESS),), messages=(message("child", "plain", now),))
    await settle_or_bury(backend, ending(first, None, bad), now)
    hop = await settle(backend, second, effects=Effects(marks=(Mark("f", 1, StepStatus.SUCCESS),)))
    assert [(state.succeeded, state.failed) for state in hop.closed] == [(2, 0)]


async def test_a_join_that_is_refused_does_not_fail_the_step_that_completes_its_flow(clock: Clock) -> None:
    servers, process = Servers(clock), Failing()
    backend, now = servers.backend(process), clock.now()
    for name in ("f", "g"):
        await backend.commit(Batch(effects=[plan_flow(flow(name, 1), now=now, origin=None, parent=None)]))
    deliveries = await take(backend)
    process.fail("store.add", REFUSED, times=2)  # both together, then the first by itself
    marks = [Effects(marks=(Mark(it.message.id[0], 0, StepStatus.SUCCESS),)) for it in deliveries]
    hop = await backend.commit(
        Batch(settlements=[ending(it, None, mark) for it, mark in zip(deliveries, marks, strict=True)])
    )
    assert (hop.refused, [state.id for state in hop.closed]) == ([], ["g"])
    assert (await Reconciler(backend, clock).tick_due()).dispatched == 1
    assert await servers.live() == {"f.join", "g.join"}


async def test_text_that_cannot_be_written_is_refused_like_any_content(clock: Clock) -> None:
    servers = Servers(clock)
    backend = servers.backend()
    delivery = await one(servers, backend)
    bad = Effects(records=(Record("a", "default", "t", TaskStatus.FAILED, 0.0, 1.0, error="\ud800"),))
    with pytest.raises(ContentRefusedError):
        await settle(backend, delivery, effects=bad)
    assert (await settle(backend, delivery)).refused == []


# --- custody that moves -----------------------------------------------------------------------------------------------


async def test_a_retry_far_away_moves_and_a_near_one_stays(clock: Clock) -> None:
    servers = Servers(clock)
    backend, now = servers.backend(), clock.now()
    await settle(backend, await one(servers, backend, "far"), Rearm(now + 121, 1, b"{}"))
    await settle(backend, await one(servers, backend, "near"), Rearm(now + 119, 1, b"{}"))
    await settle(backend, await one(servers, backend, "lane", lane="L"), Rearm(now + 121, 1, b"{}"))
    assert sorted(await servers.store.locate(["far", "near", "lane"])) == ["far"]
    assert sorted(await servers.queue.locate(["far", "near", "lane"])) == ["lane", "near"]
    await clock.sleep(122)
    found = {it.message.id: it for it in await take(backend)}
    assert {id: (it.message.attempt, it.fence, it.place) for id, it in found.items()} == {
        "far": (1, 2, Place.STORE),
        "near": (1, 2, Place.QUEUE),
        "lane": (1, 2, Place.QUEUE),
    }


async def test_a_fence_never_falls_when_custody_moves(clock: Clock) -> None:
    servers = Servers(clock)
    backend = servers.backend()
    await one(servers, backend)
    await clock.sleep(31)
    (again,) = await take(backend)
    assert again.fence == 2
    await settle(backend, again, Rearm(clock.now() + 500, 1, b""))
    await clock.sleep(501)
    (moved,) = await take(backend)
    assert (moved.fence, moved.crashes) == (3, 0)


async def test_a_queue_that_keeps_no_retries_loses_nothing_of_an_unknown_task(clock: Clock) -> None:
    servers = Servers(clock, LimitedQueue)
    backend = servers.backend()
    first = await one(servers, backend)
    since = clock.now()
    await settle(backend, first, Rearm(since + 5, 0, b"", since))
    await clock.sleep(6)
    (again,) = await take(backend)
    assert (again.unknown_since, again.crashes, again.message.attempt) == (since, 0, 0)
    assert again.fence > first.fence


async def test_a_cancel_moves_along(clock: Clock) -> None:
    servers = Servers(clock)
    backend = servers.backend()
    delivery = await one(servers, backend)
    await servers.queue.cancel(["a"])
    await settle(backend, delivery, Rearm(clock.now() + 500, 1, b""))
    (cancelled,) = await take(backend)
    assert (cancelled.cancelled, cancelled.place) == (True, Place.STORE)


async def test_a_lane_keeps_its_order_where_its_head_has_moved(clock: Clock) -> None:
    servers = Servers(clock, LimitedQueue)
    backend, now = servers.backend(), clock.now()
    await servers.queue.add([message(id, "plain", now)._replace(lane="L") for id in ("1", "2", "3")])
    (head,) = await take(backend)
    await settle(backend, head, Rearm(now + 10, 1, b""))
    assert await take(backend) == []
    assert await take(backend) == []
    assert await servers.queue.list(None, "", 10) == []
    await clock.sleep(11)
    order: list[str] = []
    for _ in range(3):
        (delivery,) = await take(backend)
        order.append(delivery.message.id)
        await settle(backend, delivery)
    assert order == ["1", "2", "3"]


async def test_where_queue_and_store_are_one_nothing_moves(clock: Clock) -> None:
    home = MemoryBackend(clock=clock)
    backend = CompositeBackend(home.queue, home.store, MemoryBackend(clock=clock).barrier, clock=clock)
    await home.queue.add([message("a", "plain", clock.now())])
    (delivery,) = await take(backend)
    await settle(backend, delivery, Rearm(clock.now() + 3600, 0, b""))
    await clock.sleep(3601)
    (again,) = await take(backend)
    parked = await backend.park(again, "w:parked", 30.0)
    assert parked is not None
    assert (await settle(backend, parked)).refused == []
    assert await home.queue.locate(["a"]) == {}


# --- parking ----------------------------------------------------------------------------------------------------------


async def test_a_row_that_cannot_be_written_leaves_message_and_lease_as_they_are(clock: Clock) -> None:
    servers, process = Servers(clock), Failing()
    backend = servers.backend(process)
    delivery = await one(servers, backend)
    process.fail("store.park", AWAY)
    with pytest.raises(BackendUnavailableError):
        await backend.park(delivery, "w:parked", 30.0)
    assert (await servers.queue.locate(["a"]))["a"].token == delivery.token
    parked = await backend.park(delivery, "w:again", 30.0)
    assert parked is not None
    assert (parked.place, parked.fence) == (Place.STORE, 1)
    assert await servers.queue.locate(["a"]) == {}
    assert (await settle(backend, parked)).refused == []


@pytest.mark.parametrize("verb", ["store.park", "queue.ack"])
async def test_a_delivery_that_may_be_parked_is_settled_in_both_places(clock: Clock, verb: str) -> None:
    servers, process = Servers(clock), Failing()
    backend = servers.backend(process)
    delivery = await one(servers, backend, new_id(clock.now()))
    process.fail(verb, AWAY, after=verb == "store.park")
    with pytest.raises(BackendUnavailableError):
        await backend.park(delivery, "w:parked", 30.0)
    assert (await settle(backend, delivery)).refused == []
    assert await servers.live() == set()


@pytest.mark.parametrize("verb", ["store.park", "queue.ack"])
async def test_parking_goes_on_where_it_failed(clock: Clock, verb: str) -> None:
    servers, process = Servers(clock), Failing()
    backend = servers.backend(process)
    delivery = await one(servers, backend)
    process.fail(verb, AWAY, after=verb == "store.park")
    with pytest.raises(BackendUnavailableError):
        await backend.park(delivery, "w:parked", 30.0)
    parked = await backend.park(delivery, "w:again", 30.0)
    assert parked is not None
    assert parked.token == "w:parked"
    assert (await settle(backend, parked)).refused == []
    assert await servers.live() == set()


@pytest.mark.spec("D-36", "INV-02")
@pytest.mark.parametrize("verb", ["queue.renew", "store.park", "queue.ack"])
async def test_parking_that_was_not_answered_is_found_when_it_is_asked_for_again(clock: Clock, verb: str) -> None:
    servers, process = Servers(clock), Failing()
    backend = servers.backend(process)
    delivery = await one(servers, backend)
    process.fail(verb, AWAY, after=True)
    with pytest.raises(BackendUnavailableError):
        await backend.park(delivery, "w:parked", 30.0)
    parked = await backend.park(delivery, "w:parked", 60.0)
    assert parked is not None
    await clock.sleep(40)
    assert await take(backend) == [], "its lease runs on"
    assert (await settle(backend, parked)).refused == []
    assert await servers.live() == set()


class Overtaken(Failing):
    """A process that stands still before it acknowledges, until its lease is over and something has happened."""

    def __init__(self, servers: Servers, happens: Callable[[CompositeBackend], Awaitable[object]]) -> None:
        super().__init__()
        self._servers = servers
        self._happens = happens

    async def call(self, name: str, verb: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if name == "queue.ack":
            await self._servers.clock.sleep(31)
            await self._happens(self._servers.backend())
        return await super().call(name, verb, args, kwargs)


async def test_a_row_that_another_worker_relies_on_stays(clock: Clock) -> None:
    servers = Servers(clock)
    backend = servers.backend(Overtaken(servers, take))
    await backend.park(await one(servers, backend), "w:parked", 30.0)
    assert await servers.queue.locate(["a"]) == {}
    assert "a" in await servers.store.locate(["a"])


async def test_who_loses_the_lease_while_parking_to_one_who_ends_it_leaves_no_row(clock: Clock) -> None:
    servers = Servers(clock)

    async def ends(_: CompositeBackend) -> None:
        (delivery,) = (await servers.queue.claim(claim())).deliveries  # it looked for a row before there was one
        await settle(servers.backend(), delivery)

    backend = servers.backend(Overtaken(servers, ends))
    delivery = await one(servers, backend)
    assert await backend.park(delivery, "w:parked", 30.0) is None
    assert await servers.live() == set()


async def test_a_delivery_of_the_store_is_parked_already(clock: Clock) -> None:
    servers = Servers(clock)
    backend = servers.backend()
    await servers.store.add([message("a", "plain", clock.now())])
    (delivery,) = await take(backend)
    assert await backend.park(delivery, "w:parked", 100.0) == delivery
    await clock.sleep(50)
    assert await take(backend) == []
    assert (await settle(backend, delivery)).refused == []
    assert await backend.park(delivery, "w:late", 100.0) is None


# --- projections ------------------------------------------------------------------------------------------------------


async def test_rows_that_a_provider_does_not_take_wait_in_the_outbox(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    servers, process, rows = Servers(clock), Failing(), MemoryProjections(clock=clock)
    parts = servers.queue, servers.store, servers.barrier, process.projections(rows)
    backend = CompositeBackend(*parts, clock=clock)
    now = clock.now()
    process.fail("projections.upsert_projections", RuntimeError("a bug of its own"))
    with caplog.at_level(logging.WARNING):
        await backend.commit(Batch(effects=[Effects(projections=(row("a", now), row("b", now)))]))
    assert "a bug of its own" in caplog.text
    assert await rows.get_projections(["a", "b"]) == {}
    await backend.commit(Batch(effects=[Effects(projections=(row("c", now),))]))
    waiting = [decode_projection(note.body).task_id for note in await servers.store.outgoing("projection", 10)]
    assert waiting == ["a", "b"], "in the outbox, and in nobody's way"
    assert sorted(await rows.get_projections(["a", "b", "c"])) == ["c"]


async def test_without_a_provider_rows_are_notes(clock: Clock) -> None:
    servers = Servers(clock)
    sent = row("a", clock.now())
    await servers.backend().commit(Batch(effects=[Effects(projections=(sent,))]))
    (note,) = await servers.store.outgoing("projection", 10)
    assert (note.id, decode_projection(note.body)) == ("a:2", sent)


# --- flows ------------------------------------------------------------------------------------------------------------


async def test_a_flow_survives_a_producer_that_dies_while_it_starts_it(clock: Clock) -> None:
    servers, dying = Servers(clock), Failing()
    dying.fail("queue.add", AWAY)
    effects = plan_flow(flow("f", 3), now=clock.now(), origin=None, parent=None)
    with pytest.raises(BackendUnavailableError):
        await servers.backend(dying).commit(Batch(effects=[effects]))
    backend = servers.backend()
    assert (await Reconciler(backend, clock).tick_due()).spread == 3
    await Worker(servers, backend).run()
    assert servers.joined == [("f.join", 3, 3)]


async def test_a_second_start_adds_no_members_and_leaves_the_first_plan_alone(clock: Clock) -> None:
    servers = Servers(clock)
    backend = servers.backend()
    await backend.commit(Batch(effects=[plan_flow(flow("f", 2), now=clock.now(), origin=None, parent=None)]))
    await Worker(servers, backend).run()
    await clock.sleep(1)
    await backend.commit(Batch(effects=[plan_flow(flow("f", 5), now=clock.now(), origin=None, parent=None)]))
    assert await servers.live() == set()
    state = (await servers.barrier.get(["f"]))["f"]
    assert (state.flow.total, state.spread) == (2, state.flow.chunks)


async def test_flows_that_a_failed_commit_decided_are_told_by_the_next(clock: Clock) -> None:
    servers, process = Servers(clock), Failing()
    backend = servers.backend(process)
    await backend.commit(Batch(effects=[plan_flow(flow("f", 1), now=clock.now(), origin=None, parent=None)]))
    (delivery,) = await take(backend)
    process.fail("queue.ack", AWAY)
    mark = Effects(marks=(Mark("f", 0, StepStatus.SUCCESS),))
    with pytest.raises(BackendUnavailableError):
        await settle(backend, delivery, effects=mark)
    hop = await settle(backend, delivery, effects=mark)
    assert [(state.id, state.confirmed) for state in hop.closed] == [("f", True)]
    assert (await backend.commit(Batch(effects=[mark]))).closed == []


# --- around it --------------------------------------------------------------------------------------------------------


async def test_parts_without_a_home_are_released_by_what_they_tell(clock: Clock) -> None:
    servers = Servers(clock)
    process = Faults()  # its parts tell of no home
    backend = servers.backend(process)
    now = clock.now()
    await servers.queue.add([message("a", "plain", now)._replace(attempt=2, stats=b"{}")])
    await servers.store.add([message("b", "plain", now)])
    deliveries = await take(backend)
    await backend.release([it.receipt for it in deliveries])
    found = {it.message.id: it for it in await take(backend)}
    assert {id: (it.message.attempt, it.message.stats, it.crashes) for id, it in found.items()} == {
        "a": (2, b"{}", 0),
        "b": (0, b"", 0),
    }


@pytest.mark.realtime
async def test_a_part_without_a_home_is_renewed_in_its_own_loop(clock: Clock) -> None:
    backend = CompositeBackend(MemoryQueue(clock=clock), MemoryStore(clock=clock), clock=clock)
    await backend.queue.add([message("a", "plain", clock.now())])
    (delivery,) = await take(backend)

    async def renew() -> None:
        async with backend.keeper() as keeper:
            assert (await keeper.renew([delivery], 600.0)).lost == ()

    await asyncio.to_thread(asyncio.run, renew())
    assert (await backend.queue.locate(["a"]))["a"].lease_until > clock.now() + 500


async def test_a_part_that_is_away_takes_no_lease_of_another_one_along(clock: Clock) -> None:
    class Unreachable(MemoryQueue):
        async def renew(self, receipts: Sequence[Receipt], lease: float) -> Renewal:
            raise BackendUnavailableError("away")

    backend = CompositeBackend(Unreachable(clock=clock), MemoryStore(clock=clock), clock=clock)
    await backend.queue.add([message("a", "plain", clock.now())])
    await backend.store.put([(message("b", "plain", clock.now()), "")])
    deliveries = await take(backend)
    assert len(deliveries) == 2
    async with backend.keeper() as keeper:
        with pytest.raises(BackendUnavailableError):
            await keeper.renew(deliveries, 600.0)
    assert (await backend.store.locate(["b"]))["b"].lease_until > clock.now() + 500


async def test_workers_hear_of_what_is_written_and_of_what_the_parts_take(clock: Clock) -> None:
    home = MemoryBackend(clock=clock)
    backend = CompositeBackend(home.queue, MemoryStore(clock=clock), clock=clock)
    rung: list[int] = []
    forget = backend.on_change(lambda: rung.append(1))
    await home.queue.add([message("a", "plain", clock.now())])
    assert rung
    rung.clear()
    await backend.commit(added(message("b", "plain", clock.now())._replace(run_at=clock.now() + 500)))
    assert rung
    forget()
    rung.clear()
    await backend.commit(added(message("c", "plain", clock.now())))
    assert not rung


async def test_every_part_is_closed_though_one_of_them_fails(clock: Clock) -> None:
    servers, process = Servers(clock), Failing()
    backend = servers.backend(process)
    process.fail("queue.close", BackendError("it hangs"))
    with pytest.raises(BackendError, match="it hangs"):
        await backend.close()
    assert {"queue.close", "store.close", "barrier.close"} <= set(process.calls)


async def test_running_alone_is_noted_wherever_the_delivery_is(clock: Clock) -> None:
    servers = Servers(clock)
    backend, now = servers.backend(), clock.now()
    await servers.queue.add([message("a", "plain", now)])
    await servers.store.add([message("b", "plain", now)])
    await backend.commit(Batch(solo=[it.receipt for it in await take(backend)]))
    await clock.sleep(31)
    assert {it.message.id: it.solo_crashes for it in await take(backend)} == {"a": 1, "b": 1}


async def test_a_message_without_a_body_cannot_move(clock: Clock) -> None:
    servers = Servers(clock)
    backend = servers.backend()
    delivery = await one(servers, backend)
    far = Rearm(clock.now() + 500, 1, b"")
    with pytest.raises(ContentRefusedError, match="without its message"):
        await backend.commit(Batch(settlements=[Settlement(delivery.receipt, far)]))
    assert (await servers.queue.locate(["a"]))["a"].state is State.RUNNING


def test_a_message_is_what_it_says() -> None:
    """The helper of this file makes messages as the library does."""
    assert isinstance(message("a", "plain", 0.0), Message)
