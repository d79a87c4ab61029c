"""The lease on one shard, while it is ours: it changes only as we have seen it last, which is the fence (D-70)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tq.clock import Clock
from tq.model import ShardLease
from tq.ports import ShardLeases

from .note import Note

__all__ = ["Hold"]


class Hold:
    """A row that this process owns, until somebody else has changed it.

    Writing anything renews it. It counts as lost, too, once it was not renewed for as long as a lease lasts: whoever
    stood still must not go on as if nothing had happened, whether or not anybody has come instead.
    """

    def __init__(self, row: ShardLease, leases: ShardLeases, clock: Clock, lease: float, since: float) -> None:
        self.row = row
        self.note = Note.read(row.note)
        self.since = since
        """When it was renewed last, on the monotonic clock: before that was asked for, not when the answer came."""
        self._leases = leases
        self._clock = clock
        self._lease = lease
        self._lock = asyncio.Lock()
        self._unsure: tuple[ShardLease, ShardLease] | None = None
        """A change of which it is not known whether it was made: it has to be made before the next."""
        self._lost = False

    @property
    def live(self) -> bool:
        """Whether this process may still act by it."""
        return not self._lost and self._clock.monotonic() - self.since < self._lease

    async def write(
        self, *, checkpoint: str = "", change: Callable[[Note], Note] | None = None, owner: str | None = None
    ) -> bool:
        """Renew, and say how far things are; return whether it is still ours.

        Args:
            checkpoint: everything up to there has ended; "" for what was said before.
            change: makes the note that is left to whoever reads on of the one that was left before.
            owner: "" gives the lease back.

        Raises:
            BackendError: it is not known whether it was written.
        """
        async with self._lock:
            if not self.live:
                return False
            if self._unsure is not None and not await self._swap(*self._unsure):
                return False
            place = checkpoint or self.row.checkpoint
            self.note = (self.note if change is None else change(self.note)).after(place)
            wanted = self.row._replace(
                checkpoint=place,
                note=self.note.text,
                owner=self.row.owner if owner is None else owner,
            )
            return await self._swap(self.row, wanted)

    async def _swap(self, seen: ShardLease, wanted: ShardLease) -> bool:
        begun = self._clock.monotonic()
        self._unsure = (seen, wanted)
        [row] = await self._leases.swap([self._unsure])
        self._unsure = None
        if row is None:
            self._lost = True
            return False
        self.row, self.since = row, begun
        return True

    async def give_back(self, checkpoint: str) -> bool:
        """Let anybody read on from here; what was handed out and has not ended will have been a hand-out."""
        given = await self.write(checkpoint=checkpoint, change=_handed_over(checkpoint), owner="")
        self._lost = True
        return given

    def lose(self) -> None:
        """Act by it no more."""
        self._lost = True


def _handed_over(checkpoint: str) -> Callable[[Note], Note]:
    return lambda note: note.after(checkpoint).inherited(died=False)
