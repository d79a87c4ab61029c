"""Random histories, made to memory and to another backend, and compared answer by answer."""

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self, cast

from tq.memory import MemoryBackend
from tq.model import (
    Batch,
    Chunk,
    Claim,
    Delivery,
    Effects,
    Ending,
    Flow,
    Hold,
    Hop,
    Mark,
    Message,
    Outgoing,
    Place,
    Projection,
    Rearm,
    Receipt,
    Record,
    Remove,
    Reopen,
    Resolve,
    Settlement,
    StepStatus,
    TaskStatus,
    Verdict,
    Whereabouts,
)
from tq.ports import (
    Backend,
    Claimed,
    FlowBarrierProvider,
    MessageQueue,
    OutcomeKey,
    ProjectionQuery,
    TaskStore,
)
from tq.testing import VirtualClock

QUEUES = ("a", "b")
TYPES = ("x", "y", "z")
BOTH = (StepStatus.SUCCESS, StepStatus.FAIL)


class Side(NamedTuple):
    """A backend and its parts."""

    backend: Backend
    queue: MessageQueue
    store: TaskStore
    barrier: FlowBarrierProvider
    projections: ProjectionQuery

    @classmethod
    def of(cls, backend: Backend) -> Self:
        barrier, projections = backend.barrier, backend.projections
        assert barrier is not None
        assert projections is not None
        return cls(backend, backend.queue, backend.store, barrier, cast("ProjectionQuery", projections))


Verb = Callable[[Side], Awaitable[Any]]


def plain(value: Any) -> Any:
    """Return an answer without what the two may see differently."""
    match value:
        case Whereabouts():
            # A cancelled message that waits is due at once; by how much it is overdue is nobody's business.
            return value._replace(place=Place.QUEUE, run_at=0.0 if value.cancelled else value.run_at)
        case Delivery():
            return value._replace(place=Place.QUEUE)
        case Hop():  # in which order a batch is written is the server's own affair
            closed = sorted(value.closed, key=lambda state: state.id)
            seen = [
                by_order(value.deliveries),
                sorted(value.refused),
                closed,
                sorted(value.duplicates),
                sorted(value.cancelled),
            ]
            return plain(seen)
        case Claimed():
            return plain([by_order(value.deliveries), sorted(value.cancelled)])
        case list() | tuple():
            return [plain(item) for item in cast("Sequence[Any]", value)]
        case dict():
            return plain_items(value)  # pyright: ignore[reportUnknownArgumentType] -- of whatever the answer holds
        case _:
            return value


def plain_items(items: dict[Any, Any]) -> dict[Any, Any]:
    """Return the same by key."""
    return {key: plain(item) for key, item in items.items()}


def by_order(deliveries: Sequence[Delivery]) -> list[Delivery]:
    """Return what is to be run in its order; what is only to be ended has none."""
    cancelled = [delivery for delivery in deliveries if delivery.cancelled]
    return [delivery for delivery in deliveries if not delivery.cancelled] + sorted(cancelled)


def looks_too_late(wanted: Any, got: Any) -> bool:
    """Tell whether a worker told by `got` would miss something; looking for leases of other queues, too, is no harm."""
    if not isinstance(wanted, Hop | Claimed) or wanted.next_due is None:
        return False
    assert isinstance(got, Hop | Claimed)
    return got.next_due is None or got.next_due > wanted.next_due


@dataclass
class History:
    """Makes up what happens next, from what has happened."""

    random: random.Random
    clock: VirtualClock
    cancels: bool
    """Whether messages are cancelled; claims then take all there is, because the order of such messages is nobody's."""
    receipts: list[Receipt] = field(default_factory=list[Receipt])
    flows: dict[str, int] = field(default_factory=dict[str, int])
    made: int = 0
    tokens: int = 0

    def id(self, new: float = 0.8) -> str:
        """Return an id, mostly a new one."""
        if self.made and self.random.random() > new:
            return f"m{self.random.randrange(self.made)}"
        self.made += 1
        return f"m{self.made - 1}"

    def instant(self) -> float:
        return self.clock.now() + self.random.choice((-50.0, -1.0, 0.0, 0.0, 5.0, 40.0))

    def message(self, id: str = "") -> Message:
        lane = self.random.choice(("", "", "", "l1", "l2"))
        queue, type = self.random.choice(QUEUES), self.random.choice(TYPES)
        return Message(id or self.id(), queue, type, b"{}", self.instant(), lane=lane)

    def receipt(self) -> Receipt:
        if self.receipts and self.random.random() < 0.9:
            receipt = self.random.choice(self.receipts)
            if self.random.random() < 0.8:
                self.receipts.remove(receipt)
            return receipt
        return Receipt(f"m{self.random.randrange(self.made + 1)}", "w0:none")

    def token(self) -> str:
        self.tokens += 1
        return f"w{self.random.randrange(3)}:{self.tokens}"

    def claim(self) -> Claim:
        exclude = [(queue, type) for queue in QUEUES for type in TYPES if self.random.random() < 0.15]
        limit = 50 if self.cancels else self.random.choice((1, 2, 5, 50))
        queues = self.random.choice((("a", "b"), ("b", "a", "none")))  # memory leaves the dead of other queues lying
        return Claim(
            queues,
            limit,
            self.token(),
            self.random.choice((10.0, 30.0)),
            dict.fromkeys(exclude, self.random.choice((0, 0, 1, 2))),
        )

    def flow_id(self) -> str:
        return self.random.choice([*self.flows, "unknown"])

    def flow(self) -> Flow:
        id = (
            f"f{len(self.flows)}" if self.random.random() < 0.9 or not self.flows else self.random.choice([*self.flows])
        )
        total = self.random.choice((0, 1, 2, 3, 5))
        self.flows.setdefault(id, 0)
        allowed = self.random.randint(0, total)
        return Flow(
            id=id,
            total=total,
            allowed=allowed,
            needed=self.random.choice((total, max(total - allowed, 1))),
            join=Message(f"{id}.join", "a", "x", b"{}", 0.0),
            started_at=self.clock.now(),
            deadline=self.random.choice((None, self.clock.now() + 20)),
            cancel_siblings=self.random.random() < 0.3,
            chunks=self.random.choice((0, 0, 2)),
        )

    def mark(self) -> Mark:
        status = self.random.choice((*BOTH, StepStatus.CANCELLED))
        return Mark(self.flow_id(), self.random.randrange(6), status, self.random.randrange(2), b"1", "e")

    def record(self, id: str = "") -> Record:
        status = self.random.choice((TaskStatus.EXECUTED, TaskStatus.FAILED, TaskStatus.CANCELLED))
        dead = status is TaskStatus.FAILED
        body = self.random.choice((b"{}", None)) if dead else None
        generation, now = self.random.randrange(3), self.clock.now()
        return Record(
            id or self.id(), "a", "x", status, now + self.random.random(), now + 60, generation, dead=dead, body=body
        )

    def reopen(self) -> Reopen:
        id = self.flow_id()
        generation = self.flows.get(id, 0) + self.random.choice((1, 1, 1, 2))
        if id in self.flows:
            self.flows[id] = max(self.flows[id], generation)
        join = Message(f"{id}.join.{generation}", "b", "y", b"{}", 0.0, generation)
        return Reopen(flow_id=id, generation=generation, join=join, at=self.clock.now(), stats=b"{}")

    def projection(self) -> Projection:
        now = self.clock.now()
        status = self.random.choice(list(TaskStatus))
        return Projection(self.id(), "e1", "E", "x", "a", status, self.random.randrange(9), now, now, b"{}", None, None)

    def effects(self) -> Effects:
        def some(make: Callable[[], Any], often: float = 0.2) -> tuple[Any, ...]:
            return tuple(make() for _ in range(3) if self.random.random() < often)

        pick = self.random
        return Effects(
            messages=some(lambda: self.message(self.id(1.0))),
            records=some(lambda: self.record(f"r{pick.randrange(40)}")),
            flows=some(self.flow, 0.1),
            marks=some(self.mark, 0.4),
            confirms=some(lambda: (self.flow_id(), pick.randrange(2)), 0.05),
            projections=some(self.projection),
            chunks=some(
                lambda: Chunk("p", pick.randrange(3), (Message("c", "a", "x", b"", 1.0),), self.clock.now()), 0.1
            ),
            spreads=some(lambda: (self.flow_id(), pick.randrange(3)), 0.1),
            outgoing=some(lambda: Outgoing(pick.choice(("t", "u")), f"n{pick.randrange(9)}", b"{}"), 0.1),
            resolves=some(
                lambda: Resolve(f"m{pick.randrange(self.made + 1)}", self.flow_id(), Effects(marks=some(self.mark))),
                0.1,
            ),
            reopens=some(self.reopen, 0.1),
            verdicts=some(lambda: (self.flow_id(), pick.choice((Verdict.CANCELLED, Verdict.TIMED_OUT)), "why"), 0.1),
        )

    def ending(self) -> Ending:
        again = Rearm(self.instant(), self.random.randrange(3), b"{}", self.random.choice((0.0, 1.0)))
        return self.random.choice((Remove(), Remove(), again, Hold(self.flow_id())))

    def batch(self) -> Batch:
        """Return endings of different deliveries, one of which may bring something."""
        receipts = dict.fromkeys(self.receipt() for _ in range(self.random.randrange(5)))
        settlements = [Settlement(receipt, self.ending()) for receipt in receipts]
        effects: list[Effects] = []
        if settlements and self.random.random() < 0.6:
            settlements[-1] = settlements[-1]._replace(effects=self.effects())
        elif self.random.random() < 0.6:
            effects.append(self.effects())
        return Batch(settlements, effects, [self.receipt() for _ in range(self.random.randrange(2))])

    def next(self) -> Verb:
        """Return what happens next."""
        pick = self.random
        ids = [f"m{pick.randrange(self.made + 1)}" for _ in range(3)]
        receipts = [self.receipt() for _ in range(pick.randrange(4))]
        now, claim, batch = self.clock.now(), self.claim(), self.batch()
        messages, record, flow = [self.message() for _ in range(4)], self.record(), self.flow()
        mark, reopen, flow_id, again = self.mark(), self.reopen(), self.flow_id(), self.ending()
        rearm = again if isinstance(again, Rearm) else Rearm(now, 0, b"")
        execution = OutcomeKey(ids[0], pick.randrange(2), pick.randrange(2))
        parked = self.message(f"s{pick.randrange(20)}")._replace(attempt=pick.randrange(3), lane="")
        queue, paused, token, held = pick.choice(QUEUES), pick.random() < 0.3, self.token(), pick.choice(("", flow_id))
        stored = f"s{pick.randrange(20)}"
        commit: list[Verb] = [lambda it: it.backend.commit(batch, claim), lambda it: it.backend.commit(batch)]
        custody: list[Verb] = [
            lambda it: it.queue.add(messages),
            lambda it: it.queue.claim(claim),
            lambda it: it.queue.ack(receipts),
            lambda it: it.queue.rearm([(receipt, rearm) for receipt in receipts]),
            lambda it: it.queue.solo(receipts),
            lambda it: it.queue.renew(receipts, 15.0),
            lambda it: it.queue.cancel(ids if self.cancels else []),
            lambda it: it.backend.release(receipts),
            lambda it: it.queue.pause(queue.upper(), paused),
            lambda it: it.queue.announce(queue, [queue, "c"], 10.0),
            lambda it: it.store.put([(parked, held)]),
            lambda it: it.store.park(parked, token, 10.0),
            lambda it: it.store.resolve(stored, flow_id),
            lambda it: it.store.append_if_parked("l1", [message._replace(lane="l1") for message in messages[:2]]),
        ]
        endings: list[Verb] = [
            lambda it: it.store.record([record]),
            lambda it: it.store.revive([*ids, "r1", "r2", "r3"], now, b"{}"),
            lambda it: it.store.forget(ids),
            lambda it: it.store.put_outcomes([(execution, token.encode())], now),
            lambda it: it.store.carried([execution]),
            lambda it: it.store.purge(now, 30.0, 1000),
        ]
        barrier: list[Verb] = [
            lambda it: it.barrier.init_barrier([flow]),
            lambda it: it.barrier.batch_decrement_and_check([mark]),
            lambda it: it.barrier.mark_aborted(flow_id, Verdict.CANCELLED, "asked"),
            lambda it: it.barrier.confirm_join([(flow_id, 0), (flow_id, 1)]),
            lambda it: it.barrier.reopen(reopen),
            lambda it: it.barrier.advance(flow_id, spread=1, tidied=True),
            lambda it: it.barrier.purge(now - 200, 1000),
        ]
        return pick.choice(pick.choice((commit, commit, custody, custody, endings, barrier)))


async def everything(it: Side, now: float) -> list[Any]:
    """Return all that can be seen."""
    flows = await it.barrier.list(limit=10_000)
    found: list[Any] = [
        await it.queue.list(None, "", 10_000),
        await it.queue.counts(),
        await it.queue.paused(),
        await it.queue.announced(),
        await it.store.list_records(limit=10_000),
        await it.store.list_records(dead=True, status=TaskStatus.FAILED, queue="a", type="x", limit=3),
        await it.store.stats(),
        sorted(await it.store.uncarried(None, 10_000)),
        [note._replace(seq=0) for note in await it.store.outgoing("t", 100)],
        [await it.store.chunk("p", number) for number in range(3)],
        flows,
        [state.id for state in await it.barrier.list(active=True, limit=5)],
        sorted(state.id for state in await it.barrier.due(now, 10_000)),
        [state.id for state in await it.barrier.quiet(now - 10, "f1", 50)],
        [await it.barrier.get_step_results(state.id) for state in flows],
        await it.projections.find_projections(limit=10_000),
    ]
    return [plain(one) for one in found]


async def compare(opened: Callable[[VirtualClock], Backend], seed: int, steps: int) -> None:
    """Make a history to memory and to what is opened, and see that both answer alike and end alike."""
    clock = VirtualClock()
    history = History(random.Random(seed), clock, cancels=seed % 2 == 0)
    memory, other = Side.of(MemoryBackend(clock=clock)), Side.of(opened(clock))
    try:
        for step in range(steps):
            verb = history.next()
            wanted, got = await verb(memory), await verb(other)
            assert plain(got) == plain(wanted), f"step {step}"
            assert not looks_too_late(wanted, got), f"step {step}"
            deliveries = getattr(wanted, "deliveries", ())
            history.receipts.extend(Receipt(delivery[0].id, delivery[1]) for delivery in deliveries)
            if history.random.random() < 0.3:
                await clock.sleep(history.random.choice((1.0, 7.0, 31.0)))
            if step % 10 == 0:
                wanted, got = await everything(memory, clock.now()), await everything(other, clock.now())
                for one, seen in zip(wanted, got, strict=True):
                    assert seen == one, f"after step {step}"
    finally:
        await other.backend.close()
