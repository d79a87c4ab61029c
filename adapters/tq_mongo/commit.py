"""One hop's writing: what is one write is made at once, what is more is written down first and then carried out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tq.model import Batch, Effects, Hold, Rearm, Receipt, Record, Remove, Settlement

from . import changes
from .barrier import confirm
from .carry import Brought, Carrier
from .database import Database
from .documents import instant
from .endings import Endings
from .errors import mapped
from .journal import Entry, Journal, entry_for
from .lanes import Lanes
from .leases import change_each, change_owned
from .ledger import Ledger
from .provider import upsert
from .queue import add_messages
from .records import keep
from .table import Document

__all__ = ["Commits"]

_LOOK = {"token": 1, "state": 1, "lane": 1, "record.generation": 1, "ending.by": 1}


class _Settled(NamedTuple):
    """A settlement, and what it is written down as, should it not be one write."""

    settlement: Settlement
    entry: Entry


class Commits:
    """Writes batches."""

    def __init__(
        self, database: Database, *, journal: Journal, carrier: Carrier, endings: Endings, lanes: Lanes, ledger: Ledger
    ) -> None:
        self._database = database
        self._journal = journal
        self._carrier = carrier
        self._endings = endings
        self._lanes = lanes
        self._ledger = ledger

    async def write(self, batch: Batch) -> tuple[list[Receipt], Brought]:
        """Write a batch; return the receipts that had lost their lease, and what came of the rest."""
        now = await self._database.now()
        settled = self._read(batch.settlements, now)
        with mapped(self._database.place):
            notes = [entry_for(effects, now) for effects in batch.effects if effects]
        refused = await self._solo(batch.solo)
        lost, entries = await self._settle(settled, now)
        refused += in_order(batch.settlements, lost)
        duplicates: list[str] = []
        apart = [note for note in notes if not stands_alone(note.effects)]
        if apart:
            await self._journal.note(apart)
        for note in notes:
            if stands_alone(note.effects):
                duplicates += await self._write_alone(note.effects)
        brought = await self._carrier.carry([*entries, *apart]) if entries or apart else Brought([], [], [])
        return refused, brought._replace(duplicates=duplicates + brought.duplicates)

    def _read(self, settlements: Sequence[Settlement], now: float) -> list[_Settled]:
        """Return the first settlement of each delivery, ready to be written.

        Raises:
            ContentRefusedError: something cannot be written; nothing was.
        """
        first = {it.receipt: it for it in reversed(settlements)}
        with mapped(self._database.place):
            for it in settlements:
                if isinstance(it.ending, Rearm):
                    instant(it.ending.run_at)
            return [_Settled(it, entry_for(it.effects, now, receipt.id, it.ending)) for receipt, it in first.items()]

    async def _solo(self, receipts: Sequence[Receipt]) -> list[Receipt]:
        if not receipts:
            return []
        return await change_owned(self._database, receipts, {"$set": {"solo": True}}, "running")

    # --- settlements ----------------------------------------------------------------------------------------------

    async def _settle(self, settled: Sequence[_Settled], now: float) -> tuple[list[Receipt], list[Entry]]:
        """Make endings count; return the receipts that had lost their lease, and what is to be carried out."""
        if not settled:
            return [], []
        ids = [it.settlement.receipt.id for it in settled]
        there = {it["_id"]: it for it in await self._database.tasks.find({"_id": {"$in": ids}}, fields=_LOOK)}
        refused: list[Receipt] = []
        gone: list[Receipt] = []
        kept: list[tuple[Receipt, Record]] = []
        back: dict[Receipt, Rearm | Hold] = {}
        more: list[_Settled] = []
        for it in settled:
            receipt, ending, effects, _, _ = it.settlement
            document = there.get(receipt.id)
            if document is None or not may_settle(document, receipt.token):
                refused.append(receipt)
            elif not isinstance(ending, Remove):
                if effects or document["state"] == "ending":
                    more.append(it)
                else:
                    back[receipt] = ending
            elif "lane" in document or "record" in document or document["state"] == "ending":
                more.append(it)
            elif not effects:
                gone.append(receipt)
            elif effects == Effects(records=effects.records[:1]) and effects.records[0].task_id == receipt.id:
                kept.append((receipt, effects.records[0]))
            else:
                more.append(it)
        refused += await self._endings.leave(gone, kept)
        refused += await self._give_back(back, now)
        begun, lost = await self._journal.settle([it.entry for it in more], [it.settlement.receipt for it in more])
        return refused + lost, begun

    async def _give_back(self, back: dict[Receipt, Rearm | Hold], now: float) -> list[Receipt]:
        if not back:
            return []

        def change(document: Document, receipt: Receipt) -> None:
            ending = back[receipt]
            if isinstance(ending, Rearm):
                changes.rearm(document, ending, now)
            else:
                changes.hold(document, ending.flow_id)

        held = await change_each(self._database, list(back), change)
        self._database.bell.ring()
        return [receipt for receipt in back if receipt not in held]

    # --- effects of one kind --------------------------------------------------------------------------------------

    async def _write_alone(self, effects: Effects) -> list[str]:
        """Write effects whose parts stand for themselves; return the ids of messages that were taken."""
        await keep(self._database, effects.records)
        await confirm(self._database, effects.confirms)
        await upsert(self._database, effects.projections)
        await self._ledger.put_chunks(effects.chunks)
        await self._ledger.spread(effects.spreads)
        await self._ledger.put_outgoing(effects.outgoing)
        return await add_messages(self._database, self._lanes, effects.messages)


def in_order(settlements: Sequence[Settlement], lost: Sequence[Receipt]) -> list[Receipt]:
    """Return the receipts that were lost, as they were named; whoever names one a second time has lost it."""
    gone = set(lost)
    refused: list[Receipt] = []
    for it in settlements:
        if it.receipt in gone:
            refused.append(it.receipt)
        gone.add(it.receipt)
    return refused


def may_settle(document: Document, token: str) -> bool:
    """Tell whether this token entitles to end the task, or has: the answer may have been lost."""
    ending = document.get("ending")
    return changes.owns(document, token) or (bool(token) and ending is not None and ending["by"] == token)


def stands_alone(effects: Effects) -> bool:
    """Tell whether effects are of one kind, each part of which may be there without the others.

    A message in a lane may not: its turn is a write of its own. Flows, members and held tasks move each other.
    """
    kinds = [name for name, parts in zip(Effects._fields, effects, strict=True) if parts]
    if kinds == ["messages"]:
        return not any(message.lane for message in effects.messages)
    return kinds in _ALONE


_ALONE = [[name] for name in ("records", "confirms", "projections", "chunks", "spreads", "outgoing")]
