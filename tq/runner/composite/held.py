"""Ends tasks that wait for a flow: found where they are held, their outcome recorded like any other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from tq.model import Effects, Hold, Message, Place, Remove, Resolve, State, Whereabouts
from tq.ports import MessageQueue, OutcomeKey, TaskStore

from .custody import as_held
from .ledger import Ledger, successor
from .outcome import Told
from .work import Work, as_delivery

__all__ = ["HeldTasks"]


Carry = Callable[[list[Work]], Awaitable[object]]
"""Carries out what works bring."""


class HeldTasks:
    """Turns resolves into works.

    A held task is a row of the store, one attempt after the one that ended by waiting. Under that attempt its end is
    recorded, so that it ends once, however often, and by whomever, it is resolved.
    """

    def __init__(self, queue: MessageQueue, store: TaskStore, ledger: Ledger) -> None:
        self._queue = queue
        self._store = store
        self._ledger = ledger

    async def open(self, resolves: Sequence[Resolve], now: float, carry: Carry) -> list[Work]:
        """Return the works of those resolves whose task waits for their flow, recorded.

        What such a task brings, and nobody came to bring about, is carried out by `carry`.
        """
        places = await self._store.locate([resolve.task_id for resolve in resolves])
        keys: dict[str, OutcomeKey] = {}
        astray: list[Resolve] = []
        for resolve in resolves:
            place = places.get(resolve.task_id)
            if place is not None and place.state is State.HELD and place.held_by == resolve.flow_id:
                keys[resolve.task_id] = OutcomeKey(place.id, place.generation, place.attempt)
            else:
                astray.append(resolve)
        if astray:
            keys |= await self._hold(astray, places, carry)
        found = [resolve for resolve in resolves if resolve.task_id in keys]
        if not found:
            return []
        messages = await self._messages(found, keys)
        works = [
            Work(
                Told(Remove(), _with_body(resolve, messages.get(resolve.task_id))),
                now,
                place=Place.STORE,
                key=keys[resolve.task_id],
                held_by=resolve.flow_id,
            )
            for resolve in found
        ]
        await self._ledger.record(works, now)
        return works

    async def _hold(
        self, resolves: Sequence[Resolve], places: dict[str, Whereabouts], carry: Carry
    ) -> dict[str, OutcomeKey]:
        """Hold tasks whose outcome says that they wait, and whose worker has not come so far: the flow was faster."""
        elsewhere = [resolve.task_id for resolve in resolves if resolve.task_id not in places]
        if elsewhere and self._queue.guarantees.locates:
            places = {**places, **await self._queue.locate(elsewhere)}
        flows = {resolve.task_id: resolve.flow_id for resolve in resolves if resolve.task_id in places}
        found = await self._ledger.find([as_delivery(places[task_id]) for task_id in flows]) if flows else []
        works = {work.key: work for it, work in found if work.told.ending == Hold(flows[it.message.id]) and work.key}
        # Before the row is replaced: nobody comes for it any more, should its worker have died in the midst of this.
        await carry([work for work in works.values() if not work.carried])
        waiting = [(key, work.told.message) for key, work in works.items() if work.told.message is not None]
        ended = await self._ledger.recorded([successor(key) for key, _ in waiting])
        puts = [
            (as_held(message, message.fence), flows[key.task_id])
            for key, message in waiting
            if successor(key) not in ended
        ]
        if puts:
            await self._store.put(puts)
        return {key.task_id: successor(key) for key, _ in waiting}

    async def _messages(self, resolves: Sequence[Resolve], keys: dict[str, OutcomeKey]) -> dict[str, Message]:
        """Return what those were that leave a dead letter without a body: whoever resolves has none at hand."""
        before = [
            keys[resolve.task_id]._replace(attempt=keys[resolve.task_id].attempt - 1)
            for resolve in resolves
            if any(record.dead and record.body is None for record in resolve.effects.records)
        ]
        told = await self._ledger.told(before)
        return {key.task_id: said.message for key, said in told.items() if said.message is not None}


def _with_body(resolve: Resolve, message: Message | None) -> Effects:
    if message is None:
        return resolve.effects
    records = [
        record._replace(body=message.body, fence=max(record.fence, message.fence))
        if record.dead and record.body is None and record.task_id == resolve.task_id
        else record
        for record in resolve.effects.records
    ]
    return resolve.effects._replace(records=tuple(records))
