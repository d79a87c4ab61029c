"""Which shards this worker reads: rounds of renewing, looking, giving up and taking.

    renew what is ours ─▶ look at the rows ─▶ list shards, if it is time ─▶ let go of what ended, or moves ─▶ take

A round is made every third of a lease, and at once where something has changed here. Whoever dies says nothing: its
rows stand still, and after a lease the others share them out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence

from tq.clock import Clock
from tq.errors import BackendError
from tq.lifecycle import Service
from tq.model import ShardLease
from tq.ports import ShardLeases, ShardListener

from .adaptive import AdaptiveStrategy
from .assign import Sightings, assign
from .hold import Hold
from .note import Note
from .reader import ShardReader
from .settings import KinesisSettings
from .stream import Stream
from .topology import forgotten, is_readable, unknown

__all__ = ["Leaser"]

log = logging.getLogger("tq.kinesis")

FORGOTTEN_AFTER = 10
"""Leases after which a worker that is heard of no more is taken from the list."""


class Leaser(Service):
    """Holds this worker's share of the shards."""

    def __init__(
        self,
        me: str,
        stream: Stream,
        leases: ShardLeases,
        settings: KinesisSettings,
        clock: Clock,
        strategy: AdaptiveStrategy,
        changed: Callable[[], object],
    ) -> None:
        super().__init__()
        self.listener: ShardListener | None = None
        self.me = me
        self.readers: dict[str, ShardReader] = {}
        self._stream = stream
        self._leases = leases
        self._settings = settings
        self._clock = clock
        self._strategy = strategy
        self._changed = changed
        self._seen = Sightings()
        self._row = ShardLease(f"{settings.root}/workers", me, owner=me)
        self._list_at = clock.monotonic()
        self._woken = asyncio.Event()
        self._lock = asyncio.Lock()
        self.begun = False
        """Whether a round was made."""

    async def _main(self) -> None:
        while not self._stopping.is_set():
            try:
                async with self._clock.timeout(self._settings.lease / 3):
                    await self._woken.wait()
            except TimeoutError:
                pass
            if self._stopping.is_set():
                return
            try:
                await self.round()
            except BackendError as error:
                log.warning("shards of %s cannot be looked after, trying again: %s", self._stream.name, error)

    def wake(self) -> None:
        """Make a round now: something has changed."""
        self._woken.set()

    async def round(self) -> None:
        """Renew, look, let go, take.

        Raises:
            BackendError: leases, or the stream, cannot be reached.
        """
        async with self._lock:
            self._woken.clear()
            await self._renew()
            await self._let_go()
            now = self._clock.monotonic()
            rows = await self._leases.list(self._settings.root)
            workers = await self._leases.list(self._row.stream)
            self._seen.look([*rows, *workers], now)
            await self._attend(workers, now)
            leases = {row.shard: row for row in rows}
            if now >= self._list_at or not leases:
                leases = await self._discover(leases)
            await self._share_out(leases, workers, now)
            self.begun = True

    # --- what is ours -------------------------------------------------------------------------------------------------

    async def _renew(self) -> None:
        """Renew every lease; one that cannot be is kept for as long as it lasts."""
        answers = await asyncio.gather(*[it.renew() for it in self.readers.values()], return_exceptions=True)
        for error in answers:
            if isinstance(error, BackendError):
                log.warning("a lease of %s could not be renewed, trying again: %s", self._stream.name, error)
            elif error is not None:
                raise error
        for reader in self.readers.values():
            self._tell_checkpoint(reader)

    def _tell_checkpoint(self, reader: ShardReader) -> None:
        ended = reader.news()
        if ended is not None and self.listener is not None:
            self.listener.shard_noted(reader.shard, reader.hold.row.checkpoint, ended)

    async def _let_go(self) -> None:
        """Let go of what is lost, what has ended, and what another worker is to have."""
        for shard, reader in list(self.readers.items()):
            if not reader.hold.live:
                log.warning("shard %s of %s is read here no more: its lease was lost", shard, self._stream.name)
                self._drop(shard, "error")
            elif reader.over or self._may_leave(reader):
                if reader.over:
                    self._list_at = self._clock.monotonic()  # its children are to be found
                await reader.hold.give_back(reader.checkpoint)
                self._drop(shard, "shutdown" if reader.over else "rebalance")
                self.wake()

    def _may_leave(self, reader: ShardReader) -> bool:
        """Whether what was handed out of a leaving shard has ended, or was waited for long enough."""
        since = reader.leaving_since
        if since is None:
            return False
        return not reader.window.out or self._clock.monotonic() - since >= self._settings.hand_over

    def _drop(self, shard: str, reason: str) -> None:
        """Read a shard no more; receipts of what was handed out of it are worth nothing from now on."""
        reader = self.readers.pop(shard)
        self._tell_checkpoint(reader)
        reader.hold.lose()
        self._strategy.forget(shard)
        if self.listener is not None:
            self.listener.shard_left(shard, reason)
        self._changed()

    # --- what there is ------------------------------------------------------------------------------------------------

    async def _attend(self, workers: Sequence[ShardLease], now: float) -> None:
        """Show that this worker lives, and strike off those that have not for long."""
        mine = next((row for row in workers if row.shard == self.me), None)
        if mine is None:
            await self._leases.create([self._row])
        else:
            await self._leases.swap([(mine, mine)])
        patience = FORGOTTEN_AFTER * self._settings.lease
        gone = [row for row in workers if row.shard != self.me and self._seen.age(row, now) >= patience]
        if gone:
            await self._leases.drop(gone)

    async def _discover(self, leases: Mapping[str, ShardLease]) -> dict[str, ShardLease]:
        """List the shards; return the leases with those of new shards, without those of forgotten ones."""
        shards = await self._stream.shards()
        start = self._settings.place_to_start(self._clock.now())
        new = unknown(self._settings.root, shards, leases, start)
        if new:
            await self._leases.create(new)
        old = forgotten(shards, leases)
        if old:
            await self._leases.drop(old)
        self._list_at = self._clock.monotonic() + self._settings.list_interval
        dropped = {row.shard for row in old}
        return {row.shard: row for row in (*leases.values(), *new) if row.shard not in dropped}

    # --- sharing out --------------------------------------------------------------------------------------------------

    async def _share_out(self, leases: Mapping[str, ShardLease], workers: Collection[ShardLease], now: float) -> None:
        readable = [row for row in leases.values() if is_readable(row, leases)]
        free = [row for row in readable if self._is_free(row, now)]
        # Who has missed a round may be dead as well: nothing is kept free for it until that is certain.
        alive = {row.shard for row in workers if self._seen.age(row, now) < self._settings.lease / 2}
        held = [row for row in readable if row not in free]
        plan = assign(self.me, held, free, alive)
        for row in plan.take:
            await self._take(row)
        if plan.give_up and all(it.leaving_since is None for it in self.readers.values()):
            self._give_up_one()

    def _is_free(self, row: ShardLease, now: float) -> bool:
        """Whether nobody reads a shard: nobody says so, or who says so is heard of no more."""
        if row.owner == self.me:  # from before this worker stood still for too long
            return row.shard not in self.readers
        return not row.owner or self._seen.age(row, now) >= self._settings.lease

    async def _take(self, row: ShardLease) -> None:
        begun = self._clock.monotonic()
        note = Note.read(row.note).inherited(died=bool(row.owner))
        [taken] = await self._leases.swap([(row, row._replace(owner=self.me, note=note.text))])
        if taken is None:
            return
        log.info("shard %s of %s is read here from %s on", row.shard, self._stream.name, row.checkpoint or "its start")
        hold = Hold(taken, self._leases, self._clock, self._settings.lease, begun)
        self.readers[row.shard] = ShardReader(hold, self._stream, self._settings, self._clock, self._strategy)
        if self.listener is not None:
            self.listener.shard_taken(row.shard)
        self._changed()

    def _give_up_one(self) -> None:
        """Hand out nothing more of the shard of which least is out."""
        reader = min(self.readers.values(), key=lambda it: (it.window.out, it.shard), default=None)
        if reader is not None:
            reader.leaving_since = self._clock.monotonic()
            log.info("shard %s of %s goes to another worker", reader.shard, self._stream.name)
            self.wake()

    # --- the end ------------------------------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Give every shard back, from where it is: what has not ended is another worker's."""
        self._woken.set()
        await super().stop()
        async with self._lock:
            for shard, reader in list(self.readers.items()):
                try:
                    await reader.hold.give_back(reader.checkpoint)
                except BackendError as error:
                    log.warning("shard %s of %s is free when its lease is over: %s", shard, self._stream.name, error)
                self._drop(shard, "shutdown")
            try:
                rows = await self._leases.list(self._row.stream)
                await self._leases.drop([row for row in rows if row.shard == self.me])
            except BackendError as error:
                log.info("%s is still listed as a worker of %s: %s", self.me, self._stream.name, error)
