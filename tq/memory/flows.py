"""Flows: each decided once per generation, from members that are counted once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from heapq import heappop, heappush

from tq.model import Flow, FlowState, Mark, Reopen, StepResult, StepStatus, Verdict, decide

from .pages import Pages

__all__ = ["FlowRow", "Flows"]


class FlowRow:
    """A flow, its members that have ended, and what follows from them."""

    __slots__ = (
        "belated",
        "closed_at",
        "confirmed",
        "failed",
        "flow",
        "opened_at",
        "order",
        "reason",
        "results",
        "seq",
        "spread",
        "succeeded",
        "tidied",
        "trigger",
        "verdict",
    )

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.seq = 0
        self.results: dict[int, StepResult] = {}
        self.order: list[int] | None = None
        """The indexes recorded, sorted; None after a change."""
        self.belated: dict[int, StepResult] = {}
        """Members that succeeded after the verdict: they count when the flow is opened again."""
        self.succeeded = 0
        self.failed = 0
        self.verdict: Verdict | None = None
        self.reason = ""
        self.trigger = -1
        self.closed_at: float | None = None
        self.opened_at = flow.started_at
        self.confirmed = False
        self.spread = 0
        self.tidied = False

    @property
    def remaining(self) -> int:
        return self.flow.total - len(self.results)

    def state(self) -> FlowState:
        """Return the flow as it stands, as a value."""
        return FlowState(
            flow=self.flow,
            remaining=self.remaining,
            succeeded=self.succeeded,
            failed=self.failed,
            verdict=self.verdict,
            reason=self.reason,
            trigger=self.trigger,
            closed_at=self.closed_at,
            opened_at=self.opened_at,
            confirmed=self.confirmed,
            spread=self.spread,
            tidied=self.tidied,
        )

    def sorted_indexes(self) -> list[int]:
        """Return the indexes recorded, in order."""
        if self.order is None:
            self.order = sorted(self.results)
        return self.order

    def wants(self) -> bool:
        """Whether something is to be done for this flow, whatever the time."""
        if self.spread < self.flow.chunks:
            return True
        if self.verdict is None:
            return False
        cancels = self.flow.cancel_siblings or self.verdict is Verdict.CANCELLED
        return not self.confirmed or (cancels and not self.tidied)

    def late(self, now: float) -> bool:
        """Whether the deadline of an open flow has passed."""
        return self.verdict is None and self.flow.deadline is not None and self.flow.deadline <= now


class Flows:
    """Tables of a barrier. Whoever calls holds the server's lock; nothing in here waits.

    What is open, what has a deadline, what wants something and what is closed each have their own order, so that a
    hundred thousand flows that only wait cost nothing.
    """

    def __init__(self) -> None:
        self.rows: dict[str, FlowRow] = {}
        self._open: dict[str, FlowRow] = {}
        self.open_pages: Pages[FlowRow] = Pages(self._open)
        self._wanting: dict[str, FlowRow] = {}
        """Flows that `due` has to look at: those that want something, or whose deadline has passed."""
        self._deadlines: list[tuple[float, str]] = []
        self._closed: list[tuple[float, str]] = []
        self._seq = 0

    # --- opening and closing --------------------------------------------------------------------------------------

    def init(self, flow: Flow, now: float) -> tuple[FlowRow, bool]:
        """Store a flow unless its id is there; return its row, and whether this very call closed it."""
        row = self.rows.get(flow.id)
        if row is not None:
            return row, False
        self.rows[flow.id] = row = FlowRow(flow)
        return row, self._opened(row, now)

    def _opened(self, row: FlowRow, now: float) -> bool:
        self._seq += 1
        row.seq = self._seq
        self._open[row.flow.id] = row
        if row.flow.deadline is not None:
            heappush(self._deadlines, (row.flow.deadline, row.flow.id))
        self._look_at(row)
        return self.decide(row, now)

    def _look_at(self, row: FlowRow) -> None:
        if row.wants():
            self._wanting[row.flow.id] = row

    def decide(self, row: FlowRow, now: float) -> bool:
        """Close an open flow whose counts give a verdict; return whether they do."""
        flow = row.flow
        verdict = decide(
            remaining=row.remaining,
            succeeded=row.succeeded,
            failed=row.failed,
            allowed=flow.allowed,
            needed=flow.needed,
        )
        if verdict is None:
            return False
        self._close(row, verdict, "", now)
        return True

    def _close(self, row: FlowRow, verdict: Verdict, reason: str, now: float) -> None:
        row.verdict = verdict
        row.reason = reason
        row.closed_at = now
        del self._open[row.flow.id]
        heappush(self._closed, (now, row.flow.id))
        self._look_at(row)

    def mark_aborted(self, flow_id: str, verdict: Verdict, reason: str, now: float) -> bool:
        """Close an open flow; return whether this call did."""
        row = self._open.get(flow_id)
        if row is None:
            return False
        self._close(row, verdict, reason, now)
        return True

    def confirm(self, flow_id: str, generation: int) -> None:
        """Note that the join of this generation is on its way for good."""
        row = self.rows.get(flow_id)
        if row is not None and row.verdict is not None and row.flow.generation == generation:
            row.confirmed = True

    def reopen(self, reopen: Reopen, now: float) -> tuple[list[int], bool] | None:
        """Open the next generation; return the members missing again, and whether its counts close it at once.

        A flow whose join is not yet on its way stays as it is: that join would be lost.
        """
        row = self.rows.get(reopen.flow_id)
        if row is None or not row.confirmed or reopen.generation != row.flow.generation + 1:
            return None
        row.flow = replace(row.flow, generation=reopen.generation, join=reopen.join, deadline=reopen.deadline)
        row.results = row.belated | {index: it for index, it in row.results.items() if it.status is StepStatus.SUCCESS}
        row.belated = {}
        row.order = None
        row.succeeded, row.failed = len(row.results), 0
        row.verdict = row.closed_at = None
        row.reason = ""
        row.trigger = -1
        row.confirmed = row.tidied = False
        row.opened_at = reopen.at
        missing = [index for index in range(row.flow.total) if index not in row.results]
        return missing, self._opened(row, now)

    # --- members --------------------------------------------------------------------------------------------------

    def mark(self, mark: Mark, *, fenced: bool) -> FlowRow | None:
        """Record a member of an open flow; return the row if that changed it, to be decided at the end of the step.

        `fenced` says that the member's lease was held: its ending then counts in any generation.
        """
        row = self.rows.get(mark.flow_id)
        if row is None or not 0 <= mark.index < row.flow.total:
            return None
        succeeded = mark.status is StepStatus.SUCCESS
        if row.verdict is not None and succeeded:
            row.belated.setdefault(mark.index, StepResult(mark.index, mark.status, mark.result))
        if row.verdict is not None or mark.index in row.results:
            return None
        if not (fenced or succeeded or mark.generation >= row.flow.generation):
            return None
        row.results[mark.index] = StepResult(mark.index, mark.status, mark.result, mark.error)
        row.order = None
        if succeeded:
            row.succeeded += 1
        else:
            row.failed += 1
            if row.failed == row.flow.allowed + 1:
                row.trigger = mark.index
        return row

    def mark_all(self, marks: Iterable[tuple[Mark, bool]], now: float) -> list[FlowRow]:
        """Record members, each with whether its lease was held; return the flows that this decided."""
        changed: dict[str, FlowRow] = {}
        for mark, fenced in marks:
            row = self.mark(mark, fenced=fenced)
            if row is not None:
                changed[mark.flow_id] = row
        return [row for row in changed.values() if self.decide(row, now)]

    # --- looking --------------------------------------------------------------------------------------------------

    def due(self, now: float, limit: int) -> list[FlowState]:
        """Return flows that something must be done for."""
        while self._deadlines and self._deadlines[0][0] <= now:
            deadline, flow_id = heappop(self._deadlines)
            row = self._open.get(flow_id)
            if row is not None and row.flow.deadline == deadline:
                self._wanting[flow_id] = row
        found: list[FlowState] = []
        for flow_id, row in list(self._wanting.items()):
            if row.late(now) or row.wants():
                found.append(row.state())
                if len(found) >= limit:
                    break
            elif row.verdict is not None or row.flow.deadline is None:
                del self._wanting[flow_id]
        return found

    def quiet(self, since: float, after: str, limit: int) -> list[FlowState]:
        """Return open flows opened before `since`, by id."""
        found: list[FlowState] = []
        for row in self.open_pages.after(after):
            if len(found) >= limit:
                break
            if row.opened_at < since:
                found.append(row.state())
        return found

    def advance(self, flow_id: str, spread: int | None, tidied: bool | None) -> None:  # noqa: FBT001 -- as the port
        """Note how far spreading has come, never back, or that nothing is left to tidy up."""
        row = self.rows.get(flow_id)
        if row is None:
            return
        if spread is not None:
            row.spread = max(row.spread, spread)
        if tidied is not None:
            row.tidied = tidied

    def purge(self, before: float, limit: int) -> int:
        """Drop confirmed flows that closed before this instant; return how many."""
        gone, kept = 0, list[tuple[float, str]]()
        while self._closed and self._closed[0][0] < before and gone < limit:
            entry = heappop(self._closed)
            row = self.rows.get(entry[1])
            if row is None or row.closed_at != entry[0]:
                continue
            if row.confirmed:
                del self.rows[entry[1]]
                self._wanting.pop(entry[1], None)
                gone += 1
            else:
                kept.append(entry)
        for entry in kept:
            heappush(self._closed, entry)
        return gone
