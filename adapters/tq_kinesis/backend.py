"""What a URL opens: a queue, and no more; the rest is kept by another server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, NoReturn

from tq.clock import Clock, SystemClock
from tq.errors import ConfigurationError
from tq.model import Batch, Claim, Delivery, Hop, Receipt
from tq.ports import Backend, Keeper, MessageQueue, ShardLeases, TaskStore

from .queue import KinesisQueue
from .settings import KinesisSettings

__all__ = ["KinesisBackend", "open_backend"]


class KinesisBackend(Backend):
    """Opens the queue once it is told where leases are kept: `shards` is set by whoever knows the store.

    Raises (everything but `queue` and `close`):
        ConfigurationError: a stream keeps nothing that a commit writes.
    """

    name = "kinesis"
    barrier = None
    projections = None
    atomic = False

    def __init__(self, settings: KinesisSettings, clock: Clock, shards: ShardLeases | None = None) -> None:
        self.settings = settings
        self.shards = shards
        """Where workers agree on who reads what."""
        self.poll_interval = settings.poll_interval
        self._clock = clock
        self._queue: KinesisQueue | None = None

    @property
    def queue(self) -> MessageQueue:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride] -- made when the leases are known
        if self._queue is None:
            if self.shards is None:
                self._refuse()
            self._queue = KinesisQueue(self.settings, leases=self.shards, clock=self._clock)
        return self._queue

    @property
    def store(self) -> TaskStore:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride] -- there is none
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise ConfigurationError(
            f"{self.settings.place} keeps tasks only until they have run: name a server for the rest by store=, "
            "such as redis://localhost"
        )

    async def commit(self, batch: Batch, claim: Claim | None = None) -> Hop:
        self._refuse()

    async def park(self, delivery: Delivery, token: str, lease: float) -> Delivery | None:
        self._refuse()

    def keeper(self) -> AbstractAsyncContextManager[Keeper]:
        self._refuse()

    async def finish(self, ids: Sequence[str]) -> None:
        self._refuse()

    async def release(self, receipts: Sequence[Receipt]) -> None:
        self._refuse()

    def on_change(self, callback: Callable[[], object]) -> Callable[[], None]:
        self._refuse()

    async def close(self) -> None:
        if self._queue is not None:
            await self._queue.close()


def open_backend(url: str, *, clock: Clock | None = None, **options: Any) -> KinesisBackend:
    """Open `kinesis://stream?region=eu-west-1`; options are those of `KinesisSettings`.

    Raises:
        InvalidInputError: it is no such address, or an option is refused.
        ConfigurationError: an option is unknown.
    """
    return KinesisBackend(KinesisSettings.parse(url, **options), clock or SystemClock())
