"""Carries out effects, part by part, in the order in which a death between two of them does no harm."""

from __future__ import annotations

from collections.abc import Sequence

from tq.model import Effects, FlowState
from tq.ports import TaskStore

from .flows import Flows
from .insert import Entry, Inserter
from .rows import Rows
from .sealed import seal
from .work import Work

__all__ = ["Carrier"]

TOGETHER = 500
"""Messages, and members, of one call."""


class Carrier:
    """Writes what works, and unfenced effects, bring."""

    def __init__(self, store: TaskStore, flows: Flows, rows: Rows, inserter: Inserter) -> None:
        self._store = store
        self._flows = flows
        self._rows = rows
        self._inserter = inserter

    async def carry(
        self, works: Sequence[Work], unfenced: Sequence[Effects], now: float, closed: list[FlowState]
    ) -> list[str]:
        """Carry out everything; add the flows decided to `closed`, also when it ends by an error.

        Records come first: with them a reconciler can derive whatever a death leaves undone. Flows come before their
        members, whose marks would find nothing otherwise; a plan's place is kept after its messages are written.

        Returns:
            The ids of messages that were not inserted, because they were taken.
        """
        unfenced = [seal(effects) for effects in unfenced]
        fenced = [work.effects for work in works if work.effects]
        every = [*fenced, *unfenced]
        if not every:
            return []
        if records := [record for effects in every for record in effects.records]:
            await self._store.record(records)
        if chunks := [chunk for effects in every for chunk in effects.chunks]:
            await self._store.put_chunks(chunks)
        await self._flows.carry(fenced, unfenced, now, closed)
        if rows := [row for effects in every for row in effects.projections]:
            await self._rows.write(rows)
        entries = [Entry(message, work.at, work.again) for work in works for message in work.effects.messages]
        entries += [Entry(message, now, again=False) for effects in unfenced for message in effects.messages]
        duplicates: list[str] = []
        for start in range(0, len(entries), TOGETHER):
            duplicates += await self._inserter.add(entries[start : start + TOGETHER])
        await self._flows.advance([spread for effects in every for spread in effects.spreads])
        if notes := [note for effects in every for note in effects.outgoing]:
            await self._store.put_outgoing(notes)
        return duplicates
