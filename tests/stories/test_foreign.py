"""Messages that nobody here can run, unreadable, unknown or too late: nothing is lost, nobody falls over them."""

from __future__ import annotations

import logging
from itertools import pairwise
from typing import Any

import pytest

from tq import Actions, Backoff, Task, TaskHandler, TaskQueuesManager, TaskStatus
from tq.clock import to_datetime
from tq.model import Message
from tq.testing import VirtualClock
from tq.testing.harness import Harness, harness


def working() -> TaskQueuesManager:
    """Return one executor that does as it should."""
    executors = TaskQueuesManager()

    @executors.executor("work", store_on_success=True)
    async def work(task: Task[Any], actions: Actions) -> None:
        actions.success(task)

    return executors


async def put(h: Harness, id: str, body: bytes, type: str = "work") -> None:
    """Put bytes into the queue, as a stranger would."""
    await h.handler.backend.queue.add([Message(id, "default", type, body, h.clock.now())])


def head(**fields: Any) -> bytes:
    """Return a body with these fields, and a payload."""
    words = {"v": 1, "id": "x", "type": "work", "queue": "default", **fields}
    return str(words).replace("'", '"').replace("True", "true").replace("None", "null").encode() + b"\nnull"


def nameless(**fields: Any) -> bytes:
    """Return a body without an id: what is said in its place must be looked at all the same."""
    words = {"v": 1, "type": "work", "queue": "default", "created_at": 1.5, **fields}
    return str(words).replace("'", '"').encode() + b"\nnull"


FOREIGN = [
    nameless(expires_at="2030-01-01"),
    nameless(metadata=5),
    nameless(metadata={"flow_meta": 3}),
    nameless(entity=7),
    nameless(retries="3"),
    b"",
    b"\x00\xff\xfe",
    b"hello",
    b"[1, 2]",
    b"{}",
    b'{"v":1}\nnull',
    b'{"v":1,"id":"x","type":"work","queue":"default"}',
    head(type=5),
    head(queue=""),
    head(expires_at="tomorrow"),
    head(expires_at=10**30),
    head(created_at=[1]),
    head(execute_at=True),
    head(retries=-1),
    head(retries="3"),
    head(retry_after="soon"),
    head(entity=["Item"]),
    head(entity={"type": "Item"}),
    head(partition_key=5),
    head(metadata=5),
    head(metadata={"log_context": "tenant"}),
    head(metadata={"log_context": {"n": 1}}),
    head(metadata={"flow_meta": "f"}),
    head(stats=[1]),
]


@pytest.mark.parametrize("body", FOREIGN)
async def test_bytes_that_are_no_task_are_a_dead_letter_that_keeps_them(
    url: str, clock: VirtualClock, body: bytes
) -> None:
    async with harness(working(), url=url, clock=clock) as h:
        await put(h, "foreign", body)
        [work] = await h.run(Task(type="work"))
        await h.assert_succeeded(work)
        [letter] = await h.handler.dead.list()
        assert (letter.task_id, letter.status, letter.raw or b"") == ("foreign", TaskStatus.FAILED, body)
        assert "the body of a message" in letter.error
        await h.assert_quiet()


async def test_a_payload_that_is_not_json_is_a_dead_letter_too(url: str, clock: VirtualClock) -> None:
    executors = working()

    @executors.task("typed")
    async def typed(payload: int) -> None: ...

    async with harness(executors, url=url, clock=clock) as h:
        for type in ("work", "typed"):
            await put(h, type, head(type=type)[:-4] + b"{not json", type)
        await h.drain()
        letters = await h.handler.dead.list()
        assert {letter.task_id for letter in letters} == {"work", "typed"}
        assert all((letter.raw or b"").endswith(b"{not json") for letter in letters)


@pytest.mark.spec("EXE-08", "STO-08", "MOD-05")
async def test_an_unknown_type_is_given_back_ever_later_and_at_last_ignored(
    url: str, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with harness(working(), url=url, clock=clock) as h:
        with caplog.at_level(logging.WARNING):
            [task_id] = await h.add(Task(type="misspelt", retries=3))
            delays: list[float] = []
            began = clock.now()
            await h.handler.drain()
            assert "no executor is registered for 'misspelt' on queue 'default'" in caplog.text
            while place := (await h.handler.backend.queue.locate([task_id])).get(task_id):
                assert (place.attempt, place.crashes) == (0, 0), "uncounted"
                delays.append(place.run_at - clock.now())
                await h.later(delays[-1] + 0.5)  # others, who may know it, are let go first
        assert delays[0] == 1
        assert all(1.9 < later / before < 2.6 for before, later in pairwise(delays[1:6]))
        assert delays[8:] == pytest.approx([60] * len(delays[8:]))
        assert 3600 <= clock.now() - began <= 3700
        assert await h.handler.task(task_id).status() is TaskStatus.IGNORED
        stats = await h.stats(task_id)
        assert (stats["ignored_reason"], stats["ignored_at"]) == ("unknown_executor", clock.now())
        assert "misspelt" in stats["error"]
        assert [letter.task_id for letter in await h.handler.dead.list()] == [task_id]


@pytest.mark.spec("F-37", "EXE-08")
@pytest.mark.parametrize("unknown", ["type", "format"])
async def test_what_one_worker_does_not_know_another_one_runs(url: str, clock: VirtualClock, unknown: str) -> None:
    old, new = TaskQueuesManager(), TaskQueuesManager()
    old.task("other")(nothing)
    new.task("new", store_on_success=True)(nothing)
    async with harness(old, url=url, clock=clock) as h:
        if unknown == "format":
            await put(h, "x", head(v=99, type="new"), "new")
        else:
            await h.add(Task(type="new", id="x"))
        await h.handler.start()
        await clock.sleep(20)
        assert await h.handler.task("x").status() is TaskStatus.SCHEDULED
        place = (await h.handler.backend.queue.locate(["x"]))["x"]
        assert (place.attempt, place.crashes) == (0, 0)
        if unknown == "type":
            backend = h.handler.backend
            newer = TaskHandler(
                queue=backend.queue, store=backend.store, executors=new, barrier=backend.barrier, clock=clock
            )
            await newer.start()
            await clock.sleep(61)
            assert await newer.task("x").status() is TaskStatus.EXECUTED
            await newer.close()


async def nothing(payload: None) -> None: ...


@pytest.mark.spec("MEM-02", "MEM-03", "D-35")
async def test_what_expired_while_it_waited_ends_as_expired_and_never_runs(url: str, clock: VirtualClock) -> None:
    executors, ran = TaskQueuesManager(), list[str]()

    @executors.task("work", retries=3, backoff=Backoff(base=100, jitter=0))
    async def work(payload: str) -> None:
        ran.append(payload)
        raise ValueError("again")

    async with harness(executors, url=url, clock=clock) as h:
        now = clock.now()
        waiting, retried = await h.add(
            work.task("waiting", execute_at=to_datetime(now + 60), expires_at=to_datetime(now + 50)),
            work.task("retried", expires_at=to_datetime(now + 90)),
        )
        await h.drain()
        await h.later(60)
        assert await h.handler.task(waiting).status() is TaskStatus.EXPIRED
        assert await h.handler.task(retried).status() is TaskStatus.SCHEDULED
        await h.later(60)
        assert await h.handler.task(retried).status() is TaskStatus.EXPIRED
        assert ran == ["retried"]
        await h.assert_quiet()
