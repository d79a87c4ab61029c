"""Parts of different servers, processes whose calls to them go wrong, and a small worker that goes on."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, cast

from tq.clock import Clock
from tq.codec import decode_body, message_of, task_of
from tq.flow import FlowMiddleware, Reconciler
from tq.memory import MemoryBackend
from tq.model import (
    Backoff,
    Batch,
    Claim,
    Deferred,
    Delivery,
    Effects,
    Failed,
    FailurePolicy,
    FlowRequest,
    Join,
    Keep,
    Member,
    Message,
    Outcome,
    Rearm,
    Receipt,
    Settlement,
    Succeeded,
    Task,
)
from tq.ports import Claimed, FlowBarrierProvider, MessageQueue, TaskStore
from tq.runner.composite import CompositeBackend
from tq.runner.settle import Policy, Said, settle
from tq.testing import Call, Fault, Faults

LEASE = 30.0


class Failing(Faults):
    """A process whose calls of some names fail: `fail("store.put", error)`, before or after they took effect."""

    def __init__(self) -> None:
        super().__init__(self._chosen, error=self._raised)
        self._errors: dict[str, tuple[Exception, Fault, int]] = {}
        self._next: Exception = Exception()

    def fail(self, name: str, error: Exception, *, after: bool = False, times: int = 1) -> None:
        self._errors[name] = error, Fault.AFTER if after else Fault.BEFORE, times

    def _chosen(self, call: Call) -> Fault | None:
        if call.name not in self._errors:
            return None
        self._next, fault, times = self._errors.pop(call.name)
        if times > 1:
            self._errors[call.name] = self._next, fault, times - 1
        return fault

    def _raised(self, _: Call) -> Exception:
        return self._next


def stalling(clock: Clock, chance: random.Random, likely: float) -> Faults:
    """Return a process that stands still for a while around its calls, longer than a lease at times."""

    def stall() -> float:
        stalls = chance.random() < likely
        return chance.choice([5.0, 45.0, 100.0]) if stalls else chance.random() * 0.02

    return Faults(clock=clock, latency=stall)


class LimitedQueue:
    """A queue that can do less than the one it is made of, and delivers again what was acknowledged."""

    def __init__(self, queue: MessageQueue, clock: Clock, chance: random.Random | None = None) -> None:
        self._queue = queue
        self._clock = clock
        self._chance = chance
        self._handed: dict[Receipt, Message] = {}
        redelivery = 600.0 if chance is not None else 0.0
        self.guarantees = queue.guarantees._replace(delays=False, rearms=False, redelivery=redelivery)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)

    async def add(self, messages: Sequence[Message]) -> list[str]:
        assert all(message.run_at <= self._clock.now() for message in messages)
        return await self._queue.add(messages)

    async def rearm(self, rearms: object) -> list[Receipt]:
        raise AssertionError("this queue cannot")

    async def claim(self, claim: Claim) -> Claimed:
        claimed = await self._queue.claim(claim)
        self._handed |= {delivery.receipt: delivery.message for delivery in claimed.deliveries}
        return claimed

    async def ack(self, receipts: Sequence[Receipt]) -> list[Receipt]:
        lost = await self._queue.ack(receipts)
        gone = [self._handed[receipt] for receipt in receipts if receipt not in lost]
        if self._chance is not None:
            await self._queue.add([message for message in gone if self._chance.random() < 0.3])
        return lost


class Servers:
    """What survives every process."""

    def __init__(self, clock: Clock, queue: Callable[[MessageQueue, Clock], object] | None = None) -> None:
        self.clock = clock
        plain = MemoryBackend(clock=clock).queue
        self.queue = plain if queue is None else cast("MessageQueue", queue(plain, clock))
        self.store: TaskStore = MemoryBackend(clock=clock).store
        self.barrier = cast("FlowBarrierProvider", MemoryBackend(clock=clock).barrier)
        self.executed: Counter[str] = Counter()
        """How often the body of a task ran, by task."""
        self.ended: Counter[str] = Counter()
        """How often a worker was told that a task's end took effect, by task."""
        self.joined: list[tuple[str, int, int]] = []
        """For every run of a join: its id, its flow's total, the entries it was given."""
        self.types: dict[str, str] = {}
        self.tokens = 0

    def backend(self, process: Faults | None = None, **options: Any) -> CompositeBackend:
        process = process or Faults()
        return CompositeBackend(
            process.queue(self.queue),
            process.store(self.store),
            process.barrier(self.barrier),
            clock=self.clock,
            **options,
        )

    async def live(self) -> set[str]:
        found = [*await self.queue.list(None, "", 1000), *await self.store.list(None, "", 1000)]
        return {place.id for place in found}


def message(id: str, type: str, now: float) -> Message:
    return message_of(Task(type=type, id=id), b"null", now)


def flow(id: str, steps: int, step: str = "step") -> FlowRequest:
    return FlowRequest(
        id=id,
        members=tuple(Member(step, "default", b"%d" % index) for index in range(steps)),
        join=Join("join"),
        policy=FailurePolicy.compile("continue", steps),
    )


class Worker:
    """Runs what it is handed, by the settling of the library; what a task does follows from its type."""

    def __init__(self, servers: Servers, backend: CompositeBackend) -> None:
        self._servers = servers
        self._backend = backend
        self._flows = FlowMiddleware(servers.barrier)
        self._reconciler = Reconciler(backend, servers.clock)

    async def run(self, *, limit: int = 3, until: float = 1000.0) -> None:
        """Claim, run and commit until nothing is left to do."""
        clock = self._servers.clock
        batch, accepted = Batch(), dict[Receipt, str]()
        while True:
            self._servers.tokens += 1
            claim = Claim(("default",), limit, f"w:{self._servers.tokens}", LEASE)
            hop = await self._backend.commit(batch, claim)
            for receipt, task_id in accepted.items():
                self._servers.ended[task_id] += receipt not in hop.refused
            batch, accepted = Batch(), {}
            for delivery in hop.deliveries:
                settlement = await self._execute(delivery)
                batch.settlements.append(settlement)
                if not isinstance(settlement.ending, Rearm):
                    accepted[delivery.receipt] = delivery.message.id
            if hop.deliveries:
                continue
            tick = await self._reconciler.tick_due()
            if tick.dispatched or tick.spread:
                continue
            if hop.next_due is None:
                return
            assert hop.next_due < clock.now() + until, "it never ends"
            await clock.sleep(max(hop.next_due - clock.now(), 0.01))

    async def _execute(self, delivery: Delivery) -> Settlement:
        now = self._servers.clock.now()
        body = decode_body(delivery.message.body)
        task = task_of(body, delivery)
        self._servers.executed[task.id] += 1
        self._servers.types[task.id] = task.type
        if task.type == "join":
            await self._joined(task)
        outcome, said, retry_after = self._outcome(task, now)
        policy = Policy(
            retries=1,
            retry_after=retry_after,
            backoff=Backoff(cap=1000.0),
            keep=Keep(on_success=task.type in {"waiter", "empty", "join"}),
        )
        return settle(delivery, outcome, policy, now, task=task, said=said, continuations=[self._flows])

    async def _joined(self, task: Task[Any]) -> None:
        payload = cast("dict[str, Any]", await self._flows.attach(task))
        meta = task.flow_meta
        assert meta is not None
        self._servers.joined.append((task.id, meta["total_steps"], len(payload["flow_results"]["steps"])))

    def _outcome(self, task: Task[Any], now: float) -> tuple[Outcome, Said, float]:
        done = Succeeded(b"1")
        match task.type:
            case "parent":
                return done, Said(children=[message(f"{task.id}-{n}", "child", now) for n in range(2)]), 2.0
            case "later":
                child = message(f"{task.id}-0", "child", now)
                return done, Said(children=[child._replace(run_at=now + 150.0)]), 2.0
            case "flaky" | "flaky.far" | "step" if task.attempt == 0 and not task.id.endswith(("1", "2")):
                return Failed("not yet"), Said(), 400.0 if task.type == "flaky.far" else 5.0
            case "failing":
                return Failed("never", final=True), Said(), 2.0
            case "fan":
                return done, Said(flows=[flow(f"flow-{task.id}", 3)]), 2.0
            case "waiter":
                wanted = flow(f"flow-{task.id}", 2, "child")
                return Deferred(wanted.id), Said(flows=[wanted]), 2.0
            case "empty":
                wanted = flow(f"flow-{task.id}", 0)
                return Deferred(wanted.id), Said(flows=[wanted]), 2.0
            case _:
                return done, Said(), 2.0


def added(*messages: Message) -> Batch:
    return Batch(effects=[Effects(messages=messages)])
