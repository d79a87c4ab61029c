"""Each fault does what it is called; a plan says which call it meets; a supervisor starts again what died."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tq import Actions, Task, TaskHandler, TaskQueuesManager
from tq.codec import message_of
from tq.errors import BackendUnavailableError, ContentRefusedError
from tq.memory import MemoryBackend, MemoryBarrier, MemoryProjections, MemoryQueue, MemoryStore
from tq.model import Batch, Claim, Effects, Message
from tq.ports import Backend
from tq.testing import Account, Call, Fault, Faults, Plan, ProcessDiedError, VirtualClock, assert_sound, plans
from tq.testing.supervisor import Supervisor

LEASE = 30.0


def a_message(clock: VirtualClock, id: str = "a") -> Message:
    return message_of(Task(type="t", id=id), b"null", clock.now())


async def live(backend: Backend) -> list[str]:
    return [it.id for it in await backend.queue.list(None, "", 10)]


async def test_a_call_that_fails_before_has_no_effect(clock: VirtualClock) -> None:
    backend = MemoryBackend(clock=clock)
    faults = Faults(plans.at(1, Fault.BEFORE))
    with pytest.raises(BackendUnavailableError, match=r"queue\.add does not answer"):
        await faults.backend(backend).queue.add([a_message(clock)])
    assert await live(backend) == []


async def test_a_call_that_fails_after_took_effect(clock: VirtualClock) -> None:
    backend = MemoryBackend(clock=clock)
    faults = Faults(plans.at(1, Fault.AFTER))
    with pytest.raises(BackendUnavailableError):
        await faults.backend(backend).queue.add([a_message(clock)])
    assert await live(backend) == ["a"]


async def test_of_a_call_that_comes_twice_the_second_answer_is_read(clock: VirtualClock) -> None:
    backend = MemoryBackend(clock=clock)
    faults = Faults(plans.on("queue.add", Fault.TWICE))
    assert await faults.backend(backend).queue.add([a_message(clock)]) == ["a"], "the first call has added it"
    assert await faults.backend(backend).queue.add([a_message(clock, "b")]) == []


async def test_a_call_that_hangs_takes_effect_late(clock: VirtualClock) -> None:
    backend = MemoryBackend(clock=clock)
    faults = Faults(plans.at(1, Fault.HANG), clock=clock, hang=50.0)
    began = clock.now()
    await faults.backend(backend).queue.add([a_message(clock)])
    assert clock.now() - began == 50.0
    assert await live(backend) == ["a"]


@pytest.mark.parametrize(("fault", "left"), [(Fault.DIE_BEFORE, []), (Fault.DIE_AFTER, ["a"])])
async def test_nothing_that_a_dead_process_says_has_an_effect(
    clock: VirtualClock, fault: Fault, left: list[str]
) -> None:
    backend = MemoryBackend(clock=clock)
    faults = Faults(plans.at(1, fault))
    process = faults.backend(backend)
    with pytest.raises(ProcessDiedError):
        await process.queue.add([a_message(clock)])
    assert faults.death.is_set()
    with pytest.raises(ProcessDiedError):
        await process.commit(Batch(effects=[Effects(messages=(a_message(clock, "b"),))]))
    assert await live(backend) == left
    assert faults.calls == ["queue.add"]


async def test_a_call_that_is_on_its_way_at_the_death_takes_effect_and_is_not_answered(clock: VirtualClock) -> None:
    backend = MemoryBackend(clock=clock)
    faults = Faults(plans.at(2, Fault.DIE_BEFORE), clock=clock, latency=lambda: 1.0)
    process = faults.backend(backend)
    first = asyncio.create_task(process.queue.add([a_message(clock)]))
    await clock.sleep(0.5)
    with pytest.raises(ProcessDiedError):
        await process.queue.counts()
    with pytest.raises(ProcessDiedError):
        await first
    assert await live(backend) == ["a"]


async def test_every_port_can_be_wrapped(clock: VirtualClock) -> None:
    faults = Faults()
    backend = faults.backend(MemoryBackend(clock=clock))
    await backend.commit(Batch(), Claim(("q",), 1, "w:1", LEASE))
    async with backend.keeper() as keeper:
        await keeper.renew([], LEASE)
    await faults.keeper(keeper).renew([], LEASE)
    await faults.queue(MemoryQueue(clock=clock)).counts()
    await faults.store(MemoryStore(clock=clock)).counts()
    await faults.barrier(MemoryBarrier(clock=clock)).get([])
    await faults.projections(MemoryProjections(clock=clock)).upsert_projections([])
    assert faults.calls == [
        "backend.commit",
        "keeper.renew",
        "keeper.renew",
        "keeper.renew",
        "queue.counts",
        "store.counts",
        "barrier.get",
        "projections.upsert_projections",
    ]


async def test_parts_of_a_wrapped_backend_belong_to_it_and_single_parts_to_nobody(clock: VirtualClock) -> None:
    faults, backend = Faults(), MemoryBackend(clock=clock)
    wrapped = faults.backend(backend)
    assert {getattr(part, "backend", None) for part in (wrapped.queue, wrapped.store, wrapped.barrier)} == {wrapped}
    assert TaskHandler.on(wrapped, clock=clock).backend is wrapped
    assert not hasattr(faults.queue(backend.queue), "backend")


async def test_a_failing_call_raises_what_it_is_told_to(clock: VirtualClock) -> None:
    faults = Faults(plans.at(1, Fault.BEFORE), error=lambda call: ContentRefusedError(f"{call.name} no {call.number}"))
    with pytest.raises(ContentRefusedError, match=r"queue\.counts no 1"):
        await faults.queue(MemoryQueue(clock=clock)).counts()


async def test_without_a_clock_no_call_can_take_time(clock: VirtualClock) -> None:
    with pytest.raises(ValueError, match="clock="):
        await Faults(plans.at(1, Fault.HANG)).queue(MemoryQueue(clock=clock)).counts()


# --- plans ------------------------------------------------------------------------------------------------------------


def met(plan: Plan, *names: str) -> list[str | None]:
    return [plan(Call(number, name)) for number, name in enumerate(names, start=1)]


def test_a_plan_meets_calls_by_number_by_name_or_by_either() -> None:
    assert met(plans.at(2, Fault.AFTER), "a", "b", "c") == [None, "after", None]
    assert met(plans.on("b", Fault.HANG, times=2), "b", "a", "b", "b") == ["hang", None, "hang", None]
    both = plans.either(plans.script({1: Fault.TWICE}), plans.on("b", Fault.BEFORE))
    assert met(both, "b", "b") == ["twice", "before"]


def test_dice_fall_alike_for_the_same_seed() -> None:
    names = ["x"] * 500
    first, again, other = (met(plans.dice(seed, 0.1), *names) for seed in (7, 7, 8))
    assert first == again
    assert first != other
    assert {it for it in first if it is not None} == set(Fault)


async def test_an_outage_loses_the_answer_on_its_way_and_then_every_call(clock: VirtualClock) -> None:
    plan = plans.away(clock, clock.now() + 5.0, clock.now() + 10.0, port="queue")
    assert met(plan, "queue.add") == [None]
    await clock.sleep(5.0)
    assert met(plan, "store.add", "queue.add", "queue.add") == [None, "after", "before"]
    await clock.sleep(5.0)
    assert met(plan, "queue.add") == [None]


async def test_after_its_end_a_plan_lets_nothing_go_wrong(clock: VirtualClock) -> None:
    plan = plans.until(clock, clock.now() + 5.0, plans.on("a", Fault.HANG, times=9))
    assert met(plan, "a", "b") == ["hang", None]
    await clock.sleep(5.0)
    assert met(plan, "a") == [None]


async def test_what_went_wrong_is_printed_as_the_plan_that_does_it_again(clock: VirtualClock) -> None:
    faults = Faults(plans.dice(3, 0.2, [Fault.BEFORE, Fault.AFTER]))
    queue = faults.queue(MemoryQueue(clock=clock))
    for _ in range(20):
        try:
            await queue.counts()
        except BackendUnavailableError:
            continue
    printed, _, told = str(faults).partition("  # ")
    assert told.startswith("queue.counts ")
    again = Faults(eval(printed, {"script": plans.script, "Fault": Fault}))  # noqa: S307 -- what was printed just now
    queue = again.queue(MemoryQueue(clock=clock))
    for _ in range(20):
        try:
            await queue.counts()
        except BackendUnavailableError:
            continue
    assert again.done == faults.done
    assert str(Faults()) == "script({})  # nothing went wrong"


# --- a supervisor -----------------------------------------------------------------------------------------------------


def telling(account: Account) -> TaskQueuesManager:
    executors = TaskQueuesManager()

    @executors.executor("work", store_on_success=True, result_ttl=3600)
    async def work(task: Task[Any], actions: Actions) -> None:
        actions.success(task, account.begin(task))

    return executors


@pytest.mark.parametrize("fault", [Fault.DIE_BEFORE, Fault.DIE_AFTER])
@pytest.mark.parametrize("number", range(1, 12))
async def test_a_supervisor_starts_another_process_after_a_death(
    clock: VirtualClock, fault: Fault, number: int
) -> None:
    backend, account = MemoryBackend(clock=clock), Account()
    executors = telling(account)
    producer = TaskHandler.on(backend, executors, clock=clock)
    account.accept(*await producer.add_tasks([Task(type="work")]))
    supervisor = Supervisor(
        lambda faults: TaskHandler.on(faults.backend(backend), executors, clock=clock),
        lambda life: Faults(plans.at(number, fault) if life == 0 else None),
        clock=clock,
    )
    async with supervisor:
        await clock.sleep(60.0)
    assert supervisor.deaths == 1
    assert len(supervisor.lives) == 2
    await assert_sound(backend, account, words=str(supervisor.lives[0]))


async def test_a_process_that_cannot_start_is_started_again(clock: VirtualClock) -> None:
    backend, account = MemoryBackend(clock=clock), Account()
    executors = telling(account)
    away = plans.away(clock, clock.now(), clock.now() + 10.0)
    supervisor = Supervisor(
        lambda faults: TaskHandler.on(faults.backend(backend), executors, clock=clock),
        lambda _: Faults(away),
        clock=clock,
    )
    async with supervisor:
        await clock.sleep(5.0)
        producer = TaskHandler.on(backend, executors, clock=clock)
        account.accept(*await producer.add_tasks([Task(type="work")]))
        await clock.sleep(10.0)
    assert len(supervisor.lives) > 5
    assert len(account.began) == 1
    await assert_sound(backend, account)
