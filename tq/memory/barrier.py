"""The barrier in memory: every flow lasts as long as the process."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from heapq import nlargest

from tq.clock import Clock
from tq.model import Effects, Flow, FlowState, Mark, Reopen, StepResult, Verdict
from tq.ports import Backend, FlowBarrierProvider

from .content import check_effects, check_text
from .flows import Flows
from .server import Part, Server

__all__ = ["MemoryBarrier"]


class MemoryBarrier(Part, FlowBarrierProvider):
    """Atomic within one process; alone it decides, and whoever asked dispatches the join."""

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        server: Server | None = None,
        flows: Flows | None = None,
        backend: Backend | None = None,
    ) -> None:
        super().__init__(server or Server(clock))
        self._flows = flows or Flows()
        self.backend = backend
        """The backend that this is a part of, or None."""

    @property
    def _now(self) -> float:
        return self._server.clock.now()

    async def init_barrier(self, flows: Sequence[Flow]) -> list[FlowState]:
        with self._enter():
            check_effects(Effects(flows=tuple(flows)))
            now = self._now
            return [self._flows.init(flow, now)[0].state() for flow in flows]

    async def batch_decrement_and_check(self, marks: Sequence[Mark]) -> list[FlowState]:
        with self._enter():
            check_effects(Effects(marks=tuple(marks)))
            self._flows.mark_all([(mark, False) for mark in marks], self._now)
            named = dict.fromkeys(mark.flow_id for mark in marks)
            return [self._flows.rows[flow_id].state() for flow_id in named if flow_id in self._flows.rows]

    async def mark_aborted(self, flow_id: str, verdict: Verdict, reason: str = "") -> FlowState | None:
        with self._enter():
            check_text(reason)
            self._flows.mark_aborted(flow_id, verdict, reason, self._now)
            row = self._flows.rows.get(flow_id)
            return None if row is None else row.state()

    async def confirm_join(self, joins: Sequence[tuple[str, int]]) -> None:
        with self._enter():
            for flow_id, generation in joins:
                self._flows.confirm(flow_id, generation)

    async def reopen(self, reopen: Reopen) -> list[int] | None:
        with self._enter():
            check_effects(Effects(reopens=(reopen,)))
            reopened = self._flows.reopen(reopen, self._now)
            return None if reopened is None else reopened[0]

    async def get(self, flow_ids: Sequence[str]) -> dict[str, FlowState]:
        with self._enter():
            rows = self._flows.rows
            return {flow_id: rows[flow_id].state() for flow_id in flow_ids if flow_id in rows}

    async def get_step_results(self, flow_id: str, after: int = -1, limit: int = 1000) -> Sequence[StepResult]:
        with self._enter():
            row = self._flows.rows.get(flow_id)
            if row is None:
                return []
            indexes = row.sorted_indexes()
            start = bisect_right(indexes, after)
            return [row.results[index] for index in indexes[start : start + limit]]

    async def list(
        self, *, active: bool | None = None, after: tuple[float, str] | None = None, limit: int = 100
    ) -> Sequence[FlowState]:
        with self._enter():
            fitting = (
                row
                for row in self._flows.rows.values()
                if (active is None or (row.verdict is None) is active)
                and (after is None or (row.flow.started_at, row.flow.id) < after)
            )
            newest = nlargest(limit, fitting, key=lambda row: (row.flow.started_at, row.flow.id))
            return [row.state() for row in newest]

    async def due(self, now: float, limit: int) -> Sequence[FlowState]:
        with self._enter():
            return self._flows.due(now, limit)

    async def quiet(self, since: float, after: str, limit: int) -> Sequence[FlowState]:
        with self._enter():
            return self._flows.quiet(since, after, limit)

    async def advance(self, flow_id: str, *, spread: int | None = None, tidied: bool | None = None) -> None:
        with self._enter():
            self._flows.advance(flow_id, spread, tidied)

    async def purge(self, before: float, limit: int) -> int:
        with self._enter():
            return self._flows.purge(before, limit)
