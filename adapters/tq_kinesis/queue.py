"""The message queue on a stream: what is added goes into it, what is claimed comes from the shards read here."""

from __future__ import annotations

import asyncio
import math
import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tq.clock import Clock, SystemClock
from tq.errors import BackendError
from tq.ids import new_id
from tq.lifecycle import Spawner
from tq.model import Claim, Delivery, Message, Rearm, Receipt, Renewal, Whereabouts
from tq.ports import Claimed, Guarantees, MessageQueue, ShardLeases, ShardListener

from .adaptive import AdaptiveStrategy, Aimd
from .board import Board
from .leaser import Leaser
from .producer import Producer
from .reader import ShardReader
from .seen import ShardView, counted, whereabouts
from .settings import KinesisSettings
from .stream import Api, Stream, opened_by
from .window import Slot

__all__ = ["KinesisQueue"]


class KinesisQueue(MessageQueue):
    """At-least-once; in order per key, also through retries; it cannot delay, re-arm, or tell what it holds.

    A store stands beside it: for what is due later, for retries, for outcomes. Reading begins with the first claim, and
    goes on as claims come: a worker that claims nothing reads nothing, so that nothing piles up. What one stream
    carries should be served by all of its workers: tasks of a queue that the reader of their shard does not serve go to
    the store after a while. A queue that is paused holds up the shards in which its tasks stand. Whoever makes a queue
    closes it: until then its shards are nobody else's.

    Args:
        stream: its name, or all settings.
        leases: where workers agree on who reads what, such as `backend.shards` of the store's backend.
        client: a Kinesis client, which stays open; or
        session: a session of aioboto3 or aiobotocore, by which a client is made; None for one of the environment's.
        default_key: gives tasks a key which name none; they are then run in its order.
        strategy: decides how much is read at once; None for `Aimd`.
        clock: tells the time.
        settings: of `KinesisSettings`.

    Raises:
        InvalidInputError: a setting is refused.
    """

    name = "kinesis"

    def __init__(
        self,
        stream: str | KinesisSettings,
        *,
        leases: ShardLeases,
        client: Api | None = None,
        session: Any = None,
        default_key: Callable[[Message], str | None] | None = None,
        strategy: AdaptiveStrategy | None = None,
        clock: Clock | None = None,
        **settings: Any,
    ) -> None:
        self.settings = KinesisSettings(stream=stream, **settings) if isinstance(stream, str) else stream
        self.guarantees = Guarantees(
            delays=False, rearms=False, locates=False, partitioned=True, redelivery=self.settings.redelivery
        )
        self.poll_interval = self.settings.poll_interval
        self._clock = clock or SystemClock()
        self._stream = Stream(self.settings, client, opened_by(self.settings, session))
        self._producer = Producer(self._stream, self.settings, self._clock, default_key)
        self._board = Board(self.settings.root, leases, self._clock)
        self._paused: frozenset[str] = frozenset()
        self._paused_at = -math.inf
        self._spawner = Spawner()
        self._wishes: list[Callable[[], object]] = []
        self.strategy = strategy or Aimd(self._clock, base_delay=self.settings.read_interval)
        self._leaser = Leaser(
            f"{os.getpid()}-{new_id(self._clock.now())}",
            self._stream,
            leases,
            self.settings,
            self._clock,
            self.strategy,
            self._ring,
        )
        self._first = 0
        self._closed = False

    @property
    def listener(self) -> ShardListener | None:
        """Who hears which shards are read here."""
        return self._leaser.listener

    @listener.setter
    def listener(self, listener: ShardListener | None) -> None:
        self._leaser.listener = listener

    @property
    def worker(self) -> str:
        """The name under which this process takes part in the group."""
        return self._leaser.me

    @property
    def _readers(self) -> list[ShardReader]:
        return list(self._leaser.readers.values())

    def _check_open(self) -> None:
        if self._closed:
            raise BackendError(f"{self.settings.place} is closed here")

    # --- adding -------------------------------------------------------------------------------------------------------

    async def add(self, messages: Sequence[Message]) -> list[str]:
        """Write messages into the stream; one that is there already comes twice, and is told apart by its outcome."""
        self._check_open()
        fresh: dict[str, Message] = {}
        again = [it.id for it in messages if fresh.setdefault(it.id, it) is not it]
        if fresh:
            await self._producer.send(list(fresh.values()))
            self._ring()
        return again

    # --- claiming -----------------------------------------------------------------------------------------------------

    async def claim(self, claim: Claim) -> Claimed:
        """Hand out what was read; where that is nothing, look at every shard first."""
        self._check_open()
        await self._begin()
        queues = tuple([name for name in claim.queues if name not in await self._pauses()])
        wanted = claim._replace(queues=queues)
        deliveries: list[Delivery] = []
        if queues and claim.limit > 0:
            deliveries = self._take(wanted)
            if not deliveries:
                await self._look()
                deliveries = self._take(wanted)
            self._read_ahead()
        cancelled = tuple(
            [slot.receipt for _, slot in self._slots() if slot.cancelled and slot.token.startswith(f"{claim.worker}:")]
        )
        return Claimed(deliveries, self._next_due() if len(deliveries) < claim.limit else None, cancelled)

    def _next_due(self) -> float | None:
        """Return when a lease ends, or a shard may be read of which more is known to be there."""
        waits = [reader.window.ends_at - self._clock.monotonic() for reader in self._readers]
        waits += [reader.wait for reader in self._readers if reader.more and reader.wants]
        wait = min(waits, default=math.inf)
        return None if wait == math.inf else self._clock.now() + max(wait, 0.0)

    async def _begin(self) -> None:
        """Take part in the group: the first claim waits for its share of the shards."""
        if not self._leaser.begun:
            await self._leaser.round()
            await self._leaser.start()

    async def _pauses(self) -> frozenset[str]:
        """Return what is paused; what others have paused is heard of within a poll."""
        if self._clock.monotonic() - self._paused_at >= self.settings.poll_interval:
            self._paused = frozenset(await self._board.paused())
            self._paused_at = self._clock.monotonic()
        return self._paused

    def _take(self, claim: Claim) -> list[Delivery]:
        """Take from one shard after the other, beginning with another one each time (D-75)."""
        readers = self._readers
        self._first += 1
        taken: list[Delivery] = []
        for number in range(len(readers)):
            left = claim.after(taken)
            if left.limit <= 0:
                break
            taken += readers[(self._first + number) % len(readers)].take(left, self._paused)
        return taken

    async def _look(self) -> None:
        """Read every shard once, of those that may be read soon."""
        soon = 2 * self.settings.read_interval
        reads = [self._spawner.spawn(it.read()) for it in self._readers if it.wants and it.wait <= soon]
        if reads:
            await asyncio.wait(reads)
        if any(reader.over for reader in self._readers):
            self._leaser.wake()

    def _read_ahead(self) -> None:
        """Read what is next while bodies run: only where it may be read at once."""
        for reader in self._readers:
            if reader.wants and not reader.wait and reader.window.waiting < self.settings.window_records // 2:
                self._spawner.spawn(reader.read())

    def _ring(self) -> None:
        for callback in list(self._wishes):
            callback()

    def on_change(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call back when something was added here, or shards were taken."""
        self._wishes.append(callback)

        def forget() -> None:
            if callback in self._wishes:
                self._wishes.remove(callback)

        return forget

    # --- leases of messages -------------------------------------------------------------------------------------------

    def _find(self, receipt: Receipt) -> tuple[ShardReader, Slot] | None:
        for reader in self._leaser.readers.values():
            slot = reader.window.find(receipt)
            if slot is not None:
                return (reader, slot) if reader.hold.live else None
        return None

    def _slots(self) -> list[tuple[ShardReader, Slot]]:
        return [(reader, slot) for reader in self._readers for slot in reader.window]

    async def ack(self, receipts: Sequence[Receipt]) -> list[Receipt]:
        """End messages; the checkpoint follows within a round, so that after a death they may come once more."""
        self._check_open()
        lost: list[Receipt] = []
        for receipt in receipts:
            found = self._find(receipt)
            if found is None or not found[0].settle(found[1]):
                lost.append(receipt)
            elif found[0].over or (found[0].leaving_since is not None and not found[0].window.out):
                self._leaser.wake()
        return lost

    def learn(self, failed: Sequence[Receipt]) -> None:
        """Hear which of the messages that are about to be acknowledged have failed: the strategy goes by it (D-77)."""
        for receipt in failed:
            found = self._find(receipt)
            if found is not None:
                found[1].failed = True

    async def rearm(self, rearms: Sequence[tuple[Receipt, Rearm]]) -> list[Receipt]:
        """Refuse: what is in a stream cannot be changed.

        Raises:
            BackendError: always.
        """
        raise BackendError(f"{self.settings.place} cannot give messages back: the store takes what comes again")

    async def solo(self, receipts: Sequence[Receipt]) -> list[Receipt]:
        """Note it in the lease before it is so: after a death somebody else has to know."""
        self._check_open()
        lost: list[Receipt] = []
        marked: defaultdict[str, list[Slot]] = defaultdict(list)
        for receipt in receipts:
            found = self._find(receipt)
            if found is None:
                lost.append(receipt)
            else:
                marked[found[0].shard].append(found[1])
        for shard, slots in marked.items():
            reader = self._leaser.readers.get(shard)
            if reader is None or not await reader.mark_alone(slots):
                lost += [slot.receipt for slot in slots]
        return lost

    async def renew(self, receipts: Sequence[Receipt], lease: float) -> Renewal:
        self._check_open()
        lost: list[Receipt] = []
        cancelled: list[Receipt] = []
        until = self._clock.monotonic() + lease
        for receipt in receipts:
            found = self._find(receipt)
            if found is None:
                lost.append(receipt)
                continue
            reader, slot = found
            reader.window.renew(slot, until)
            if slot.cancelled:
                cancelled.append(receipt)
        return Renewal(tuple(lost), tuple(cancelled))

    async def cancel(self, ids: Sequence[str]) -> list[str]:
        """Ask for those to end that were read here: nothing is known of the others."""
        self._check_open()
        wanted, found = set(ids), set[str]()
        for _, slot in self._slots():
            if slot.message.id in wanted:
                slot.cancelled = True
                found.add(slot.message.id)
        return [id for id in dict.fromkeys(ids) if id in found]

    # --- looking ------------------------------------------------------------------------------------------------------

    async def locate(self, ids: Sequence[str]) -> dict[str, Whereabouts]:
        """Tell where those are that were read here."""
        self._check_open()
        wanted = set(ids)
        return {slot.message.id: self._where(slot) for _, slot in self._slots() if slot.message.id in wanted}

    def _where(self, slot: Slot) -> Whereabouts:
        return whereabouts(slot, self._clock.now() - self._clock.monotonic())

    async def list(self, queue: str | None, after: str, limit: int) -> Sequence[Whereabouts]:
        """Return those that were read here."""
        self._check_open()
        found = {
            slot.message.id: self._where(slot)
            for _, slot in self._slots()
            if slot.message.id > after and (queue is None or slot.message.queue == queue)
        }
        return [found[id] for id in sorted(found)[:limit]]

    async def counts(self) -> Mapping[str, Mapping[str, int]]:
        """Return how many of those that were read here wait and run."""
        self._check_open()
        return counted(slot for _, slot in self._slots())

    def shards(self) -> Sequence[ShardView]:
        """Return the shards that are read here, and how far."""
        return [ShardView.of(reader) for reader in self._readers]

    # --- what workers tell each other ---------------------------------------------------------------------------------

    async def pause(self, queue: str, paused: bool) -> None:  # noqa: FBT001 -- as the port says it
        self._check_open()
        await self._board.pause(queue, paused=paused)
        self._paused_at = -math.inf

    async def paused(self) -> Sequence[str]:
        self._check_open()
        return await self._board.paused()

    async def announce(self, worker: str, queues: Sequence[str], ttl: float) -> None:
        self._check_open()
        await self._board.announce(worker, queues, ttl)

    async def announced(self) -> Sequence[str]:
        self._check_open()
        return await self._board.announced()

    # --- the end ------------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Give the shards back, from where they are, and stop reading."""
        if self._closed:
            return
        self._closed = True
        await self._spawner.close()
        await self._leaser.stop()
        await self._stream.close()

    async def kill(self) -> None:
        """End without any last deed, as a crash would: for tests of what others then do."""
        self._closed = True
        await self._spawner.close()
        await self._leaser.kill()
        await self._stream.close()
