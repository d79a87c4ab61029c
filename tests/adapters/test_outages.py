"""A server in trouble: whoever adds is told which, why, and the way out; workers wait, and go on by themselves."""

from __future__ import annotations

import asyncio
import logging
import traceback
import uuid
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.adapters.guarded import GUARDED, SECRET, Guarded
from tests.adapters.lines import Line, line
from tq import Actions, FlowStep, Join, Task, TaskHandler, TaskQueuesManager, connect
from tq.clock import SystemClock
from tq.errors import AddTasksError, BackendError, BackendUnavailableError
from tq.model import Batch, Claim, Message
from tq.ports import Backend

pytestmark = pytest.mark.realtime

GUESS = "gue55ed"
MEMBERS = 60
HELD = 10
"""Tasks that a worker with five slots may hold: as many run as wait for a slot."""
TROUBLES = ("killed", "frozen", "full", "read-only", "refusing")
PATIENCE = 30.0
"""Seconds within which every call must have ended, whatever the server does."""


@pytest.fixture(scope="module")
def servers() -> Generator[Mapping[str, Guarded], None, None]:
    """Servers of these tests alone, by kind."""
    with ExitStack() as stack:
        yield {kind: stack.enter_context(guarded()) for kind, guarded in GUARDED.items()}


class Work:
    """Steps that are slow enough to be disturbed, and a join that notes what it was told."""

    def __init__(self) -> None:
        self.executors = TaskQueuesManager()
        self.ran: list[int] = []
        self.joined: list[dict[str, Any]] = []
        self.under_way = asyncio.Event()
        self.over = asyncio.Event()
        self.executors.task("step")(self._step)
        self.executors.executor("join")(self._join)

    async def _step(self, number: int) -> int:
        self.ran.append(number)
        if len(self.ran) == MEMBERS // 3:
            self.under_way.set()
        await asyncio.sleep(0.02)
        return number

    async def _join(self, task: Task[Any], actions: Actions) -> None:
        self.joined.append(task.payload["flow_results"])
        self.over.set()
        actions.success(task)


async def refused(handler: TaskHandler, kind: type[BackendError]) -> BackendError:
    """Return why a task cannot be added, when it is for this reason.

    What is under way as the trouble begins may still be taken, or only hear that its connection is gone.
    """
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await handler.add_tasks([Task(type="step", payload=-1)])
            except AddTasksError as raised:
                [error] = raised.failed.values()
                if type(error) is kind:
                    return error


@pytest.mark.spec("F-32")
@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("kind", GUARDED)
async def test_workers_go_on_by_themselves_when_the_trouble_is_over(
    servers: Mapping[str, Guarded], kind: str, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    work, server = Work(), servers[kind]
    told = server.troubles[trouble]
    url = f"{server.url}namespace=tq_{uuid.uuid4().hex[:8]}"
    async with TaskHandler.connect(
        url, work.executors, backend_options=dict(server.quick), concurrency=5, lease=2.0
    ) as handler:
        steps = [FlowStep("step", payload=number) for number in range(MEMBERS)]
        await handler.start_flow(steps, join=Join("join"))
        await handler.start()
        await work.under_way.wait()
        async with told.befall():
            error = await refused(handler, told.error)
            ran = len(work.ran)
            await asyncio.sleep(1.0)
            assert len(work.ran) <= ran + HELD or not told.stops, "more ran than what the worker held"
        async with asyncio.timeout(60):
            await work.over.wait()
        assert set(work.ran) - {-1} == set(range(MEMBERS))
        [results] = work.joined
        assert [(step["step_index"], step["result"]) for step in results["steps"]] == [(n, n) for n in range(MEMBERS)]
    host = urlsplit(server.url).netloc.rpartition("@")[2]
    assert host in str(error)
    assert any(words in str(error) for words in told.way_out.split("|"))
    warnings = [it.getMessage() for it in caplog.records if it.levelno >= logging.WARNING]
    assert all(host in words for words in warnings if "cannot commit" in words), "the worker says whom it waits for"
    assert SECRET not in "\n".join([*traceback.format_exception(error), *warnings])


@pytest.mark.parametrize("kind", GUARDED)
async def test_a_wrong_password_is_named_as_such_and_never_shown(servers: Mapping[str, Guarded], kind: str) -> None:
    async def ask() -> None:
        backend = await asyncio.to_thread(connect, servers[kind].url.replace(SECRET, GUESS).rstrip("?&"))
        try:
            await backend.queue.counts()
        finally:
            await backend.close()

    with pytest.raises(BackendError, match=servers[kind].troubles["refusing"].way_out) as raised:
        await ask()
    assert GUESS not in "\n".join(traceback.format_exception(raised.value))


# --- a line that falls silent -----------------------------------------------------------------------------------------


LEASE = 6.0
"""Seconds: half of them are waited for in vain, the rest has to do on a busy machine."""


@asynccontextmanager
async def through(server: Guarded, **options: Any) -> AsyncGenerator[tuple[Line, Backend], None]:
    """Open a backend, empty and with the adapter's own limits unless others are given, at the other end of a line."""
    async with line(server.url) as to_server:
        url = f"{to_server.url}namespace=tq_{uuid.uuid4().hex[:8]}"
        # Opening may block, and the line is carried by this very loop.
        backend = await asyncio.to_thread(connect, url, **options)
        try:
            yield to_server, backend
        finally:
            await backend.close()


@pytest.mark.parametrize("kind", GUARDED)
async def test_a_lease_outlives_a_line_that_fell_silent(servers: Mapping[str, Guarded], kind: str) -> None:
    async with through(servers[kind]) as (to_server, backend):
        await backend.queue.add([Message("a", "q", "t", b"{}", 0.0)])
        [running] = (await backend.commit(Batch(), Claim(("q",), 1, "w:1", LEASE))).deliveries
        async with backend.keeper() as keeper:
            assert (await keeper.renew([running], LEASE)).lost == ()
            to_server.deafen()
            began = asyncio.get_running_loop().time()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(LEASE / 2):  # as whoever keeps the leases does
                    await keeper.renew([running], LEASE)
            assert (await keeper.renew([running], LEASE)).lost == (), "over another line"
            assert asyncio.get_running_loop().time() - began < LEASE * 2 / 3


@pytest.mark.parametrize("kind", GUARDED)
async def test_calls_on_a_line_that_fell_silent_end_and_the_next_ones_go_another_way(
    servers: Mapping[str, Guarded], kind: str
) -> None:
    async with through(servers[kind], **servers[kind].quick) as (to_server, backend):
        await asyncio.gather(*[backend.queue.locate(["a"]) for _ in range(20)])  # as many connections as there may be
        to_server.deafen()
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*[backend.queue.locate(["a"]) for _ in range(20)], return_exceptions=True)
            found = None
            while found is None:  # on a busy machine a new connection may take longer than is waited for here
                with suppress(BackendUnavailableError):
                    found = await backend.queue.locate(["a"])
            assert found == {}


@pytest.mark.parametrize("kind", GUARDED)
async def test_who_waits_is_woken_again_after_the_line_fell_silent(
    servers: Mapping[str, Guarded], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"tq_{kind}.{'bell' if kind == 'redis' else 'listener'}.LOOK_EVERY", 0.5)
    woken = asyncio.Event()
    async with through(servers[kind], **servers[kind].quick) as (to_server, backend):
        backend.on_change(woken.set)
        async with asyncio.timeout(PATIENCE):
            await woken.wait()  # it listens now
            to_server.deafen()
            woken.clear()
            await woken.wait()  # it listens anew, and may have missed something


# --- a clock that is wrong --------------------------------------------------------------------------------------------


class Wrong(SystemClock):
    """A machine whose clock was never set right."""

    def __init__(self, off: float) -> None:
        self._off = off

    def now(self) -> float:
        return super().now() + self._off


@pytest.mark.parametrize("off", [600.0, -600.0])
@pytest.mark.parametrize("kind", GUARDED)
async def test_a_worker_whose_clock_is_ten_minutes_off_is_warned_and_keeps_what_it_holds(
    servers: Mapping[str, Guarded], kind: str, off: float, caplog: pytest.LogCaptureFixture
) -> None:
    """Leases, and when a task falls due, go by the server's clock: nobody else runs what it runs, and nothing early."""
    executors, ran = TaskQueuesManager(), list[tuple[str, float]]()
    loop = asyncio.get_running_loop()

    @executors.executor("work", store_on_success=True)
    async def work(task: Task[float], actions: Actions) -> None:
        ran.append((task.id, loop.time()))
        await asyncio.sleep(task.payload)
        actions.success(task, task.payload)

    url = f"{servers[kind].url}namespace=tq_{uuid.uuid4().hex[:8]}"
    options: dict[str, Any] = {"backend_options": dict(servers[kind].quick), "lease": 3.0}
    async with (
        TaskHandler.connect(url, executors, **options) as right,
        TaskHandler.connect(url, executors, clock=Wrong(off), **options) as wrong,
    ):
        began = loop.time()
        at = datetime.now(UTC) + timedelta(seconds=1.5)
        ids = await right.add_tasks(
            [Task(type="work", payload=5.0), Task(type="work", payload=0.0, execute_at=at, id="later")]
        )
        await wrong.start()
        while len(ran) < 1:  # noqa: ASYNC110 -- nothing tells of it
            await asyncio.sleep(0.01)
        await right.start()
        for id in ids:
            await right.task(id).result(timeout=20.0)
        assert sorted(id for id, _ in ran) == sorted(ids), "each ran once"
        assert dict(ran)["later"] - began >= 1.4
    warnings = [it.getMessage() for it in caplog.records if "the clock here is 600 s" in it.getMessage()]
    assert len(warnings) == 1
    assert ("ahead of" if off > 0 else "behind") in warnings[0]
