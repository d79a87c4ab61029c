"""One queue made of several brokers: each takes the queues that are named for it."""

from __future__ import annotations

import logging
from collections import OrderedDict, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from tq.errors import BackendError, ConfigurationError, ContentRefusedError, InvalidInputError
from tq.model import Claim, Message, Rearm, Receipt, Renewal, Whereabouts
from tq.ports import Claimed, Guarantees, MessageQueue

__all__ = ["RoutedQueue"]

log = logging.getLogger("tq")

OTHERS = "*"
REMEMBERED = 100_000

Served = tuple[MessageQueue, tuple[str, ...]]
"""A broker, and queues that it takes."""


class RoutedQueue(MessageQueue):
    """At-least-once, as each broker is; declares what all of them can: `RoutedQueue({"orders": kinesis, "*": redis})`.

    "*" names the broker of every queue that is not named. A call is one round trip to each broker that it concerns, and
    all or nothing only within each.

    Raises:
        InvalidInputError: no broker is given.
        ConfigurationError: a broker runs tasks while they are added, which a queue among others cannot.
    """

    def __init__(self, brokers: Mapping[str, MessageQueue]) -> None:
        if not brokers:
            raise InvalidInputError("brokers", brokers, 'give queues by name, such as {"orders": queue, "*": other}')
        self._brokers = dict(brokers)
        self.parts = tuple({id(part): part for part in brokers.values()}.values())
        """The brokers, each once."""
        self.name = "+".join(dict.fromkeys(part.name for part in self.parts))
        self.guarantees = _weakest([part.guarantees for part in self.parts])
        if self.guarantees.inline:
            raise ConfigurationError("an inline queue runs tasks in the call that adds them: it cannot be one of many")
        self.poll_interval = min(_poll_interval(part) for part in self.parts)
        self._routes: OrderedDict[Receipt, MessageQueue] = OrderedDict()
        """Who handed out what; whoever is not found here is asked."""
        self._first = 0
        self._away = False
        """Whether a broker was away at the last claim, and somebody was told."""

    # --- which broker -------------------------------------------------------------------------------------------------

    def broker(self, queue: str) -> MessageQueue | None:
        """Return the broker that takes a queue, or None."""
        return self._brokers.get(queue) or self._brokers.get(OTHERS)

    def _by_broker(self, names: Iterable[str]) -> list[Served]:
        """Return the queues that each broker takes, of these; brokers that take none of them are left out."""
        found: defaultdict[int, list[str]] = defaultdict(list)
        for name in names:
            part = self.broker(name)
            if part is not None:
                found[id(part)].append(name)
        return [(part, tuple(found[id(part)])) for part in self.parts if id(part) in found]

    async def _each(
        self, receipts: Sequence[Receipt], ask: Callable[[MessageQueue, list[Receipt]], Awaitable[Sequence[Receipt]]]
    ) -> list[Receipt]:
        """Ask the broker of each receipt, or all of them where it is not known; return what was lost with all asked."""
        known: defaultdict[int, list[Receipt]] = defaultdict(list)
        unknown: list[Receipt] = []
        for receipt in receipts:
            part = self._routes.get(receipt)
            if part is None:
                unknown.append(receipt)
            else:
                known[id(part)].append(receipt)
        lost: set[Receipt] = set()
        for part in self.parts:
            mine = known[id(part)]
            if mine or unknown:
                gone = set(await ask(part, [*mine, *unknown]))
                lost.update(receipt for receipt in mine if receipt in gone)
                unknown = [receipt for receipt in unknown if receipt in gone]
        lost.update(unknown)
        return [receipt for receipt in receipts if receipt in lost]

    # --- custody ------------------------------------------------------------------------------------------------------

    async def add(self, messages: Sequence[Message]) -> list[str]:
        """Insert with each message's broker.

        Raises:
            ContentRefusedError: no broker takes the queue of one of them; none was added.
        """
        groups: defaultdict[int, list[Message]] = defaultdict(list)
        for message in messages:
            part = self.broker(message.queue)
            if part is None:
                raise ContentRefusedError(
                    f"no broker takes queue {message.queue!r} of task {message.id}: "
                    f"name it, or {OTHERS!r}, in RoutedQueue"
                )
            groups[id(part)].append(message)
        taken: list[str] = []
        for part in self.parts:
            if id(part) in groups:
                taken += await part.add(groups[id(part)])
        return taken

    async def claim(self, claim: Claim) -> Claimed:
        """Claim from each broker its share; what some leave goes to those that have more.

        Of brokers that are away nothing comes; what others have handed out meanwhile must not be forgotten with that.

        Raises:
            BackendError: all of them are away.
        """
        asked = self._by_broker(claim.queues)
        if not asked:
            return Claimed([])
        self._first = (self._first + 1) % len(asked)
        haul, errors = Claimed([]), list[BackendError]()
        full, haul = await self._claim_from(asked[self._first :] + asked[: self._first], claim, haul, errors)
        if len(errors) == len(asked):
            raise errors[0]
        if full and len(haul.deliveries) < claim.limit:
            _, haul = await self._claim_from(full, claim._replace(token=f"{claim.token}.more"), haul, errors)
        if errors and not self._away:
            log.warning("%d of %d brokers cannot be claimed from: %s", len(errors), len(asked), errors[0])
        self._away = bool(errors)
        while len(self._routes) > REMEMBERED:
            self._routes.popitem(last=False)
        return haul._replace(next_due=haul.next_due if len(haul.deliveries) < claim.limit else None)

    async def _claim_from(
        self, asked: Sequence[Served], claim: Claim, haul: Claimed, errors: list[BackendError]
    ) -> tuple[Sequence[Served], Claimed]:
        """Return those that gave all they were asked for, and the haul with what came; add what went wrong."""
        deliveries, next_due = list(haul.deliveries), haul.next_due
        cancelled = list(haul.cancelled)
        full: list[Served] = []
        for number, (part, queues) in enumerate(asked):
            left = claim.after(deliveries)
            limit = -(-left.limit // (len(asked) - number))
            try:
                got = await part.claim(left._replace(queues=queues, limit=limit))
            except BackendError as error:
                errors.append(error)
                continue
            deliveries += got.deliveries
            cancelled += [receipt for receipt in got.cancelled if receipt not in cancelled]
            self._routes.update((delivery.receipt, part) for delivery in got.deliveries)
            if len(got.deliveries) >= limit:
                full.append((part, queues))
            elif got.next_due is not None:
                next_due = got.next_due if next_due is None else min(next_due, got.next_due)
        return full, Claimed(deliveries, next_due, tuple(cancelled))

    async def ack(self, receipts: Sequence[Receipt]) -> list[Receipt]:
        lost = await self._each(receipts, lambda part, mine: part.ack(mine))
        self._forget(receipts)
        return lost

    async def rearm(self, rearms: Sequence[tuple[Receipt, Rearm]]) -> list[Receipt]:
        again = dict(rearms)
        lost = await self._each(
            list(again), lambda part, mine: part.rearm([(receipt, again[receipt]) for receipt in mine])
        )
        self._forget(again)
        return lost

    def _forget(self, receipts: Iterable[Receipt]) -> None:
        for receipt in receipts:
            self._routes.pop(receipt, None)

    async def solo(self, receipts: Sequence[Receipt]) -> list[Receipt]:
        return await self._each(receipts, lambda part, mine: part.solo(mine))

    async def renew(self, receipts: Sequence[Receipt], lease: float) -> Renewal:
        cancelled: list[Receipt] = []

        async def ask(part: MessageQueue, mine: list[Receipt]) -> Sequence[Receipt]:
            renewal = await part.renew(mine, lease)
            cancelled.extend(renewal.cancelled)
            return renewal.lost

        lost = await self._each(receipts, ask)
        return Renewal(tuple(lost), tuple(cancelled))

    async def cancel(self, ids: Sequence[str]) -> list[str]:
        found = {id for part in self.parts for id in await part.cancel(ids)}
        return [id for id in dict.fromkeys(ids) if id in found]

    # --- looking ------------------------------------------------------------------------------------------------------

    async def locate(self, ids: Sequence[str]) -> dict[str, Whereabouts]:
        return {id: place for part in self.parts for id, place in (await part.locate(ids)).items()}

    async def list(self, queue: str | None, after: str, limit: int) -> Sequence[Whereabouts]:
        parts = self.parts if queue is None else tuple(filter(None, (self.broker(queue),)))
        pages = [place for part in parts for place in await part.list(queue, after, limit)]
        return sorted(pages, key=lambda place: place.id)[:limit]

    async def counts(self) -> Mapping[str, Mapping[str, int]]:
        found: dict[str, dict[str, int]] = {}
        for part in self.parts:
            for queue, numbers in (await part.counts()).items():
                total = found.setdefault(queue, {})
                for state, number in numbers.items():
                    total[state] = total.get(state, 0) + number
        return found

    async def pause(self, queue: str, paused: bool) -> None:  # noqa: FBT001 -- as the port says it
        part = self.broker(queue)
        if part is not None:
            await part.pause(queue, paused)

    async def paused(self) -> Sequence[str]:
        return sorted({name for part in self.parts for name in await part.paused()})

    async def announce(self, worker: str, queues: Sequence[str], ttl: float) -> None:
        served = {id(part): names for part, names in self._by_broker(queues)}
        errors: list[BackendError] = []
        for part in self.parts:  # those too that it does not serve any more
            try:
                await part.announce(worker, served.get(id(part), ()), ttl)
            except BackendError as error:  # the others are told all the same
                errors.append(error)
        if errors:
            raise errors[0]

    async def announced(self) -> Sequence[str]:
        return sorted({name for part in self.parts for name in await part.announced()})

    # --- around it ----------------------------------------------------------------------------------------------------

    def on_change(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call back when a broker tells of a change; return what takes the wish back."""
        listens = [getattr(_home(part), "on_change", None) for part in self.parts]
        forget = [listen(callback) for listen in listens if listen is not None]

        def forget_all() -> None:
            for take_back in forget:
                take_back()

        return forget_all

    async def close(self) -> None:
        """Close every broker."""
        for part in self.parts:
            await part.close()


def _home(part: MessageQueue) -> object:
    """Return the backend of a broker, or the broker itself where it has none."""
    return getattr(part, "backend", None) or part


def _poll_interval(part: MessageQueue) -> float:
    interval: float = getattr(_home(part), "poll_interval", 1.0)
    return interval


def _weakest(all_of_them: Sequence[Guarantees]) -> Guarantees:
    """Return what all of them guarantee."""
    return Guarantees(
        durable=all(it.durable for it in all_of_them),
        shared=all(it.shared for it in all_of_them),
        delays=all(it.delays for it in all_of_them),
        rearms=all(it.rearms for it in all_of_them),
        locates=all(it.locates for it in all_of_them),
        redelivery=max(it.redelivery for it in all_of_them),
        inline=any(it.inline for it in all_of_them),
        partitioned=any(it.partitioned for it in all_of_them),
    )
