"""One shard that is read here: what was fetched, what of it has ended, and when to fetch more."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Container

from tq.clock import Clock
from tq.errors import BackendError, BackendUnavailableError, WireError
from tq.model import Claim, Delivery, Message

from .adaptive import AdaptiveStrategy, BatchResult
from .errors import IteratorExpiredError, ShardGoneError, ThrottledError
from .hold import Hold
from .packing import unpack
from .position import ENDED
from .settings import KinesisSettings
from .shipping import backoff
from .stream import Found, Stream
from .window import Slot, Window

__all__ = ["ShardReader"]

log = logging.getLogger("tq.kinesis")

LONGEST_WAIT = 30.0


class ShardReader:
    """Reads when it is asked to, never faster than the stream allows, and never more than the window takes.

    Nothing is handed out that the lease does not tell of first: whoever reads on after a death knows what may have
    caused it.
    """

    def __init__(
        self,
        hold: Hold,
        stream: Stream,
        settings: KinesisSettings,
        clock: Clock,
        strategy: AdaptiveStrategy,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.shard = hold.row.shard
        self.hold = hold
        self.window = Window(settings.window_records, settings.window_bytes)
        self.behind = 0.0
        """Seconds by which the last read was behind the newest record."""
        self.more = False
        """Whether the last read left something behind that is there already."""
        self.closed = False
        """Whether everything that the shard will ever have was read."""
        self.leaving_since: float | None = None
        """Since when it hands nothing out, because another worker is to have the shard."""
        self._stream = stream
        self._settings = settings
        self._clock = clock
        self._strategy = strategy
        self._chance = chance
        self._iterator: str | None = None
        self._read_up_to = hold.row.checkpoint
        self._ready_at = clock.monotonic()
        self._failures = 0
        self._told = hold.row.checkpoint, 0
        self._lock = asyncio.Lock()
        self._ended = 0
        self._failed = 0
        self._types: set[str] = set()
        self._failed_types: set[str] = set()
        """What became of messages since the strategy was told."""

    # --- reading ------------------------------------------------------------------------------------------------------

    @property
    def wants(self) -> bool:
        """Whether there is anything to read, and room for it."""
        return self.hold.live and not self.closed and self.leaving_since is None and self.window.room

    @property
    def wait(self) -> float:
        """Seconds until the shard may be read again."""
        return max(self._ready_at - self._clock.monotonic(), 0.0)

    async def read(self) -> None:
        """Read once, as soon as the stream allows; where somebody reads already, wait for that instead.

        What goes wrong is logged, and tried again at the next call that comes late enough.
        """
        if self._lock.locked():
            async with self._lock:
                return
        async with self._lock:
            if self.wait:
                await self._clock.sleep(self.wait)
            if self.wants and not self._strategy.should_backoff(self.shard):
                begun = self._clock.monotonic()
                self._ready_at = begun + self._settings.read_interval
                await self._try()

    async def _try(self) -> None:
        try:
            try:
                await self._fetch()
            except IteratorExpiredError:  # it was not used for five minutes
                self._iterator = None
                await self._fetch()
        except ThrottledError as error:
            self._strategy.record_batch_result(BatchResult(shard_id=self.shard, throttled=True))
            self._wait_for(error)
        except ShardGoneError as error:
            log.warning("shard %s is gone before all of it was read: %s", self.shard, error)
            self.closed = True
        except BackendUnavailableError as error:
            self._wait_for(error)
        except BackendError as error:
            log.warning("shard %s cannot be read: %s", self.shard, error)
            self._wait_for(error)
        else:
            self._failures = 0

    def _wait_for(self, error: BackendError) -> None:
        """Try again later: anything up to ever longer, so that not everybody comes back at once."""
        wait = backoff(self._failures, 2 * self._settings.read_interval, LONGEST_WAIT, self._chance)
        self._failures += 1
        self._ready_at = self._clock.monotonic() + max(wait, self._settings.read_interval)
        log.info("shard %s is read again in %.1f s: %s", self.shard, wait, error)

    async def _fetch(self) -> None:
        self._tell_strategy()
        if self._iterator is None:
            self._iterator = await self._stream.iterator(self.shard, self._read_up_to)
        limit = self._strategy.get_batch_size(self.shard)
        haul = await self._stream.read(self._iterator, limit)
        if haul.records and not await self._announce(haul.records[-1].position):
            return
        for found in haul.records:
            self._take_in(found)
            self._read_up_to = found.position
        self.behind = haul.behind
        self.more = len(haul.records) >= limit or (haul.behind > 0 and bool(haul.records))
        self._iterator = haul.next
        self.closed = haul.next is None
        if not haul.records:
            rest = self._strategy.get_processing_delay(self.shard)
            self._ready_at = max(self._ready_at, self._clock.monotonic() + rest)

    async def _announce(self, position: str) -> bool:
        """Let the lease say that records up to there may be handed out, before they are; False if it is lost."""
        return await self.hold.write(
            checkpoint=self.window.checkpoint, change=lambda note: note._replace(seen=position)
        )

    def _take_in(self, found: Found) -> None:
        try:
            messages, ordered = unpack(found.data)
        except WireError as error:
            log.warning("record %s of shard %s holds no tasks: %s", found.position, self.shard, error)
            messages, ordered = (self._unreadable(found),), False
        if ordered and self._settings.on_failure == "park_key":
            lane = f"{self._settings.stream}:{found.key}"
            messages = tuple([it if it.lane else it._replace(lane=lane) for it in messages])
        past = [self.hold.note.past(found.position, number) for number in range(len(messages))]
        line = found.key if ordered else ""
        now = self._clock.monotonic()
        self.window.add(found.position, messages, size=len(found.data), line=line, past=past, now=now)

    def _unreadable(self, found: Found) -> Message:
        """Return what stands for a record that is none of ours: whoever runs it finds out, and buries it (D-69)."""
        id = f"{self._settings.stream}:{self.shard}:{found.position}"[-200:]
        return Message(id, "", "unreadable", found.data, self._clock.now())

    # --- handing out --------------------------------------------------------------------------------------------------

    def take(self, claim: Claim, paused: Container[str]) -> list[Delivery]:
        """Hand out what may be."""
        if self.leaving_since is not None or not self.hold.live:
            return []
        now = self._clock.monotonic()
        for slot in self.window.take_back(now):
            self._count(slot, failed=True)
        return self.window.take(claim, now, paused=paused, patience=self._settings.stranger_after)

    def settle(self, slot: Slot) -> bool:
        """End a message."""
        self._count(slot, failed=slot.failed)
        return self.window.settle(slot.receipt)

    def _count(self, slot: Slot, *, failed: bool) -> None:
        self._ended += not failed
        self._failed += failed
        (self._failed_types if failed else self._types).add(slot.message.type)

    async def mark_alone(self, slots: list[Slot]) -> bool:
        """Write down that these run alone, before they do."""
        for slot in slots:
            slot.alone = True
        alone = tuple(slot.place for slot in self.window if slot.alone)
        return await self.hold.write(checkpoint=self.window.checkpoint, change=lambda note: note._replace(alone=alone))

    def _tell_strategy(self) -> None:
        if not self._ended and not self._failed:
            return
        types = sorted(self._types | self._failed_types)
        self._strategy.record_batch_result(
            BatchResult(
                shard_id=self.shard,
                record_count=self._ended + self._failed,
                success_count=self._ended,
                failure_count=self._failed,
                task_types=types,
                failed_task_types=sorted(self._failed_types),
            )
        )
        self._ended = self._failed = 0
        self._types, self._failed_types = set(), set()

    # --- places -------------------------------------------------------------------------------------------------------

    @property
    def checkpoint(self) -> str:
        """Everything up to there has ended; "" where nothing has that was not noted before."""
        return ENDED if self.over else self.window.checkpoint

    @property
    def over(self) -> bool:
        """Whether the shard is read to its end, and all of it has ended."""
        return self.closed and self.window.empty

    def news(self) -> int | None:
        """Return how many messages have ended since the checkpoint that was told last; None where it has not moved."""
        place = self.hold.row.checkpoint
        if place == self._told[0]:
            return None
        ended, self._told = self.window.passed - self._told[1], (place, self.window.passed)
        return ended

    async def renew(self) -> None:
        """Write how far things are, unless that was done lately."""
        if self.window.checkpoint or self._clock.monotonic() - self.hold.since >= self._settings.lease / 4:
            await self.hold.write(checkpoint=self.checkpoint)
