"""A probe sees what happens, and lets a test wait for it instead of sleeping."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, overload

from tq.ports import observer

__all__ = ["Probe", "Seen"]

E = TypeVar("E")


class Seen(NamedTuple):
    """A call of one of a probe's `on_…` callbacks."""

    name: str
    args: tuple[Any, ...]

    @property
    def value(self) -> Any:
        """The first argument: the event itself, where a callback has only one."""
        return self.args[0] if self.args else None


if TYPE_CHECKING:

    class _Hears(
        observer.TaskLifecycleProvider,
        observer.WorkerLifecycleProvider,
        observer.FlowLifecycleProvider,
        observer.QueueLifecycleProvider,
        observer.NotificationProvider,
    ):
        """Tells checkers that a probe is any provider; it inherits nothing: methods of its own would hear nothing."""
else:
    _Hears = object


class Probe(_Hears):
    """Collects events in order.

    Give it as a callback (`probe(event)`), or as a provider of callbacks: whatever name begins with `on_` is one, and
    its calls are collected as `Seen(name, args)`. A kind is a type of events or the name of a callback.
    """

    def __init__(self, *, patience: float = 600.0) -> None:
        self.events: list[Any] = []
        self.patience = patience
        """Seconds of the loop's time for which `next` waits."""
        self._taken: dict[type | str, int] = {}
        self._waiting: set[asyncio.Event] = set()

    def __call__(self, event: Any) -> None:
        self.events.append(event)
        for waiting in self._waiting:
            waiting.set()

    def __getattr__(self, name: str) -> Callable[..., None]:
        if not name.startswith("on_"):
            raise AttributeError(name)

        def record(*args: Any) -> None:
            self(Seen(name, args))

        return record

    @overload
    def of(self, kind: type[E]) -> list[E]: ...
    @overload
    def of(self, kind: str) -> list[Seen]: ...
    def of(self, kind: type | str) -> list[Any]:
        """Return everything of this kind so far."""
        return [event for event in self.events if matches(event, kind)]

    def names(self) -> list[str]:
        """Return the names of what was seen, in order."""
        return [event.name if isinstance(event, Seen) else type(event).__name__ for event in self.events]

    @overload
    async def next(self, kind: type[E]) -> E: ...
    @overload
    async def next(self, kind: str) -> Seen: ...
    async def next(self, kind: type | str) -> Any:
        """Return the first event of this kind that no `next` of this kind has returned; wait for it if need be."""
        arrived = asyncio.Event()
        self._waiting.add(arrived)
        try:
            async with asyncio.timeout(self.patience):
                while True:
                    arrived.clear()
                    start = self._taken.get(kind, 0)
                    for place in range(start, len(self.events)):
                        if matches(self.events[place], kind):
                            self._taken[kind] = place + 1
                            return self.events[place]
                    self._taken[kind] = len(self.events)
                    await arrived.wait()
        except TimeoutError:
            seen = dict(Counter(self.names()))
            raise AssertionError(f"no {kind} came within {self.patience:g} s; seen: {seen}") from None
        finally:
            self._waiting.discard(arrived)


def matches(event: Any, kind: type | str) -> bool:
    """Tell whether an event is of this kind."""
    if isinstance(kind, str):
        return isinstance(event, Seen) and event.name == kind
    return isinstance(event, kind)
