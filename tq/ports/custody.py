"""What a queue and a store have in common: both keep messages and hand them out under a lease."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from tq.model import Claim, Delivery, Message, Rearm, Receipt, Renewal, Whereabouts

__all__ = ["Claimed", "Custody", "Guarantees"]


class Guarantees(NamedTuple):
    """What a custodian declares; the contract suites prove each declaration, both ways."""

    durable: bool = True
    """What was acknowledged survives the end of every process."""
    shared: bool = True
    """Several processes may use it at once."""
    delays: bool = True
    """It keeps a message until `run_at`. One that cannot is given only what is due."""
    rearms: bool = True
    """`rearm` changes a message in place. One that cannot has the retry written to the store, then acknowledged."""
    locates: bool = True
    """`locate` sees every live message."""
    redelivery: float = 0.0
    """Longest time, in seconds, after which an acknowledged message may still come again; 0 for never."""
    inline: bool = False
    """Tasks are run by the call that adds them."""
    partitioned: bool = False
    """A process takes parts of it as a whole: what it claims of them nobody else can settle, and its end gives them
    back."""


class Claimed(NamedTuple):
    """The answer to a claim."""

    deliveries: list[Delivery]
    next_due: float | None = None
    """When fewer came than were asked for: when something will fall due, if anything will."""
    cancelled: tuple[Receipt, ...] = ()
    """Deliveries of the claiming worker whose cancel was asked for."""


class Custody(Protocol):
    """At least once: a message is handed out until it is acknowledged; under a lease by one holder at a time.

    Every verb takes many and is one round trip; each may be repeated without harm. `Receipt`s fence: a verb given a
    receipt whose token is no longer the message's does nothing for it and returns it as lost.

    Raises (every verb):
        BackendUnavailableError: trying again may help; it is then unknown whether the call took effect.
        ContentRefusedError: the server refuses this content.
    """

    name: str
    """The provider's name in events and consumer ids, such as "memory"."""
    guarantees: Guarantees

    @abstractmethod
    async def add(self, messages: Sequence[Message]) -> list[str]:
        """Insert what is new, all or nothing; return the ids that were already there, which stay as they are."""

    @abstractmethod
    async def claim(self, claim: Claim) -> Claimed:
        """Hand out up to `claim.limit` due messages of unpaused queues. A held message is never handed out.

        Due: `run_at` has come and no lease is on it. A cancelled one that is not leased is due at once. Of a lane only
        the oldest message is ever handed out.
        """

    @abstractmethod
    async def ack(self, receipts: Sequence[Receipt]) -> list[Receipt]:
        """Remove; return the receipts that were lost."""

    @abstractmethod
    async def rearm(self, rearms: Sequence[tuple[Receipt, Rearm]]) -> list[Receipt]:
        """Give back, due again at its `run_at`; `crashes` are kept; return the receipts that were lost."""

    @abstractmethod
    async def solo(self, receipts: Sequence[Receipt]) -> list[Receipt]:
        """Note that these run alone from now on; return the receipts that were lost."""

    @abstractmethod
    async def renew(self, receipts: Sequence[Receipt], lease: float) -> Renewal:
        """Let the leases run for `lease` more seconds from now."""

    @abstractmethod
    async def cancel(self, ids: Sequence[str]) -> list[str]:
        """Ask for these to end: a waiting one becomes due at once, a running one is told; return the ids found."""

    @abstractmethod
    async def locate(self, ids: Sequence[str]) -> dict[str, Whereabouts]:
        """Tell where these live messages are; an id that is not live is absent."""

    @abstractmethod
    async def list(self, queue: str | None, after: str, limit: int) -> Sequence[Whereabouts]:
        """Return live messages by id, those after `after`; a page of at most `limit`."""

    @abstractmethod
    async def counts(self) -> Mapping[str, Mapping[str, int]]:
        """Return per queue: `waiting` (due), `delayed` (not yet due), `running`, `held`."""

    @abstractmethod
    async def pause(self, queue: str, paused: bool) -> None:  # noqa: FBT001 -- read as one: pause("mail", True)
        """Stop, or resume, handing out messages of this queue, for every worker; survives restarts."""

    @abstractmethod
    async def paused(self) -> Sequence[str]:
        """Return the names of paused queues, sorted."""

    @abstractmethod
    async def close(self) -> None:
        """Release what was opened; may be called twice. A client that was passed in stays open."""
