"""Telling one provider: its callbacks, plain or async, called in order, their errors kept away from the tasks.

A provider that is given for several families has one outbox, so that it hears everything in the order it happened.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from tq.clock import Clock
from tq.errors import TqError
from tq.lifecycle import Spawner
from tq.logcontext import bind
from tq.model.events import CallbackFailed

__all__ = ["Audience", "Listener", "Mode", "Outbox", "callbacks_of"]

log = logging.getLogger("tq.events")

Mode = Literal["async", "sync"]
Callback = Callable[[Any], Awaitable[Any] | None]
Done = Callable[[BaseException | None], Awaitable[None]]
Complain = Callable[[object, CallbackFailed], Awaitable[None]]


def callbacks_of(provider: object, family: type) -> dict[str, Callback]:
    """Return the callbacks of a family that a provider really has: not those it inherits from the protocol (TLC-07)."""
    found: dict[str, Callback] = {}
    for name in dir(family):
        callback = getattr(provider, name, None) if name.startswith("on_") else None
        if callback is not None and getattr(callback, "__func__", None) is not getattr(family, name):
            found[name] = callback
    return found


class Outbox:
    """What one provider is still to be told.

    In mode "async" it is told by a task of the spawner's, in order; in mode "sync" whoever tells it waits (TLC-09,
    D-56). A provider that is slower than the tasks loses events beyond `limit`, never memory, and is told so (INV-09).
    """

    def __init__(self, provider: object, *, mode: Mode, spawner: Spawner, complain: Complain, limit: int) -> None:
        self._provider = provider
        self._mode = mode
        self._spawner = spawner
        self._complain = complain
        self._limit = limit
        self._waiting: deque[tuple[str, Callback, object, Done | None]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._lost = 0

    async def tell(self, name: str, callback: Callback, event: object) -> None:
        """Call back now, in mode "sync", or soon."""
        if self._mode == "sync":
            await self._call(name, callback, event, None)
        else:
            self.post(name, callback, event)

    def post(self, name: str, callback: Callback, event: object, done: Done | None = None) -> bool:
        """Call back soon, then `done` with what it raised, or None; False where it is too far behind."""
        if len(self._waiting) >= self._limit:
            self._lost += 1
            return False
        self._waiting.append((name, callback, event, done))
        if self._task is None:
            self._task = self._spawner.spawn(self._drain(), "tq events")
        return True

    async def _drain(self) -> None:
        bind({})  # whoever happened to wake this task is not who its callbacks speak of
        try:
            while self._waiting:
                name, callback, event, done = self._waiting.popleft()
                await self._call(name, callback, event, done)
                if self._lost:
                    lost, self._lost = self._lost, 0
                    error = TqError(f"{lost} events were dropped: the provider is slower than the tasks")
                    await self._complain(self._provider, CallbackFailed(callback=name, event=None, error=error))
        finally:
            self._task = None

    async def _call(self, name: str, callback: Callback, event: object, done: Done | None) -> None:
        error: BaseException | None = None
        try:
            heard = callback(event)
            if inspect.isawaitable(heard):
                await heard
        except asyncio.CancelledError as cancelled:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            error = cancelled  # the callback awaited something that was cancelled: its own affair
        except Exception as failed:  # noqa: BLE001 -- whatever a callback raises stays with it (TLC-08)
            error = failed
        if error is not None:
            await self._complain(self._provider, CallbackFailed(callback=name, event=event, error=error))
        if done is not None:
            await done(error)

    async def flush(self) -> None:
        """Wait until everything was told."""
        while self._task is not None and self._task is not asyncio.current_task():
            await asyncio.wait([self._task])


class Listener:
    """One family of a provider's callbacks; of no provider, none."""

    def __init__(self, provider: object | None, family: type, outbox: Outbox | None) -> None:
        self._callbacks = {} if provider is None else callbacks_of(provider, family)
        self._outbox = outbox

    def wants(self, *names: str) -> bool:
        """Tell whether any of these callbacks is there; without names, whether any at all is."""
        return any(name in self._callbacks for name in names or self._callbacks if name != "on_lifecycle_error")

    async def tell(self, name: str, event: object) -> None:
        """Call one callback, if it is there."""
        callback = self._callbacks.get(name)
        if callback is not None and self._outbox is not None:
            await self._outbox.tell(name, callback, event)

    def post(self, name: str, event: object, done: Done | None = None) -> bool:
        """Call one callback soon, whatever the mode; False if it is not there, or too far behind."""
        callback = self._callbacks.get(name)
        return callback is not None and self._outbox is not None and self._outbox.post(name, callback, event, done)


class Audience:
    """All providers of a worker: each has one outbox, and any may hear of another's errors (D-59)."""

    def __init__(self, *, clock: Clock, mode: Mode, spawner: Spawner, limit: int) -> None:
        self._clock = clock
        self._mode: Mode = mode
        self._spawner = spawner
        self._limit = limit
        self._outboxes: dict[tuple[int, Mode], Outbox] = {}
        self._hooks: list[tuple[object, Callback]] = []

    def listener(self, provider: object | None, family: type, mode: Mode | None = None) -> Listener:
        """Return the callbacks of a family that this provider has; `mode` stands in for that of the others."""
        if provider is None:
            return Listener(None, family, None)
        mode = mode or self._mode
        outbox = self._outboxes.get((id(provider), mode))
        if outbox is None:
            outbox = self._outboxes[id(provider), mode] = Outbox(
                provider, mode=mode, spawner=self._spawner, complain=self._complain, limit=self._limit
            )
            hook = callbacks_of(provider, family).get("on_lifecycle_error")
            if hook is not None and not any(owner is provider for owner, _ in self._hooks):
                self._hooks.append((provider, hook))
        return Listener(provider, family, outbox)

    async def flush(self, timeout: float | None) -> bool:
        """Wait until everybody has heard everything; False when `timeout` seconds were not enough."""
        try:
            async with self._clock.timeout(timeout):
                for outbox in list(self._outboxes.values()):
                    await outbox.flush()
        except TimeoutError:
            return False
        return True

    async def _complain(self, provider: object, failure: CallbackFailed) -> None:
        log.error("callback %s raised %r", failure.callback, failure.error, exc_info=failure.error)
        own = [hook for owner, hook in self._hooks if owner is provider]
        for hook in own or [hook for _, hook in self._hooks]:
            try:
                heard = hook(failure)
                if inspect.isawaitable(heard):
                    await heard
            except Exception:
                log.exception("on_lifecycle_error raised")
