"""Members of flows: what they brought is written first, then the flow's document records them, with the verdict.

A result is a document of its own, by (flow, generation, member). The first one written counts for everybody, whoever
records it: so it may be written twice, and a death before the recording leaves nothing that anybody sees. A success
that comes after the verdict stands beside, as `late`; opening the flow again counts it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tq.model import Mark, Reopen, StepResult, StepStatus, Verdict

from . import flows
from .database import Database
from .swap import swap
from .table import Document

__all__ = ["Marks", "Step"]

_AT_ONCE = 10_000
"""Results that one look brings."""


class Step(NamedTuple):
    """What one atomic step does to a flow."""

    marks: Sequence[tuple[Mark, bool]] = ()
    """Each with whether its member's lease was held."""
    verdicts: Sequence[tuple[Verdict, str]] = ()
    """Come after every mark (D-44)."""
    by: str = ""
    """The ending that releases the join, should this close the flow."""
    redone_from: float | None = None
    """When an ending that is carried out once more was decided: of a generation opened since, it says nothing."""


class Marks:
    """Records members and decides flows."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._flows = database.flows
        self._results = database.results

    async def take(self, steps: dict[str, Step]) -> tuple[dict[str, Document], list[str]]:
        """Do a step on each flow; return those that are known, as they are now, and the ids of those it closed."""
        now = await self._database.now()
        stored: dict[str, Document] = {}
        closed: dict[str, bool] = {}

        async def prepare(found: Sequence[Document]) -> None:
            wanted: dict[str, Document] = {}
            for it in found:
                for mark, _ in _counting(it, steps[it["_id"]]):
                    row = _result(it, mark)
                    wanted.setdefault(row["_id"], row)
            rows = list(wanted.values())
            taken = [rows[place]["_id"] for place in await self._results.insert(rows)]
            if taken:
                stored.update({it["_id"]: it for it in await self._results.find({"_id": {"$in": taken}})})

        def settle(document: Document) -> Document:
            step = steps[document["_id"]]
            marks = [(_as_stored(document, mark, stored), fenced) for mark, fenced in _counting(document, step)]
            done = flows.settle(document, marks, now, step.by)
            late = _is_over(document, step) or flows.hidden(document, step.by)
            for verdict, reason in () if late else step.verdicts:
                done = flows.close(document, verdict, reason, now, step.by) or done
            closed[document["_id"]] = done
            return document

        found = await swap(self._flows, steps, settle, prepare=prepare)
        known = {id: it for id, it in found.items() if it is not None and not flows.hidden(it, steps[id].by)}
        return known, [id for id in known if closed[id]]

    async def reopen(self, again: Reopen, by: str = "") -> Document | None:
        """Open the next generation of a flow; return it, or None where that was not possible."""
        now = await self._database.now()
        late: list[int] = []
        opened = False

        async def prepare(found: Sequence[Document]) -> None:
            for it in found:
                query = {"flow": it["_id"], "generation": it["generation"], "late": True}
                late[:] = [row["index"] for row in await self._results.find(query, fields={"index": 1})]

        def change(document: Document) -> Document:
            nonlocal opened
            opened = flows.reopen(document, again, late, now, by)
            return document

        found = await swap(self._flows, [again.flow_id], change, prepare=prepare)
        document = found.get(again.flow_id)
        mine = opened or (bool(by) and document is not None and document.get("reopened_by") == by)
        return document if mine else None

    async def results(self, flow_id: str, after: int, limit: int) -> list[StepResult]:
        """Return recorded members with a larger index, by index."""
        document = await self._flows.one(flow_id)
        if document is None or flows.hidden(document, ""):
            return []
        indexes = [index for index in flows.recorded(document) if index > after][: max(limit, 0)]
        found: list[StepResult] = []
        for start in range(0, len(indexes), _AT_ONCE):
            part = indexes[start : start + _AT_ONCE]
            rows = await self._results.find({"flow": flow_id, "index": {"$gte": part[0], "$lte": part[-1]}})
            found += _newest(document, part, rows)
        return found


def _counting(document: Document, step: Step) -> Iterable[tuple[Mark, bool]]:
    if flows.hidden(document, step.by):
        return
    for mark, held in step.marks:
        fenced = held and not _is_over(document, step)
        if flows.counts(document, document["members"], mark, fenced=fenced):
            yield mark, fenced


def _is_over(document: Document, step: Step) -> bool:
    return step.redone_from is not None and step.redone_from < document["opened_at"]


def _key(document: Document, index: int) -> str:
    late = "\0late" if document.get("verdict") is not None else ""
    return f"{document['_id']}\0{document['generation']}\0{index}{late}"


def _result(document: Document, mark: Mark) -> Document:
    late = document.get("verdict") is not None
    row: Document = {
        "_id": _key(document, mark.index),
        "flow": mark.flow_id,
        "generation": document["generation"],
        "index": mark.index,
        "status": str(mark.status),
        "result": mark.result,
        "error": None if late else mark.error,
    }
    return row | {"late": True} if late else row


def _as_stored(document: Document, mark: Mark, stored: dict[str, Document]) -> Mark:
    """Return the mark that counts for this member: the one whose result was written first."""
    row = stored.get(_key(document, mark.index))
    return mark if row is None else mark._replace(status=StepStatus(row["status"]))


def _newest(document: Document, indexes: Sequence[int], rows: Sequence[Document]) -> list[StepResult]:
    """Return members with what they brought: in this generation, or else where they last succeeded."""
    best: dict[int, Document] = {}
    for row in sorted(rows, key=lambda it: (it["generation"], not it.get("late", False))):
        here = row["generation"] == document["generation"]
        if not row.get("late") if here else row["status"] == str(StepStatus.SUCCESS):
            best[row["index"]] = row
    found: list[StepResult] = []
    for index in indexes:
        row = best[index]
        found.append(StepResult(index, flows.status_of(document, index), row["result"], row["error"]))
    return found
