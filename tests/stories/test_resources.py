"""What executors ask for by type is made once per worker, by the handler's lifespan."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

import pytest

from tq import Actions, Task, TaskHandler, TaskQueuesManager
from tq.errors import BackendError, BackendUnavailableError, ConfigurationError
from tq.testing import VirtualClock
from tq.testing.harness import harness


class Pool:
    def __init__(self, name: str = "pool") -> None:
        self.name = name


class SmallPool(Pool): ...


class Mail:
    sent: int = 0


class Lived:
    """A lifespan that notes when it begins and ends, and yields what it is given."""

    def __init__(self, yielded: Any) -> None:
        self.yielded = yielded
        self.events: list[str] = []

    @asynccontextmanager
    async def __call__(self) -> AsyncGenerator[Any, None]:
        self.events.append("begins")
        try:
            yield self.yielded
        finally:
            self.events.append("ends")


def asking(seen: list[object]) -> TaskQueuesManager:
    """Return executors of every kind that ask for resources."""
    executors = TaskQueuesManager()

    @executors.task("function")
    async def function(payload: int, pool: Pool, mail: Mail) -> None:
        seen.extend([pool, mail])

    @executors.task("plain")
    def plain(payload: int, mail: Mail) -> None:
        seen.append(mail)

    @executors.executor("actions")
    async def actions(task: Task[Any], actions: Actions, pool: Pool) -> None:
        seen.append(pool)
        actions.success(task)

    class Group:
        async def on_tasks(self, tasks: Sequence[Task[Any]], actions: Actions, mail: Mail) -> None:
            seen.append(mail)
            for task in tasks:
                actions.success(task)

    executors.register("group", Group())
    return executors


POOL, MAIL = Pool(), Mail()


@pytest.mark.parametrize(
    "yielded", [(POOL, MAIL), [MAIL, POOL], {Pool: POOL, Mail: MAIL}], ids=["tuple", "list", "mapping"]
)
async def test_every_executor_is_given_what_it_asks_for_and_it_is_made_once(
    url: str, clock: VirtualClock, yielded: Any
) -> None:
    seen: list[object] = []
    lived = Lived(yielded)
    async with harness(asking(seen), url=url, clock=clock, lifespan=lived) as h:
        assert lived.events == [], "a producer needs no resources"
        for _ in range(2):
            await h.run(*[Task(type=type, payload=1) for type in ("function", "plain", "actions", "group")])
        assert await h.handler.dead.list() == []
        assert lived.events == ["begins"]
    assert lived.events == ["begins", "ends"]
    assert sorted(seen, key=id) == sorted([POOL, MAIL, MAIL, POOL, MAIL] * 2, key=id)


async def test_a_single_object_will_do_and_a_subclass_fits(url: str, clock: VirtualClock) -> None:
    executors, seen = TaskQueuesManager(), list[object]()

    @executors.task("work")
    async def work(payload: None, pool: Pool) -> None:
        seen.append(pool)

    small = SmallPool()
    async with harness(executors, url=url, clock=clock, lifespan=Lived(small)) as h:
        await h.run(work.task(None))
    assert seen == [small]


async def test_what_is_meant_exactly_is_named_by_its_type(url: str, clock: VirtualClock) -> None:
    class Sender(Protocol):
        sent: int

    executors, seen = TaskQueuesManager(), list[object]()

    @executors.task("work")
    async def work(payload: None, sender: Sender, pool: Pool) -> None:
        seen.extend([sender, pool])

    given = {Sender: MAIL, SmallPool: SmallPool(), Pool: POOL}
    async with harness(executors, url=url, clock=clock, lifespan=Lived(given)) as h:
        await h.run(work.task(None))
    assert seen == [MAIL, POOL]


async def test_an_optional_resource_keeps_its_default(url: str, clock: VirtualClock) -> None:
    executors, seen = TaskQueuesManager(), list[object]()

    @executors.task("work")
    async def work(payload: None, pool: Pool | None = None, *, mail: Mail | None = None) -> None:
        seen.extend([pool, mail])

    async with harness(executors, url=url, clock=clock) as h:
        await h.run(work.task(None))
    assert seen == [None, None]


@pytest.mark.parametrize("lifespan", [None, Lived(None), Lived(MAIL), Lived({Mail: MAIL})])
@pytest.mark.parametrize("how", ["start", "run", "drain", "process_batch"])
async def test_a_resource_that_nobody_yields_is_refused_before_anything_runs(
    url: str, clock: VirtualClock, lifespan: Any, how: str
) -> None:
    async with harness(asking([]), url=url, clock=clock, lifespan=lifespan) as h:
        await h.add(Task(type="function", payload=1))
        arguments = ("default",) if how == "process_batch" else ()
        with pytest.raises(ConfigurationError, match=r"'function' on queue 'default' asks for pool.*Pool.*lifespan"):
            await getattr(h.handler, how)(*arguments)
        assert (await h.handler.queue("default").counts())["waiting"] == 1


async def test_a_lifespan_that_fails_leaves_nothing_running(url: str, clock: VirtualClock) -> None:
    @asynccontextmanager
    async def failing() -> AsyncGenerator[Pool, None]:
        raise OSError("no connection to the pool")
        yield POOL

    async with harness(asking([]), url=url, clock=clock, lifespan=failing) as h:
        with pytest.raises(OSError, match="no connection to the pool"):
            await h.handler.start()


async def test_the_resources_outlive_every_body(url: str, clock: VirtualClock) -> None:
    executors, order = TaskQueuesManager(), list[str]()
    lived = Lived(POOL)

    @executors.task("work")
    async def work(payload: None, pool: Pool) -> None:
        await clock.sleep(10)
        order.extend(lived.events)

    async with harness(executors, url=url, clock=clock, lifespan=lived) as h:
        await h.add(work.task(None))
        await h.handler.start()
        await clock.sleep(1)
        await h.handler.stop()
        assert order == ["begins"]
        assert lived.events == ["begins", "ends"]


async def test_each_entry_of_a_lifespan_has_its_exit(url: str, clock: VirtualClock) -> None:
    lived = Lived(MAIL)
    async with harness(asking([]), url=url, clock=clock, lifespan=lived) as h:
        for attempt in range(1, 4):
            with pytest.raises(ConfigurationError, match="does not yield"):
                await h.handler.run(signals=False)
            assert lived.events == ["begins", "ends"] * attempt
    assert lived.events == ["begins", "ends"] * 3


@pytest.mark.parametrize("how", ["drain", "start"])
async def test_an_exit_that_fails_is_told_and_leaves_nothing_open(clock: VirtualClock, how: str) -> None:
    @asynccontextmanager
    async def failing() -> AsyncGenerator[tuple[Pool, Mail]]:
        yield POOL, MAIL
        raise OSError("the pool cannot be closed")

    executors, before = asking([]), asyncio.all_tasks()
    handler = TaskHandler.connect("sqlite://", executors, clock=clock, lifespan=failing)
    with pytest.raises(OSError, match="cannot be closed"):
        async with handler:
            await getattr(handler, how)()
    assert asyncio.all_tasks() == before
    with pytest.raises(BackendError, match="closed"):
        await handler.backend.queue.announced()
    await handler.close()


async def test_a_handler_that_cannot_be_entered_leaves_nothing_open(
    clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = TaskHandler.connect("sqlite://", asking([]), clock=clock)

    async def away() -> Sequence[str]:
        raise BackendUnavailableError("no answer")

    monkeypatch.setattr(handler.backend.queue, "announced", away)
    with pytest.raises(BackendUnavailableError):
        async with handler:
            pass
    with pytest.raises(BackendError, match="closed"):
        await handler.backend.store.counts()
