"""Carries out effects, part by part, in the order in which a death between two of them does no harm."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import NamedTuple

from tq.model import Effects, FlowState
from tq.ports import TaskStore

from .flows import Flows, start_of
from .insert import Entry, Inserter
from .rows import Rows
from .sealed import seal
from .work import Work

__all__ = ["Carried", "Carrier"]

TOGETHER = 500
"""Messages, and members, of one call."""


class Carried(NamedTuple):
    """What carrying out brought to light."""

    duplicates: list[str]
    """Ids of messages that were not inserted, because they were taken."""
    known: list[FlowState]
    """Flows that another start had opened before."""


class Carrier:
    """Writes what works, and unfenced effects, bring."""

    def __init__(self, store: TaskStore, flows: Flows, rows: Rows, inserter: Inserter) -> None:
        self._store = store
        self._flows = flows
        self._rows = rows
        self._inserter = inserter

    async def carry(
        self, works: Sequence[Work], unfenced: Sequence[Effects], now: float, closed: list[FlowState]
    ) -> Carried:
        """Carry out everything; add the flows decided to `closed`, also when it ends by an error.

        Records come first: with them a reconciler can derive whatever a death leaves undone. Flows come before their
        members, whose marks would find nothing otherwise; a plan's place is kept after its messages are written.
        """
        parts = [_Part(work.effects, work.at, work.again) for work in works if work.effects]
        parts += [_Part(seal(effects), now) for effects in unfenced]
        if not parts:
            return Carried([], [])
        every = [part.effects for part in parts]
        if records := [record for effects in every for record in effects.records]:
            await self._store.record(records)
        if chunks := [chunk for effects in every for chunk in effects.chunks]:
            await self._store.put_chunks(chunks)
        fresh = [work for work in works if work.effects and not work.again]
        late = await self._flows.carry(every, fresh, now, closed)
        if late:
            parts = [part._replace(effects=_without_members(part.effects, late)) for part in parts]
        if rows := [row for part in parts for row in part.effects.projections]:
            await self._rows.write(rows)
        entries = [Entry(message, part.at, part.again) for part in parts for message in part.effects.messages]
        duplicates: list[str] = []
        for start in range(0, len(entries), TOGETHER):
            duplicates += await self._inserter.add(entries[start : start + TOGETHER])
        await self._flows.advance([spread for part in parts for spread in part.effects.spreads])
        if notes := [note for effects in every for note in effects.outgoing]:
            await self._store.put_outgoing(notes)
        return Carried(duplicates, list(late.values()))


class _Part(NamedTuple):
    """Effects, when they were decided on, and whether they may have been carried out before."""

    effects: Effects
    at: float
    again: bool = False


def _without_members(effects: Effects, late: Container[tuple[str, float, str]]) -> Effects:
    """Leave out the members of flows that were started before: the first plan counts, whatever became of it."""
    flows = [flow.id for flow in effects.flows if start_of(flow) in late]
    return effects.without_flows(flows) if flows else effects
