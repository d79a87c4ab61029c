"""Which outcome counts: the first one recorded, for everybody."""

from __future__ import annotations

import logging
from collections.abc import Container, Iterable, Mapping, Sequence

from tq.errors import BackendError, ContentRefusedError, PayloadError, WireError
from tq.model import NO_EFFECTS, Delivery, Rearm, Receipt, Remove
from tq.ports import OutcomeKey, Stored, TaskStore

from .outcome import Told, read_outcome, write_outcome
from .work import Work, key_of

__all__ = ["Ledger", "execution_of", "successor"]

log = logging.getLogger("tq.commit")

CHOICES = 2
"""Outcomes that may take the place of one whose content a server refuses: a dead letter, and one without marks."""
UNREADABLE_DELAY = 10.0


def successor(key: OutcomeKey) -> OutcomeKey:
    """Return the execution that follows a retry; a held task counts as one, which its resolving ends."""
    return key._replace(attempt=key.attempt + 1)


def _choice(key: OutcomeKey, number: int) -> OutcomeKey:
    """Return the key of what stands in for a refused outcome; negative attempts are nobody else's."""
    return key if number == 0 else key._replace(attempt=-(key.attempt * (CHOICES + 1) + number))


def execution_of(key: OutcomeKey) -> OutcomeKey:
    """Return the execution that an outcome is of, also one that stands in for another."""
    return key if key.attempt >= 0 else key._replace(attempt=-key.attempt // (CHOICES + 1))


class Ledger:
    """Records outcomes in the store, and finds those that others recorded."""

    def __init__(self, store: TaskStore) -> None:
        self._store = store
        self._owed: list[OutcomeKey] = []
        """Carried out, and not yet noted as such."""

    async def record(self, works: Sequence[Work], now: float) -> None:
        """Record each work's outcome; one that finds another takes it over.

        Raises:
            ContentRefusedError: an outcome cannot be written.
        """
        first: dict[OutcomeKey, Work] = {}
        for work in works:
            if work.key is None:
                continue
            _write(work)
            winner = first.setdefault(work.key, work)
            if winner is not work:  # two deliveries of one execution end in the same batch
                work.told, work.carried = Told(Remove(), NO_EFFECTS), True
                work.foreign = work.written != winner.written
        if not first:
            return
        found = await self._store.put_outcomes([(key, work.written) for key, work in first.items()], now)
        if found:
            await self._adopt([first[key] for key in found], found)

    async def recall(self, works: Sequence[Work]) -> None:
        """Let works whose lease is gone find out what was recorded; without a key is what has no effect any more."""
        keyed = [work for work in works if work.key is not None]
        found = await self._store.outcomes([work.key for work in keyed if work.key is not None]) if keyed else {}
        for work in keyed:
            _write(work)
        await self._adopt([work for work in keyed if work.key in found], found)
        for work in works:
            if work.key is None or work.key not in found or work.foreign:
                work.key, work.foreign = None, True

    async def _adopt(self, works: Sequence[Work], found: Mapping[OutcomeKey, Stored]) -> None:
        latest = await self._latest([found[work.key] for work in works if work.key is not None])
        for work in works:
            if work.key is not None:
                self._take(work, *latest[work.key])

    def _take(self, work: Work, stored: Stored, choice: int) -> None:
        work.again, work.at, work.choice = True, stored.at, choice
        work.carried = stored.carried
        work.foreign = stored.outcome != work.written
        if not work.foreign:
            return
        told = _read(stored)
        if told is not None:
            work.told = told
        elif work.message is not None:
            # A newer version's: it is left to a worker that can read it.
            again = Rearm(stored.at + UNREADABLE_DELAY, work.message.attempt, work.message.stats)
            work.told, work.carried, work.key = Told(again, NO_EFFECTS), False, None

    async def _latest(self, stored: Iterable[Stored]) -> dict[OutcomeKey, tuple[Stored, int]]:
        """Return what counts for each, and its number: the last of those that were chosen one after the other."""
        latest = {item.key: (item, 0) for item in stored}
        keys = [key for key, (item, _) in latest.items() if not item.carried]
        if not keys:
            return latest
        numbers = range(1, CHOICES + 1)
        found = await self._store.outcomes([_choice(key, number) for key in keys for number in numbers])
        for key in keys:
            for number in numbers:
                if (item := found.get(_choice(key, number))) is not None:
                    latest[key] = (item, number)
        return latest

    async def substitute(self, work: Work, now: float) -> bool:
        """Let what was asked for take the place of an outcome whose content was refused; False if it cannot."""
        if work.key is None or not work.foreign or not work.written or work.choice >= CHOICES:
            return False
        key, number = _choice(work.key, work.choice + 1), work.choice + 1
        found = await self._store.put_outcomes([(key, work.written)], now)
        stored = found.get(key) or Stored(key, work.written, carried=False, at=now)
        work.told = read_outcome(work.written)
        self._take(work, stored, number)
        return True

    async def find(self, deliveries: Sequence[Delivery]) -> list[tuple[Delivery, Work]]:
        """Return those of the deliveries whose outcome is recorded, with what is left to do of it."""
        found = await self._store.outcomes(list(dict.fromkeys(key_of(delivery.message) for delivery in deliveries)))
        latest = await self._latest(found.values())
        works: list[tuple[Delivery, Work]] = []
        for delivery in deliveries:
            key = key_of(delivery.message)
            if key in found:
                work = Work.of_delivery(delivery, Told(Remove(), NO_EFFECTS), found[key].at)
                self._take(work, *latest[key])
                works.append((delivery, work))
        return works

    async def recorded(self, keys: Sequence[OutcomeKey]) -> dict[OutcomeKey, Stored]:
        """Return what is recorded under these keys."""
        return await self._store.outcomes(keys) if keys else {}

    async def told(self, keys: Sequence[OutcomeKey]) -> dict[OutcomeKey, Told]:
        """Return what the outcomes recorded under these keys say, where this version can read them."""
        latest = await self._latest((await self.recorded(keys)).values())
        return {key: told for key, (stored, _) in latest.items() if (told := _read(stored)) is not None}

    async def close(self, works: Iterable[Work], lost: Container[Receipt]) -> None:
        """Note that these are carried out, or do so later where the store is away: only retention waits for it.

        Not those that were to be re-armed under a lease that was lost: whoever holds it now still has to. The outcome
        before a retry is noted along: its own commit may have died right after the re-arming.
        """
        for work in works:
            if isinstance(work.told.ending, Rearm) and work.receipt is not None and work.receipt in lost:
                continue
            if work.key is not None and not (work.carried and work.again):
                self._owed += [_choice(work.key, number) for number in range(work.choice + 1)]
                if work.key.attempt > 0 and not work.held_by:  # a task is held before its effects are written
                    self._owed.append(work.key._replace(attempt=work.key.attempt - 1))
        if not self._owed:
            return
        owed, self._owed = self._owed, []
        try:
            await self._store.carried(owed)
        except BackendError as error:
            self._owed += owed
            log.info("outcomes are noted as carried out later: %s", error)


def _write(work: Work) -> None:
    try:
        work.written = write_outcome(work.told, work.receipt.token if work.receipt is not None else "")
    except PayloadError as error:
        raise ContentRefusedError(f"an outcome cannot be written: {error}") from error


def _read(stored: Stored) -> Told | None:
    try:
        return read_outcome(stored.outcome)
    except WireError as error:
        log.warning("the outcome of task %s is left to a newer worker: %s", stored.key.task_id, error)
        return None
