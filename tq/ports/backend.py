"""The backend: a bundle of parts, and the one hop in which a worker commits and claims."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from tq.errors import InvalidInputError
from tq.model import Batch, Claim, Delivery, Hop, Receipt, Renewal
from tq.ports.barrier import FlowBarrierProvider
from tq.ports.projection import EntityProjectionProvider
from tq.ports.queue import MessageQueue
from tq.ports.store import TaskStore

__all__ = ["Backend", "Keeper"]


class Keeper(Protocol):
    """Renews leases from a thread, and an event loop, of its own: it shares no connection with the backend."""

    @abstractmethod
    async def renew(self, deliveries: Sequence[Delivery], lease: float) -> Renewal:
        """Let the leases of these run for `lease` more seconds from now."""


class Backend(Protocol):
    """Custody, endings, flows and projections, moved forward by `commit`."""

    name: str
    queue: MessageQueue
    store: TaskStore
    barrier: FlowBarrierProvider | None
    projections: EntityProjectionProvider | None
    """The provider that `commit` writes to; None where rows go to the outbox as notes of topic "projection"."""
    atomic: bool
    """Whether a commit is one atomic step: all of it, or nothing."""
    poll_interval: float
    """How often, in seconds, a worker looks for what other processes add; infinite where there are none."""

    enlists: bool = False
    """Whether `commit_within` takes connections of the user's own."""

    @abstractmethod
    async def commit(self, batch: Batch, claim: Claim | None = None) -> Hop:
        """Write the batch, then claim.

        Per settlement, in one atomic step where `atomic`: the receipt's token is checked; if it is not the message's,
        the settlement has no effect whatever and its receipt is in `Hop.refused`; else its ending and its effects are
        written. Flows decided by it have their join released in the same step. Unfenced effects are written as they
        are. The claim comes last and sees what the batch wrote.

        Repeating a commit whose answer was lost is harmless: what took effect has lost its token.

        Raises:
            BackendUnavailableError: the same commit may be tried again.
            ContentRefusedError: something in the batch is refused; nothing of the batch was written. The caller finds
                the culprit by splitting.
        """

    async def commit_within(self, connection: object, batch: Batch) -> Hop:
        """Write a batch inside the transaction that the caller has begun on `connection`, and will end.

        It becomes real if, and only if, that transaction commits, together with whatever else was written in it; what
        the hop tells is told of that transaction. A call that raises leaves the transaction as it was.

        What is written here is the refusal of a backend that cannot do this.

        Raises:
            InvalidInputError: the connection is not of this backend's driver, leads to another database, or has no
                transaction begun; or no connection is taken at all.
            BackendError: as `commit` does.
        """
        raise InvalidInputError(
            "connection", connection, f"leave it out: {self.name} cannot write within a transaction of yours"
        )

    @abstractmethod
    def on_change(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call back, in the caller's event loop, when something may fall due earlier than a worker was told.

        Only what passes through this very object need be noticed. Returns what takes the wish back.
        """

    @abstractmethod
    async def park(self, delivery: Delivery, token: str, lease: float) -> Delivery | None:
        """Move a running delivery into the store's custody under a new token, then acknowledge its message.

        From then on only the returned delivery counts. None, and no change, where the old lease was lost or the id
        already runs from the store. Asked again with the same token, because an answer was lost, it answers the same,
        and lets the lease run on.
        """

    @abstractmethod
    def keeper(self) -> AbstractAsyncContextManager[Keeper]:
        """Open a keeper; entered, used and left in one event loop, which need not be the backend's."""

    @abstractmethod
    async def release(self, receipts: Sequence[Receipt]) -> None:
        """Give deliveries back at once, uncounted, due as they were: a shutdown's last deed."""

    @abstractmethod
    async def finish(self, ids: Sequence[str]) -> None:
        """Let those of these tasks be over whose ending is decided: who runs them again must find them gone.

        Where `atomic`, record and message change in one step, and there is nothing to do. Where not, a task may be a
        dead letter already, and its message still be there; the rest of its outcome is carried out then.
        """

    @abstractmethod
    async def close(self) -> None:
        """Close what was opened; may be called twice."""
