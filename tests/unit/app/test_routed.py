"""Several brokers as one queue."""

from __future__ import annotations

from typing import cast

import pytest

from tq.app.routed import RoutedQueue
from tq.clock import Clock
from tq.errors import BackendUnavailableError, ConfigurationError, ContentRefusedError, InvalidInputError
from tq.memory import MemoryBackend, MemoryQueue
from tq.model import Claim, Message, Rearm, Receipt
from tq.ports import Claimed, MessageQueue


class Brokers:
    def __init__(self, clock: Clock) -> None:
        self.a = MemoryBackend(clock=clock).queue
        self.b = MemoryBackend(clock=clock).queue
        self.now = clock.now()

    def message(self, id: str, queue: str) -> Message:
        return Message(id, queue, "t", b"{}", self.now)


def claim(limit: int = 10, *queues: str, token: str = "w:1") -> Claim:
    return Claim(queues or ("a", "b", "c"), limit, token, 30.0)


async def test_each_broker_takes_its_queues(clock: Clock) -> None:
    brokers = Brokers(clock)
    routed = RoutedQueue({"a": brokers.a, "*": brokers.b})
    assert await routed.add([brokers.message(name, name) for name in "abc"]) == []
    assert [place.id for place in await brokers.a.list(None, "", 10)] == ["a"]
    assert [place.id for place in await brokers.b.list(None, "", 10)] == ["b", "c"]
    assert [place.id for place in await routed.list(None, "", 2)] == ["a", "b"]
    assert [place.id for place in await routed.list("c", "", 10)] == ["c"]
    assert sorted(await routed.locate(["a", "c", "never"])) == ["a", "c"]
    assert {queue: counts["waiting"] for queue, counts in (await routed.counts()).items()} == {"a": 1, "b": 1, "c": 1}


async def test_a_queue_that_nobody_takes_is_refused_before_anything_is_added(clock: Clock) -> None:
    brokers = Brokers(clock)
    routed = RoutedQueue({"a": brokers.a})
    with pytest.raises(ContentRefusedError, match="no broker takes queue 'b' of task 2"):
        await routed.add([brokers.message("1", "a"), brokers.message("2", "b")])
    assert await routed.counts() == {}
    assert (await routed.claim(claim(10, "b"))).deliveries == []
    await routed.pause("b", paused=True)
    assert await routed.list("b", "", 10) == []


async def test_receipts_find_their_way_back(clock: Clock) -> None:
    brokers = Brokers(clock)
    routed = RoutedQueue({"a": brokers.a, "*": brokers.b})
    await routed.add([brokers.message(f"{queue}{number}", queue) for queue in "ab" for number in range(3)])
    deliveries = {it.message.id: it for it in (await routed.claim(claim())).deliveries}
    receipts = {id: it.receipt for id, it in deliveries.items()}
    stranger = Receipt("b1", "w:never")
    assert await routed.ack([receipts["a0"], stranger, receipts["b0"]]) == [stranger]
    assert await routed.rearm([(receipts["a1"], Rearm(brokers.now, 1, b"")), (stranger, Rearm(0.0, 0, b""))]) == [
        stranger
    ]
    await routed.cancel(["b2", "never"])
    renewal = await routed.renew([receipts["a2"], receipts["b2"], receipts["a0"]], 60.0)
    assert (renewal.lost, renewal.cancelled) == ((receipts["a0"],), (receipts["b2"],))
    other = RoutedQueue({"a": brokers.a, "*": brokers.b})  # another process has handed out nothing, and asks all
    assert await other.solo([receipts["b1"], receipts["a2"], receipts["a1"]]) == [receipts["a1"]]
    assert await other.ack([receipts["b1"], receipts["a2"]]) == []


async def test_a_limit_is_shared_and_what_one_leaves_goes_to_the_other(clock: Clock) -> None:
    brokers = Brokers(clock)
    routed = RoutedQueue({"a": brokers.a, "b": brokers.b})
    await routed.add([brokers.message(f"a{number}", "a") for number in range(20)])
    await routed.add([brokers.message("b0", "b"), brokers.message("b1", "b")])
    haul = await routed.claim(claim(8))
    names = sorted(it.message.id[0] for it in haul.deliveries)
    assert (names.count("a"), names.count("b")) == (6, 2)
    assert haul.next_due is None
    await routed.add([brokers.message(f"b{number}", "b") for number in range(2, 22)])
    firsts = [(await routed.claim(claim(1, token=f"w:{turn}"))).deliveries[0].message.queue for turn in range(2, 8)]
    assert firsts.count("a") == firsts.count("b") == 3


async def test_a_cap_holds_over_every_round_of_a_claim(clock: Clock) -> None:
    brokers = Brokers(clock)
    routed = RoutedQueue({"a": brokers.a, "b": brokers.b})
    await routed.add([brokers.message(f"a{number}", "a") for number in range(20)])
    haul = await routed.claim(claim(8)._replace(caps={("a", "t"): 5}))
    assert len(haul.deliveries) == 5


async def test_workers_are_announced_where_they_serve(clock: Clock) -> None:
    brokers = Brokers(clock)
    routed = RoutedQueue({"a": brokers.a, "*": brokers.b})
    await routed.announce("w", ["a", "c"], 60.0)
    assert (await brokers.a.announced(), await brokers.b.announced()) == (["a"], ["c"])
    assert await routed.announced() == ["a", "c"]
    await routed.announce("w", ["c"], 60.0)
    assert await routed.announced() == ["c"]


async def test_pauses_go_where_the_queue_is(clock: Clock) -> None:
    brokers = Brokers(clock)
    routed = RoutedQueue({"a": brokers.a, "*": brokers.b})
    await routed.pause("a", paused=True)
    await routed.pause("c", paused=True)
    assert (await brokers.a.paused(), await brokers.b.paused()) == (["a"], ["c"])
    assert await routed.paused() == ["a", "c"]


class Weak:
    def __init__(self, queue: MessageQueue, **guarantees: object) -> None:
        self._queue = queue
        self.name = "weak"
        self.guarantees = queue.guarantees._replace(**guarantees)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> object:
        return getattr(self._queue, name)


def weak(queue: MessageQueue, **guarantees: object) -> MessageQueue:
    return cast("MessageQueue", Weak(queue, **guarantees))


def test_it_guarantees_what_all_of_them_do(clock: Clock) -> None:
    brokers = Brokers(clock)
    able = weak(brokers.a, durable=True, shared=True)
    routed = RoutedQueue({"a": able, "b": weak(brokers.b, delays=False, rearms=False, redelivery=60.0)})
    assert routed.name == "weak"
    declared = routed.guarantees
    assert (declared.durable, declared.shared, declared.delays, declared.rearms) == (False, False, False, False)
    assert (declared.locates, declared.redelivery) == (True, 60.0)


def test_what_cannot_be_routed_is_refused_when_it_is_made(clock: Clock) -> None:
    with pytest.raises(InvalidInputError):
        RoutedQueue({})
    with pytest.raises(ConfigurationError, match="inline"):
        RoutedQueue({"*": weak(Brokers(clock).a, inline=True)})


async def test_changes_of_every_broker_are_told(clock: Clock) -> None:
    brokers = Brokers(clock)
    routed = RoutedQueue({"a": brokers.a, "*": brokers.b})
    rung: list[int] = []
    forget = routed.on_change(lambda: rung.append(1))
    await brokers.a.add([brokers.message("1", "a")])
    await brokers.b.add([brokers.message("2", "b")])
    assert len(rung) == 2
    forget()
    await brokers.a.add([brokers.message("3", "a")])
    assert len(rung) == 2


async def test_one_broker_under_two_names_is_asked_once(clock: Clock) -> None:
    brokers = Brokers(clock)
    routed = RoutedQueue({"a": brokers.a, "b": brokers.a})
    await routed.add([brokers.message("1", "a"), brokers.message("2", "b")])
    assert len((await routed.claim(claim(2))).deliveries) == 2
    assert len(await routed.list(None, "", 10)) == 2
    await routed.close()


class Away(MemoryQueue):
    """A broker that may be away."""

    away = False

    async def claim(self, claim: Claim) -> Claimed:
        if self.away:
            raise BackendUnavailableError(f"{self.name} cannot be reached")
        return await super().claim(claim)


@pytest.mark.parametrize("missing", ["a", "b"])
async def test_what_one_broker_handed_out_is_not_forgotten_because_another_is_away(clock: Clock, missing: str) -> None:
    """Its lease would run out, and count as a crash of a task that nobody has seen."""
    brokers = {"a": Away(clock=clock), "b": Away(clock=clock)}
    routed = RoutedQueue(brokers)
    there = "ab".replace(missing, "")
    await routed.add(
        [Message(f"{name}{number}", name, "t", b"{}", clock.now()) for name in "ab" for number in range(9)]
    )
    brokers[missing].away = True
    first = await routed.claim(claim(4))
    second = await routed.claim(claim(4, token="w:2"))
    assert [it.message.id for it in [*first.deliveries, *second.deliveries]] == [
        f"{there}{number}" for number in range(8)
    ]
    brokers[there].away = True
    with pytest.raises(BackendUnavailableError):
        await routed.claim(claim(4, token="w:3"))
