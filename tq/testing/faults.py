"""Faults on purpose: a call may fail before its effect or after it, come twice, stand still, or be the process's last.

`Faults` stands for one process and what lies between it and its servers. Wrap the ports that the process is given; a
plan then decides, call by call, what goes wrong. The servers' own state is never touched: after a death it is what the
next process finds.

    faults = Faults(plans.at(7, Fault.DIE_AFTER), clock=clock)
    handler = TaskHandler.on(faults.backend(backend), executors, clock=clock)

`str(faults)` is the plan that does the same again.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from enum import StrEnum
from typing import Any, NamedTuple, cast

from tq.clock import Clock
from tq.errors import BackendUnavailableError
from tq.ports import (
    Backend,
    EntityProjectionProvider,
    FlowBarrierProvider,
    Keeper,
    MessageQueue,
    TaskStore,
)

__all__ = ["Call", "Fault", "Faults", "Plan", "ProcessDiedError"]


class Fault(StrEnum):
    """What may go wrong with one call."""

    BEFORE = "before"
    """It fails, and had no effect."""
    AFTER = "after"
    """It takes effect and then fails: the answer was lost."""
    TWICE = "twice"
    """It comes twice, as a resent request does; the second answer is read."""
    HANG = "hang"
    """It stands still, longer than a lease, and takes effect then."""
    DIE_BEFORE = "die-before"
    """The process is gone before the call was sent."""
    DIE_AFTER = "die-after"
    """The process is gone when the answer comes."""


class Call(NamedTuple):
    """One call of a process to one of its servers."""

    number: int
    """Counts from 1."""
    name: str
    """Port and verb, such as "store.put"."""


Plan = Callable[[Call], Fault | None]
"""Decides what goes wrong with a call; `tq.testing.plans` makes some."""


class ProcessDiedError(asyncio.CancelledError):
    """The process is gone: like a cancellation, nothing may catch it, and nothing that it still says has an effect."""


class Faults:
    """A process that is given wrapped ports; its calls are counted across all of them.

    Args:
        plan: decides for each call what goes wrong; absent means nothing.
        clock: lets time pass where a call stands still or takes long.
        error: what a failing call raises; absent means that the server is away.
        hang: seconds for which a call stands still.
        latency: seconds that a call takes, asked before its effect and after it; absent means none.
    """

    def __init__(
        self,
        plan: Plan | None = None,
        *,
        clock: Clock | None = None,
        error: Callable[[Call], Exception] | None = None,
        hang: float = 100.0,
        latency: Callable[[], float] | None = None,
    ) -> None:
        self.calls: list[str] = []
        """The names of all calls, in order."""
        self.done: list[tuple[Call, Fault]] = []
        """What went wrong so far."""
        self.death = asyncio.Event()
        """Set when the process died: whoever plays its supervisor then kills its handler and starts another one."""
        self._plan = plan
        self._clock = clock
        self._error = error or _away
        self._hang = hang
        self._latency = latency

    def __str__(self) -> str:
        words = ", ".join(f"{call.number}: Fault.{fault.name}" for call, fault in self.done)
        names = ", ".join(f"{call.name} {fault}" for call, fault in self.done)
        return f"script({{{words}}})  # {names or 'nothing went wrong'}"

    # --- wrapping -----------------------------------------------------------------------------------------------------

    def backend(self, backend: Backend) -> Backend:
        """Wrap a backend and all its parts; they remain parts of one backend."""
        return cast("Backend", _FaultyBackend(self, backend))

    def queue(self, queue: MessageQueue) -> MessageQueue:
        """Wrap a queue; it tells of no backend any more, so that it counts as a server of its own."""
        return cast("MessageQueue", self.port("queue", queue))

    def store(self, store: TaskStore) -> TaskStore:
        """Wrap a store, as `queue` does a queue."""
        return cast("TaskStore", self.port("store", store))

    def barrier(self, barrier: FlowBarrierProvider) -> FlowBarrierProvider:
        """Wrap a barrier, as `queue` does a queue."""
        return cast("FlowBarrierProvider", self.port("barrier", barrier))

    def projections(self, provider: EntityProjectionProvider) -> EntityProjectionProvider:
        """Wrap a projection provider, a user's own too."""
        return cast("EntityProjectionProvider", self.port("projections", provider))

    def keeper(self, keeper: Keeper) -> Keeper:
        """Wrap a keeper."""
        return cast("Keeper", self.port("keeper", keeper))

    def port(self, name: str, port: object, home: object = None) -> Any:
        """Wrap anything: what is awaited is a call of this name, all else is passed through."""
        return _FaultyPort(self, name, port, home)

    # --- calling ------------------------------------------------------------------------------------------------------

    async def call(self, name: str, verb: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Make one call, and let go wrong what the plan says.

        Raises:
            ProcessDiedError: the process died, at this call or earlier.
        """
        self._live()
        self.calls.append(name)
        call = Call(len(self.calls), name)
        fault = self._plan(call) if self._plan is not None else None
        if fault is not None:
            self.done.append((call, fault))
        await self._pause()
        if fault is Fault.BEFORE:
            raise self._error(call)
        if fault is Fault.DIE_BEFORE:
            self._die()
        if fault is Fault.HANG:
            await self._sleep(self._hang)
        answer = await verb(*args, **kwargs)
        if fault is Fault.TWICE:
            answer = await verb(*args, **kwargs)
        if fault is Fault.DIE_AFTER:
            self._die()
        await self._pause()
        if fault is Fault.AFTER:
            raise self._error(call)
        self._live()
        return answer

    def _live(self) -> None:
        if self.death.is_set():
            raise ProcessDiedError

    def _die(self) -> None:
        self.death.set()
        raise ProcessDiedError

    async def _pause(self) -> None:
        if self._latency is not None:
            await self._sleep(self._latency())
            self._live()

    async def _sleep(self, delay: float) -> None:
        if self._clock is None:
            raise ValueError("give clock=… where calls are to take time")
        await self._clock.sleep(delay)


class _FaultyPort:
    """Passes everything on to a port; what is awaited goes through the process's faults."""

    def __init__(self, faults: Faults, name: str, port: object, home: object) -> None:
        self._faults = faults
        self._name = name
        self._port = port
        self._home = home

    def __getattr__(self, name: str) -> Any:
        if name == "backend":
            if self._home is None:
                raise AttributeError(name)
            return self._home
        value = getattr(self._port, name)
        if not inspect.iscoroutinefunction(value):
            return value
        faults, called = self._faults, f"{self._name}.{name}"

        async def verb(*args: Any, **kwargs: Any) -> Any:
            return await faults.call(called, value, args, kwargs)

        vars(self)[name] = verb
        return verb


class _FaultyBackend(_FaultyPort):
    def __init__(self, faults: Faults, backend: Backend) -> None:
        super().__init__(faults, "backend", backend, None)
        for name in ("queue", "store", "barrier", "projections"):
            part = getattr(backend, name)
            vars(self)[name] = None if part is None else faults.port(name, part, self)

    def keeper(self) -> AbstractAsyncContextManager[Keeper]:
        return self._keeper()

    @asynccontextmanager
    async def _keeper(self) -> AsyncGenerator[Keeper]:
        async with cast("Backend", self._port).keeper() as keeper:
            yield self._faults.keeper(keeper)


def _away(call: Call) -> Exception:
    return BackendUnavailableError(f"{call.name} does not answer")
