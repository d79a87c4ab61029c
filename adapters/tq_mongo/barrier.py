"""The flow barrier: one document per flow, changed where nobody else has changed it meanwhile."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tq.model import Flow, FlowState, Mark, Reopen, StepResult, Verdict
from tq.ports import FlowBarrierProvider

from . import flows
from .database import Database
from .marks import Step
from .swap import swap
from .table import Document

if TYPE_CHECKING:
    from .backend import MongoBackend

__all__ = ["MongoBarrier"]

_HIDDEN = {"members": 0}
_BORN = {"unborn": {"$exists": False}}


class MongoBarrier(FlowBarrierProvider):
    """Decides each flow once per generation, by one write of its document.

    Alone, in a composition with other servers, it releases no join: only the backend's commit does.
    """

    name = "mongodb"

    def __init__(self, backend: MongoBackend, database: Database) -> None:
        self.backend = backend
        self._database = database
        self._flows = database.flows
        self._marks = backend.marks

    async def init_barrier(self, flows: Sequence[Flow]) -> list[FlowState]:
        await insert_flows(self._database, flows)
        states = await self._by_id({"_id": {"$in": [flow.id for flow in flows]}})
        return [states[flow.id] for flow in flows]

    async def batch_decrement_and_check(self, marks: Sequence[Mark]) -> list[FlowState]:
        by_flow: defaultdict[str, list[tuple[Mark, bool]]] = defaultdict(list)
        for mark in marks:
            by_flow[mark.flow_id].append((mark, False))
        known, _ = await self._marks.take({id: Step(part) for id, part in by_flow.items()})
        return [flows.state_of(known[id]) for id in by_flow if id in known]

    async def mark_aborted(self, flow_id: str, verdict: Verdict, reason: str = "") -> FlowState | None:
        known, _ = await self._marks.take({flow_id: Step(verdicts=[(verdict, reason)])})
        return flows.state_of(known[flow_id]) if known else None

    async def confirm_join(self, joins: Sequence[tuple[str, int]]) -> None:
        await confirm(self._database, joins)

    async def reopen(self, reopen: Reopen) -> list[int] | None:
        document = await self._marks.reopen(reopen)
        return None if document is None else flows.missing(document)

    async def get(self, flow_ids: Sequence[str]) -> dict[str, FlowState]:
        return await self._by_id({"_id": {"$in": list(flow_ids)}, **_BORN})

    async def _by_id(self, query: dict[str, Any]) -> dict[str, FlowState]:
        return {it["_id"]: flows.state_of(it) for it in await self._flows.find(query, fields=_HIDDEN)}

    async def get_step_results(self, flow_id: str, after: int = -1, limit: int = 1000) -> Sequence[StepResult]:
        return await self._marks.results(flow_id, after, limit)

    async def list(
        self, *, active: bool | None = None, after: tuple[float, str] | None = None, limit: int = 100
    ) -> Sequence[FlowState]:
        query: dict[str, Any] = dict(_BORN)
        if active is not None:
            query["open"] = True if active else {"$ne": True}
        if after is not None:
            query["$or"] = [{"started_at": {"$lt": after[0]}}, {"started_at": after[0], "_id": {"$lt": after[1]}}]
        return await self._states(query, [("started_at", -1), ("_id", -1)], limit)

    async def due(self, now: float, limit: int) -> Sequence[FlowState]:
        return await self._states({"due": {"$lte": now}}, [("due", 1)], limit)

    async def quiet(self, since: float, after: str, limit: int) -> Sequence[FlowState]:
        query = {"open": True, "_id": {"$gt": after}, "opened_at": {"$lt": since}}
        return await self._states(query, [("_id", 1)], limit)

    async def _states(self, query: dict[str, Any], order: Sequence[tuple[str, int]], limit: int) -> Sequence[FlowState]:
        if limit <= 0:
            return []
        found = await self._flows.find(query, fields=_HIDDEN, order=order, limit=limit)
        return [flows.state_of(it) for it in found]

    async def advance(self, flow_id: str, *, spread: int | None = None, tidied: bool | None = None) -> None:
        def change(document: Document) -> Document:
            flows.advance(document, spread, tidied)
            return document

        await swap(self._flows, [flow_id], change, fields=_HIDDEN)

    async def purge(self, before: float, limit: int) -> int:
        """Results go first: they must not be taken for those of a flow that comes to have the same id."""
        old = {"confirmed": True, "closed_at": {"$lt": before}}
        found = await self._flows.find(old, fields={"version": 1}, order=[("closed_at", 1)], limit=max(limit, 1))
        ids = [it["_id"] for it in found]
        if not ids:
            return 0
        await self._database.results.delete({"flow": {"$in": ids}})
        return await self._flows.delete({**old, "_id": {"$in": ids}})

    async def close(self) -> None:
        """Close the backend that this is a part of; may be called twice."""
        await self.backend.close()


async def insert_flows(database: Database, given: Sequence[Flow], by: str = "", entry: str = "") -> list[int]:
    """Store flows that are new; return the places of those whose id is there."""
    now = await database.now()
    return await database.flows.insert([flows.new_flow(flow, now, by, entry) for flow in given])


async def confirm(database: Database, joins: Sequence[tuple[str, int]]) -> None:
    """Note, by (flow id, generation), that joins are on their way for good."""
    generations: defaultdict[str, list[int]] = defaultdict(list)
    for flow_id, generation in joins:
        generations[flow_id].append(generation)

    def change(document: Document) -> Document:
        for generation in generations[document["_id"]]:
            flows.confirm(document, generation)
        return document

    await swap(database.flows, generations, change, fields=_HIDDEN)
