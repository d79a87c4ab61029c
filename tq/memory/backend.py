"""The backend in memory: all ports over one table of messages, moved forward in one step."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from tq.clock import Clock
from tq.errors import InvalidInputError
from tq.model import Batch, Claim, Delivery, Hop, Place, Receipt, Renewal
from tq.ports import Backend, EntityProjectionProvider, FlowBarrierProvider, Keeper, MessageQueue, TaskStore

from .barrier import MemoryBarrier
from .claims import hand_out
from .commit import Writer
from .content import check_batch
from .flows import Flows
from .immediate import ImmediateQueue
from .ledger import Ledger
from .messages import Messages
from .projections import MemoryProjections, ProjectionRows
from .queue import MemoryQueue
from .server import Part, Server
from .shards import MemoryShardLeases
from .store import MemoryStore

__all__ = ["MemoryBackend", "open_backend"]


class MemoryBackend(Part, Backend):
    """Everything in one process and gone with it: for tests, for trying out, and for work that may be lost."""

    name = "memory"
    atomic = True
    poll_interval = math.inf

    def __init__(self, *, clock: Clock | None = None, inline: bool = False) -> None:
        """Make an empty backend; with `inline` its queue is an `ImmediateQueue`."""
        super().__init__(Server(clock))
        server = self._server
        self._messages = Messages()
        self._ledger = Ledger()
        self._flows = Flows()
        self._rows = ProjectionRows()
        kind = ImmediateQueue if inline else MemoryQueue
        self.queue: MessageQueue = kind(server=server, messages=self._messages, ledger=self._ledger, backend=self)
        self.store: TaskStore = MemoryStore(server=server, messages=self._messages, ledger=self._ledger, backend=self)
        self.barrier: FlowBarrierProvider | None = MemoryBarrier(server=server, flows=self._flows, backend=self)
        self.projections: EntityProjectionProvider | None = MemoryProjections(
            server=server, rows=self._rows, backend=self
        )
        self.shards = MemoryShardLeases(server=server)

    def on_change(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call back when something may fall due earlier than a worker was told; return what takes the wish back.

        The callback is made in the event loop in which this was called, by whoever makes the change.
        """
        return self._server.on_change(callback)

    async def commit(self, batch: Batch, claim: Claim | None = None) -> Hop:
        with self._enter():
            check_batch(batch)
            now = self._server.clock.now()
            writer = Writer(self._messages, self._ledger, self._flows, self._rows, now)
            writer.write(batch)
            closed = [row.state() for row in writer.closed]
            known = tuple([row.state() for row in writer.known])
            if claim is None:
                hop = Hop([], writer.refused, closed, writer.duplicates, known=known)
            else:
                claimed = hand_out(self._messages, claim, now)
                hop = Hop(
                    claimed.deliveries,
                    writer.refused,
                    closed,
                    writer.duplicates,
                    claimed.next_due,
                    claimed.cancelled,
                    known,
                )
            self._ring()
            return hop

    async def park(self, delivery: Delivery, token: str, lease: float) -> Delivery | None:
        with self._enter():
            row = self._messages.held(delivery.receipt) or self._messages.held(Receipt(delivery.message.id, token))
            if row is None:
                return None
            self._messages.lease(row, token, self._server.clock.now() + lease)
            row.place = Place.STORE
            return delivery._replace(token=token, place=Place.STORE)

    def keeper(self) -> AbstractAsyncContextManager[Keeper]:
        return self._keeper()

    @asynccontextmanager
    async def _keeper(self) -> AsyncGenerator[Keeper, None]:
        yield MemoryKeeper(self)

    async def renew(self, receipts: Sequence[Receipt], lease: float) -> Renewal:
        """Let the leases run on; from any thread."""
        with self._enter():
            return self._messages.renew(receipts, self._server.clock.now() + lease)

    async def finish(self, ids: Sequence[str]) -> None: ...  # an ending is decided, and over, in one step

    async def release(self, receipts: Sequence[Receipt]) -> None:
        with self._enter():
            now = self._server.clock.now()
            for receipt in receipts:
                row = self._messages.held(receipt)
                if row is not None:
                    self._messages.release(row, now)
            self._ring()

    def _ring(self) -> None:
        if self._messages.changed:
            self._messages.changed = False
            self._server.changed = True
        self._server.ring()

    async def close(self) -> None:
        self._server.close()


class MemoryKeeper(Keeper):
    """Renews under the server's lock, from whatever thread it is used in."""

    def __init__(self, backend: MemoryBackend) -> None:
        self._backend = backend

    async def renew(self, deliveries: Sequence[Delivery], lease: float) -> Renewal:
        return await self._backend.renew([delivery.receipt for delivery in deliveries], lease)


def open_backend(url: str = "memory://", *, clock: Clock | None = None) -> MemoryBackend:
    """Make a new backend of `memory://` or `immediate://`; nothing is shared between two of them.

    Raises:
        InvalidInputError: the URL says more than `memory://`: nothing would be kept under that name.
    """
    scheme, _, rest = url.partition("://")
    if rest.strip("/"):
        raise InvalidInputError("url", url, f"give {scheme}:// alone: nothing in memory is found again by a name")
    return MemoryBackend(clock=clock, inline=scheme == "immediate")
