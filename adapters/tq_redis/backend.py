"""The backend: every part over one server, moved forward by one script per hop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Self

from tq.clock import Clock, SystemClock
from tq.errors import BackendUnavailableError
from tq.model import Batch, Claim, Delivery, Hop, Place, Receipt
from tq.ports import Backend, Keeper

from .arguments import as_number
from .barrier import RedisBarrier
from .commit import commit_arguments, read_hop
from .keeper import RedisKeeper
from .provider import RedisProjections
from .queue import RedisQueue, receipts_of
from .server import Call, Server
from .settings import RedisSettings
from .shards import RedisShardLeases
from .store import RedisStore

__all__ = ["RedisBackend", "open_backend"]

_MOST_UNANSWERED = 16


class RedisBackend(Backend):
    """Atomic: a commit is one script. Queue and store keep the same messages."""

    name = "redis"
    atomic = True

    def __init__(self, settings: RedisSettings, clock: Clock) -> None:
        """Look at the server, and take the namespace.

        Raises:
            ConfigurationError: the server is older than 6.2.
            ForeignDatabaseError: the namespace is another program's, or a newer tq's; it was not touched.
            BackendError: and its branches, when the server cannot be used.
        """
        self.settings = settings
        self.server = Server.open(settings, clock)
        self.queue = RedisQueue(self, self.server)
        self.store = RedisStore(self, self.server)
        self.barrier = RedisBarrier(self, self.server)
        self.projections = RedisProjections(self, self.server)
        self.shards = RedisShardLeases(self, self.server)
        self.poll_interval = settings.poll_interval
        self._unanswered: list[tuple[Batch, Claim | None, Call]] = []
        """Hops that nobody knows the outcome of: made again, they are to have no second effect."""

    @classmethod
    def open(cls, url: str, *, clock: Clock | None = None, **options: Any) -> Self:
        """Open what `url` names; options are the fields of `RedisSettings`."""
        return cls(RedisSettings.parse(url, **options), clock or SystemClock())

    def on_change(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call back when something may fall due earlier than a worker was told, whoever added it."""
        return self.server.bell.on_change(callback)

    async def commit(self, batch: Batch, claim: Claim | None = None) -> Hop:
        """Write, then claim. Made again with the same values after its answer was lost, a hop answers as it did."""
        call = self._call_of(batch, claim)
        try:
            answer = await self.server.write_once("commit", commit_arguments(batch, claim), call)
        except BackendUnavailableError:
            self._unanswered.append((batch, claim, call))
            if len(self._unanswered) > _MOST_UNANSWERED:
                self.server.give_back(self._unanswered.pop(0)[2])
            raise
        except BaseException:
            self.server.give_back(call)
            raise
        self.server.give_back(call)
        return read_hop(batch, claim, answer)

    def _call_of(self, batch: Batch, claim: Claim | None) -> Call:
        for number, (other, asked, call) in enumerate(self._unanswered):
            if other is batch and asked is claim:
                del self._unanswered[number]
                return call
        return self.server.next_call()

    async def park(self, delivery: Delivery, token: str, lease: float) -> Delivery | None:
        moved = await self.server.write("move", (*delivery.receipt, token, as_number(lease)))
        return delivery._replace(token=token, place=Place.STORE) if moved == 1 else None

    def keeper(self) -> AbstractAsyncContextManager[Keeper]:
        return RedisKeeper(self.server)

    async def release(self, receipts: Sequence[Receipt]) -> None:
        await self.server.write("release", receipts_of(receipts))

    async def finish(self, ids: Sequence[str]) -> None: ...  # an ending is decided, and over, in one step

    async def close(self) -> None:
        await self.server.close()


def open_backend(url: str, *, clock: Clock | None = None, **options: Any) -> RedisBackend:
    """Open `redis://host:6379/0`, `rediss://` for TLS, or `redis+unix:///path/of.sock`, of one server or of a cluster.

    The entry point of the group `tq.backends`.
    """
    return RedisBackend.open(url, clock=clock, **options)
