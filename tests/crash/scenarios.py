"""What may be going on when something dies: what is asked of a few executors, and how it must end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from typing import Any, TypeVar

from tests.crash.homes import Home
from tq import Actions, Backoff, Entity, FlowStep, Join, Task, TaskHandler, TaskQueuesManager, TaskStatus
from tq.clock import Clock, to_datetime
from tq.errors import AddTasksError, BackendError, FlowStateError
from tq.flow.plan import WIDTH
from tq.ids import step_id
from tq.model import Claim, Keep, Succeeded, Verdict
from tq.testing import Account, Faults, ProcessDiedError, Snapshot

__all__ = ["SCENARIOS", "Scenario", "Stage", "executors_of"]

T = TypeVar("T")
MADE = datetime(2030, 1, 1, tzinfo=UTC)
Step = dict[str, Any]
ELSEWHERE = "elsewhere"
"""A queue that no worker of a scenario serves."""
KEPT: dict[str, Any] = {"store_on_success": True, "result_ttl": 86_400.0, "backoff": Backoff(base=1.0, jitter=0.0)}


@dataclass
class Stage:
    """What a scenario is given to act with."""

    clock: Clock
    account: Account
    handler: Callable[[], Awaitable[TaskHandler]]
    """Returns the handler of the process that lives now; waits for one if none does."""
    home: Home
    over: bool = False
    """Whether the play has been played."""

    async def do(self, deed: Callable[[TaskHandler], Awaitable[T]]) -> T:
        """Do something through the process that lives, again until it is acknowledged: what callers do who care."""
        while True:
            handler = await self.handler()
            try:
                return await deed(handler)
            except (AddTasksError, BackendError, ProcessDiedError):
                await self.clock.sleep(0.5)

    async def add(self, *tasks: Task[Any]) -> None:
        """Add tasks made at one instant, however often it is tried: their children then have the same ids each time."""
        made = [replace(task, created_at=MADE) for task in tasks]
        self.account.accept(*await self.do(lambda handler: handler.add_tasks(made)))

    async def flow(self, steps: Sequence[FlowStep], join: Join, key: str = "flow", **options: Any) -> str:
        """Start a flow from outside."""
        id = await self.do(lambda handler: handler.start_flow(steps, join=join, key=key, **options))
        self.account.started(id)
        return id


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One thing that tq does, from the call that asks for it until everything is quiet."""

    play: Callable[[Stage], Awaitable[None]]
    endings: Mapping[str, AbstractSet[TaskStatus]] = field(default_factory=dict[str, AbstractSet[TaskStatus]])
    """How tasks may end whatever goes wrong, by what their ids end with; every other one must have succeeded."""
    verdicts: AbstractSet[Verdict] = frozenset({Verdict.COMPLETED})
    """How flows may be decided."""
    width: int = WIDTH
    """Members that are written together; more are written chunk by chunk."""
    keeps: bool = True
    """Whether the worker can renew its leases; where it cannot, another worker runs its tasks beside it."""

    def surprises(self, snapshot: Snapshot) -> list[str]:
        """Return a sentence for everything that ended as it must not."""
        found: list[str] = []
        for id, record in snapshot.records.items():
            allowed = [statuses for end, statuses in self.endings.items() if id.endswith(end)]
            if record.status not in (allowed[0] if allowed else {TaskStatus.EXECUTED}):
                found.append(f"task {id} ended as {record.status}: {record.error}")
        found += [
            f"flow {id} is {state.verdict}"
            for id, state in snapshot.flows.items()
            if state.verdict not in self.verdicts
        ]
        return found


# --- executors --------------------------------------------------------------------------------------------------------


def executors_of(stage: Stage, process: Faults | None = None) -> TaskQueuesManager:
    """Return executors that do what their payload says, and write down that they did; `poison` ends the process."""
    executors, account, clock = TaskQueuesManager(), stage.account, stage.clock
    executors.queue(ELSEWHERE)

    @executors.executor("work", retries=2, **KEPT)
    async def work(task: Task[Any], actions: Actions) -> None:
        stamp, told = account.begin(task), task.payload
        await clock.sleep(told.get("lasts", 0.1))
        if task.attempt < told.get("fails", 0) or task.generation < told.get("fails_in_generations", 0):
            raise ValueError("not yet")
        if "again" in told and task.fence == 1:
            actions.reschedule(told["again"])
            return
        children = [Task[Any](type="work", payload={"stamp": stamp, "n": n}) for n in range(told.get("children", 0))]
        if "later" in told:
            at = to_datetime(clock.now() + told["later"])
            children.append(Task(type="work", payload={"stamp": stamp, "late": True}, execute_at=at))
        if children:
            actions.add_tasks(children)
        actions.success(task, "the same" if told.get("alike") else {"stamp": stamp})

    @executors.executor("long", handoff_timeout=2.0, **KEPT)
    async def long(task: Task[Any], actions: Actions) -> None:
        stamp = account.begin(task)
        await clock.sleep(task.payload["lasts"])
        actions.success(task, {"stamp": stamp})

    @executors.executor("fan", retries=2, **KEPT)
    async def fan(task: Task[Any], actions: Actions) -> None:
        stamp, told = account.begin(task), task.payload
        steps = [FlowStep(kind, payload={"stamp": stamp, **step}) for kind, step in told["steps"]]
        entity = Entity("Flow", told["entity"]) if "entity" in told else None
        flow = actions.start_flow(steps, join=Join("join"), entity=entity, **told.get("options", {}))
        if told.get("waits"):
            actions.success_when(flow)
        else:
            actions.success(task, {"stamp": stamp})

    @executors.executor("join", retries=2, **KEPT)
    async def join(task: Task[Any], actions: Actions) -> None:
        actions.success(task, {"stamp": await account.join(task, actions.flow_results(task))})

    @executors.executor("poison", **KEPT)
    async def poison(task: Task[Any], actions: Actions) -> None:
        account.begin(task)
        if process is not None:
            process.death.set()
        await clock.sleep(1000.0)

    class Group:
        async def on_tasks(self, tasks: Sequence[Task[Any]], actions: Actions) -> None:
            for task in tasks:
                actions.success(task, {"stamp": account.begin(task)})

    executors.register("group", Group(), multiple=True, retries=2, **KEPT)
    return executors


def fan(*steps: Step, waits: bool = False, **options: Any) -> Task[Any]:
    """Return a task that starts a flow of `work`, with rows for both."""
    payload = {"steps": [("work", step) for step in steps], "entity": "f", "waits": waits, "options": options}
    return Task(type="fan", id="fan", payload=payload, entity=Entity("Task", "fan"))


# --- plays ------------------------------------------------------------------------------------------------------------


def adds(*tasks: Task[Any]) -> Callable[[Stage], Awaitable[None]]:
    """Add these, and nothing else."""

    async def play(stage: Stage) -> None:
        await stage.add(*tasks)

    return play


async def cancel_at_the_last_step(stage: Stage) -> None:
    flow = await stage.flow([FlowStep("work", payload={"lasts": lasts}) for lasts in (1.0, 3.0)], Join("join"))
    await stage.clock.sleep(3.0)
    await stage.do(lambda handler: handler.flow(flow).cancel("no longer wanted"))


async def cancel_tasks(stage: Stage) -> None:
    later = to_datetime(stage.clock.now() + 1000.0)
    await stage.add(
        Task(type="work", id="waits", payload={}, execute_at=later, entity=Entity("Task", "waits")),
        Task(type="work", id="runs", payload={"lasts": 1000.0}, entity=Entity("Task", "runs")),
    )
    await stage.clock.sleep(2.0)
    await stage.do(lambda handler: handler.task("waits").cancel())
    await stage.do(lambda handler: handler.task("runs").cancel())


async def replay(stage: Stage) -> None:
    await stage.add(Task(type="work", id="a", payload={"fails_in_generations": 1}, entity=Entity("Task", "a")))
    while not (await stage.home.backend.store.records(["a"])):
        await stage.clock.sleep(0.5)
    await stage.do(lambda handler: handler.dead.replay("a"))


async def redrive(stage: Stage) -> None:
    steps = [FlowStep("work", payload=step) for step in ({}, {"fails_in_generations": 1})]
    flow = await stage.flow(steps, Join("join"), entity=Entity("Flow", "f"), failure_policy="abort")

    async def again(handler: TaskHandler) -> bool:
        try:
            await handler.flow(flow).redrive()
        except FlowStateError:  # it is open still, or open again
            return (await handler.flow(flow).status()).generation == 1
        return True

    while not await stage.do(again):
        await stage.clock.sleep(0.5)


async def forgotten_mark(stage: Stage) -> None:
    """A member ends elsewhere, its record is written, and nobody counts it: no reply, no worker, no trigger is left."""
    steps = [FlowStep("work", payload={}), FlowStep("work", queue=ELSEWHERE, payload={})]
    flow = await stage.flow(steps, Join("join"))
    backend, tokens = stage.home.backend, count()
    claim = Claim((ELSEWHERE,), 1, "", 600.0)
    while deliveries := (await backend.queue.claim(claim._replace(token=f"elsewhere:{next(tokens)}"))).deliveries:
        [delivery] = deliveries
        now, done = stage.clock.now(), Succeeded(None)
        record = Keep(on_success=True).record(delivery.message, delivery.fence, done, now, stats=b"")
        assert record is not None
        assert record.task_id == step_id(flow, 1)
        await backend.store.record([record])
        await backend.queue.ack([delivery.receipt])


PLAIN: Step = {}
FAILS: Step = {"fails": 9}
INNER: Step = {"waits": True, "steps": [("work", PLAIN), ("work", {"fails": 1})]}
OUTER: Step = {"waits": True, "steps": [("fan", INNER), ("work", PLAIN)]}
BAD = {TaskStatus.FAILED}
ANY = {TaskStatus.EXECUTED, TaskStatus.FAILED, TaskStatus.CANCELLED}

SCENARIOS: dict[str, Scenario] = {
    "one task": Scenario(play=adds(Task(type="work", id="a", payload={}, entity=Entity("Task", "a")))),
    "retries": Scenario(
        play=adds(
            Task(type="work", id="a", payload={"fails": 2}, entity=Entity("Task", "a")),
            Task(type="work", id="b", payload={"again": 3.0}),
            Task(type="work", id="bad", payload=FAILS, retries=1, entity=Entity("Task", "bad")),
        ),
        endings={"bad": BAD},
    ),
    "children": Scenario(play=adds(Task(type="work", id="a", payload={"children": 2, "later": 125.0}))),
    "group": Scenario(play=adds(*(Task[Any](type="group", id=f"g{n}", payload={}) for n in range(3)))),
    "long task": Scenario(play=adds(Task(type="long", id="a", payload={"lasts": 12.0}, entity=Entity("Task", "a")))),
    "flow: continue": Scenario(play=adds(fan(PLAIN, {"fails": 1}, FAILS)), endings={".2": BAD}),
    "flow: abort": Scenario(
        play=adds(fan(PLAIN, FAILS, {"lasts": 9.0}, failure_policy="abort", cancel_siblings=True)),
        endings={".1": BAD, ".2": ANY},
        verdicts={Verdict.ABORTED},
    ),
    "flow: tolerate": Scenario(play=adds(fan(PLAIN, FAILS, tolerate=1)), endings={".1": BAD}),
    "flow: quorum": Scenario(
        play=adds(fan(PLAIN, PLAIN, {"lasts": 9.0}, quorum=2, cancel_siblings=True)), endings={".2": ANY}
    ),
    "flow: empty": Scenario(play=adds(fan(waits=True))),
    "flow: wide": Scenario(play=adds(fan(*(PLAIN for _ in range(7)))), width=2),
    "nested flow": Scenario(
        play=adds(Task(type="fan", id="outer", payload=OUTER, entity=Entity("Task", "outer"))),
    ),
    "deadline and last step": Scenario(
        play=adds(fan(PLAIN, {"lasts": 5.0}, timeout=5.0)), verdicts={Verdict.COMPLETED, Verdict.TIMED_OUT}
    ),
    "abort and last step": Scenario(
        play=adds(fan({"lasts": 2.0}, {"lasts": 2.0, **FAILS}, failure_policy="abort")),
        endings={".1": BAD},
        verdicts={Verdict.ABORTED},
    ),
    "cancel and last step": Scenario(
        play=cancel_at_the_last_step, endings={".0": ANY, ".1": ANY}, verdicts={Verdict.COMPLETED, Verdict.CANCELLED}
    ),
    "cancel": Scenario(play=cancel_tasks, endings={"waits": {TaskStatus.CANCELLED}, "runs": {TaskStatus.CANCELLED}}),
    "replay": Scenario(play=replay),
    "redrive": Scenario(play=redrive),
    "two workers, another result": Scenario(
        play=adds(
            Task(type="work", id="a", payload={"lasts": 9.0, "children": 1}, entity=Entity("Task", "a")),
            fan({"lasts": 9.0}, PLAIN),
        ),
        keeps=False,
    ),
    "two workers, the same result": Scenario(
        play=adds(Task(type="work", id="a", payload={"lasts": 9.0, "alike": True}, entity=Entity("Task", "a"))),
        keeps=False,
    ),
    "reconciling": Scenario(play=forgotten_mark),
}
