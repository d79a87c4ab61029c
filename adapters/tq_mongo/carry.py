"""Carries out what counts already: each kind of effect for all endings at once, then lets go what they brought forth.

    flows ─▶ reopened flows ─▶ tasks, unborn ─▶ records ─▶ marks, verdicts, joins ─▶ rows, plans, notes
          ─▶ "written" ─▶ what is unborn may run ─▶ the endings themselves

Each write may be made again, by whoever takes an ending over. Tasks are the exception: one that was inserted may have
run, and be gone, by the time somebody inserts it again. So none runs before everything is written, and none is inserted
afterwards.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tq.ids import step_id
from tq.model import Effects, FlowState, Mark, Message, Place, Verdict

from . import changes, flows
from .barrier import confirm, insert_flows
from .database import Database
from .documents import new_task
from .driver import UpdateOne
from .endings import Endings, is_own
from .journal import Entry, Journal
from .lanes import Lanes
from .ledger import Ledger
from .marks import Marks, Step
from .provider import upsert
from .records import keep
from .swap import swap
from .table import Document, Write

__all__ = ["Brought", "Carrier"]


class Brought(NamedTuple):
    """What came of endings that were carried out."""

    closed: list[FlowState]
    duplicates: list[str]
    known: list[FlowState]


class Carrier:
    """Carries endings out."""

    def __init__(
        self,
        database: Database,
        *,
        journal: Journal,
        lanes: Lanes,
        marks: Marks,
        ledger: Ledger,
        endings: Endings,
    ) -> None:
        self._database = database
        self._tasks = database.tasks
        self._journal = journal
        self._lanes = lanes
        self._marks = marks
        self._ledger = ledger
        self._endings = endings

    async def carry(self, begun: Sequence[Entry]) -> Brought:
        """Carry endings out, with those of held tasks that end along."""
        brought = Brought([], [], [])
        entries = await self._with_resolved(begun)
        fresh = [entry for entry in entries if not entry.written]
        if fresh:
            await self._bring(fresh, brought)
        entries = await self._seal(entries)
        await self._let_go(entries)
        await self._endings.finish(entries)
        await self._journal.forget(entries)
        self._database.bell.ring()
        return brought

    async def redo(self, ids: Sequence[str]) -> None:
        """Go on with endings whose worker died in the midst of them."""
        entries = await self._journal.take_over(ids, await self._database.now())
        if entries:
            await self.carry(entries)

    async def _with_resolved(self, begun: Sequence[Entry]) -> list[Entry]:
        entries, youngest = list(begun), list(begun)
        while youngest:
            youngest = [it for entry in youngest if not entry.written for it in await self._journal.resolve(entry)]
            entries += youngest
        return entries

    # --- writing --------------------------------------------------------------------------------------------------

    async def _bring(self, entries: Sequence[Entry], brought: Brought) -> None:
        closed = [*await self._begin_flows(entries, brought), *await self._reopen(entries)]
        await self._insert(entries, brought)
        await keep(self._database, [it for entry in entries for it in entry.effects.records if not is_own(entry, it)])
        await self._release([*closed, *await self._decide(entries)], entries, brought)
        every = [entry.effects for entry in entries]
        await confirm(self._database, [it for effects in every for it in effects.confirms])
        await upsert(self._database, [it for effects in every for it in effects.projections])
        await self._ledger.put_chunks([it for effects in every for it in effects.chunks])
        await self._ledger.spread([it for effects in every for it in effects.spreads])
        await self._ledger.put_outgoing([it for effects in every for it in effects.outgoing])

    async def _begin_flows(self, entries: Sequence[Entry], brought: Brought) -> list[Document]:
        """Store flows, unborn, and return them; of one that is there, nothing that comes with it counts (D-52)."""
        begun: list[Document] = []
        keys = {entry.key for entry in entries}
        for entry in entries:
            left = entry.effects.flows
            while left:
                taken = {left[place].id for place in await insert_flows(self._database, left, entry.key, entry.id)}
                ids = [flow.id for flow in left]
                found = await self._database.flows.find({"_id": {"$in": ids}}, fields={"members": 0})
                others = [it for it in found if it["_id"] in taken and it.get("born") != entry.key]
                begun += [it for it in found if it not in others]
                again: set[str] = set()
                for it in others:
                    if it.get("born", entry.key) not in keys and await self._help(it):
                        again.add(it["_id"])
                known = [it for it in others if it["_id"] not in again]
                brought.known.extend(flows.state_of(it) for it in known)
                entry.effects = entry.effects.without_flows([it["_id"] for it in known])
                left = tuple([flow for flow in left if flow.id in again])
        return begun

    async def _help(self, flow: Document) -> bool:
        """Finish what stores a flow: who starts it a second time is told that it is there only when all of it is.

        False where it is finished, and the flow as it was read.
        """
        entries = await self._journal.steal(flow["entry"], flow["born"])
        if entries:
            await self.carry(entries)
        elif flow.get("unborn"):  # written by somebody who had been overtaken
            await self._database.flows.delete({"_id": flow["_id"], "born": flow["born"], "unborn": True})
        return bool(entries) or bool(flow.get("unborn"))

    async def _reopen(self, entries: Sequence[Entry]) -> list[Document]:
        """Open next generations of flows, return these, and revive the members that they miss."""
        reopened: list[Document] = []
        for entry in entries:
            for again in entry.effects.reopens:
                document = await self._marks.reopen(again, entry.key)
                if document is not None:
                    ids = [step_id(again.flow_id, index) for index in flows.missing(document)]
                    await self._revive(ids, again.at, again.stats, entry.key)
                    reopened.append(document)
        return reopened

    async def _revive(self, ids: Sequence[str], at: float, stats: bytes, key: str) -> None:
        seq = self._database.numbers(len(ids))

        def revive(document: Document) -> Document:
            message = changes.revived(document, at, stats)
            if message is None:
                return document
            made = new_task(message, seq=seq, place=Place.QUEUE, state="unborn")
            return changes.reborn(document, made | {"born": key})

        await swap(self._tasks, ids, revive)

    async def _insert(self, entries: Sequence[Entry], brought: Brought) -> None:
        """Insert tasks that are new, unborn."""
        messages = [(message, entry) for entry in entries for message in entry.effects.messages]
        taken = [messages[place] for place in await self._insert_unborn(messages)]
        ours: set[str] = set()
        if any(entry.again for _, entry in taken):
            keys = [entry.key for entry in entries]
            query = {"_id": {"$in": [message.id for message, _ in taken]}, "born": {"$in": keys}}
            ours = {it["_id"] for it in await self._tasks.find(query, fields={"born": 1})}
        brought.duplicates.extend(message.id for message, _ in taken if message.id not in ours)

    async def _insert_unborn(self, messages: Sequence[tuple[Message, Entry]]) -> list[int]:
        first = self._database.numbers(len(messages))
        documents = [
            new_task(message, seq=seq, place=Place.QUEUE, state="unborn") | {"born": entry.key}
            for seq, (message, entry) in enumerate(messages, first)
        ]
        await self._lanes.number([message for message, _ in messages], documents)
        return await self._tasks.insert(documents)

    # --- flows ----------------------------------------------------------------------------------------------------

    async def _decide(self, entries: Sequence[Entry]) -> list[Document]:
        """Record members, then close flows by deadline or cancel; return the flows that these endings closed."""
        marks: defaultdict[str, list[tuple[Mark, bool]]] = defaultdict(list)
        verdicts: defaultdict[str, list[tuple[Verdict, str]]] = defaultdict(list)
        touching: dict[str, Entry] = {}
        stored = {flow.id: entry for entry in entries for flow in entry.effects.flows}
        for entry in entries:
            for mark in entry.effects.marks:
                marks[mark.flow_id].append((mark, entry.ending is not None))
                touching.setdefault(mark.flow_id, stored.get(mark.flow_id, entry))
            for flow_id, verdict, reason in entry.effects.verdicts:
                verdicts[flow_id].append((verdict, reason))
                touching.setdefault(flow_id, stored.get(flow_id, entry))
        if not touching:
            return []
        steps = {
            id: Step(marks[id], verdicts[id], entry.key, entry.at if entry.again else None)
            for id, entry in touching.items()
        }
        known, closed = await self._marks.take(steps)
        redone = {entry.key for entry in entries if entry.again}  # in whatever order they were taken over
        again = [id for id, it in known.items() if it.get("closed_by") in redone]
        return [known[id] for id in dict.fromkeys([*closed, *again])]

    async def _release(self, closed: Iterable[Document], entries: Sequence[Entry], brought: Brought) -> None:
        """Insert the joins of flows that these endings closed."""
        by_key = {entry.key: entry for entry in entries}
        mine = list({it["_id"]: it for it in closed if it.get("closed_by") in by_key}.values())
        await self._insert_unborn([(flows.join_of(it), by_key[it["closed_by"]]) for it in mine])
        brought.closed.extend(flows.state_of(it) for it in mine)

    # --- letting go -----------------------------------------------------------------------------------------------

    async def _seal(self, entries: Sequence[Entry]) -> list[Entry]:
        """Note that everything is written; return the endings that are still ours.

        One that somebody has taken over meanwhile is left to them: what it brought forth may have run, and gone.
        """
        fresh = [entry for entry in entries if not entry.written and may_bear(entry.effects)]
        writes: list[Write] = [
            UpdateOne(
                {"_id": entry.id, "token": entry.token, "ending.key": entry.key},
                {"$set": {"ending.stage": "written"}, "$inc": {"version": 1}},
            )
            for entry in fresh
        ]
        written = await self._tasks.write(writes)
        if written.matched == len(writes):
            return list(entries)
        found = await self._tasks.find(
            {"_id": {"$in": [entry.id for entry in fresh]}}, fields={"token": 1, "ending.key": 1}
        )
        held = {it["ending"]["key"]: it["token"] for it in found if "ending" in it}
        lost = [entry for entry in fresh if held.get(entry.key) != entry.token]
        gone = [entry.key for entry in lost if entry.key not in held]
        await self._tasks.delete({"born": {"$in": gone}, "state": "unborn"})
        await self._database.flows.delete({"_id": {"$in": starting(lost)}, "born": {"$in": gone}, "unborn": True})
        return [entry for entry in entries if entry not in lost]

    async def _let_go(self, entries: Sequence[Entry]) -> None:
        """Let what was brought forth be seen, and run."""
        keys = [entry.key for entry in entries if may_bear(entry.effects)]
        if not keys:
            return

        def let_go(document: Document) -> Document:
            if document.get("born") in keys:
                flows.let_go(document)
            return document

        await swap(self._database.flows, starting(entries), let_go, fields={"members": 0})
        unborn = {"born": {"$in": keys}, "state": "unborn"}
        free = {"$unset": {"born": ""}, "$inc": {"version": 1}}
        await self._tasks.update({**unborn, "lane": {"$exists": False}}, {"$set": {"state": "waiting"}, **free})
        lanes = {message.lane for entry in entries for message in entry.effects.messages if message.lane}
        if lanes:
            await self._tasks.update(unborn, {"$set": {"state": "behind"}, **free})
            await self._lanes.pass_on(lanes)


def starting(entries: Iterable[Entry]) -> list[str]:
    """Return the flows that these endings start."""
    return [flow.id for entry in entries for flow in entry.effects.flows]


def may_bear(effects: Effects) -> bool:
    """Tell whether effects may bring tasks forth: as messages, members revived, or joins."""
    return bool(effects.messages or effects.reopens or effects.flows or effects.marks or effects.verdicts)
