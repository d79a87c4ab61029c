"""The flow barrier."""

from __future__ import annotations

from collections.abc import Sequence

from tq.model import Flow, FlowState, Mark, Reopen, StepResult, Verdict
from tq.ports import Backend, FlowBarrierProvider

from .connection import Connection
from .database import Database
from .flows import (
    advance_flow,
    close_flow,
    confirm_joins,
    due_flows,
    list_flows,
    open_flows,
    purge_flows,
    quiet_flows,
    read_states,
    read_step_results,
    reopen_flow,
)
from .marks import write_marks

__all__ = ["SqliteBarrier"]


class SqliteBarrier(FlowBarrierProvider):
    """Decides each flow once per generation, in one transaction with whatever decides it.

    Alone, in a composition with other servers, it releases no join: only the backend's commit does.
    """

    name = "sqlite"

    def __init__(self, backend: Backend, database: Database) -> None:
        self.backend = backend
        self._database = database

    async def init_barrier(self, flows: Sequence[Flow]) -> list[FlowState]:
        def store(db: Connection) -> list[FlowState]:
            open_flows(db, flows)
            states = read_states(db, [flow.id for flow in flows])
            return [states[flow.id] for flow in flows]

        return await self._database.write(store)

    async def batch_decrement_and_check(self, marks: Sequence[Mark]) -> list[FlowState]:
        def count(db: Connection) -> list[FlowState]:
            write_marks(db, [(mark, False) for mark in marks])
            return list(read_states(db, list(dict.fromkeys(mark.flow_id for mark in marks))).values())

        return await self._database.write(count)

    async def mark_aborted(self, flow_id: str, verdict: Verdict, reason: str = "") -> FlowState | None:
        def abort(db: Connection) -> FlowState | None:
            close_flow(db, flow_id, verdict, reason)
            return read_states(db, [flow_id]).get(flow_id)

        return await self._database.write(abort)

    async def confirm_join(self, joins: Sequence[tuple[str, int]]) -> None:
        await self._database.write(lambda db: confirm_joins(db, joins))

    async def reopen(self, reopen: Reopen) -> list[int] | None:
        return await self._database.write(lambda db: reopen_flow(db, reopen))

    async def get(self, flow_ids: Sequence[str]) -> dict[str, FlowState]:
        return await self._database.read(lambda db: read_states(db, flow_ids))

    async def get_step_results(self, flow_id: str, after: int = -1, limit: int = 1000) -> Sequence[StepResult]:
        return await self._database.read(lambda db: read_step_results(db, flow_id, after, limit))

    async def list(
        self, *, active: bool | None = None, after: tuple[float, str] | None = None, limit: int = 100
    ) -> Sequence[FlowState]:
        return await self._database.read(lambda db: list_flows(db, active, after, limit))

    async def due(self, now: float, limit: int) -> Sequence[FlowState]:
        return await self._database.read(lambda db: due_flows(db, now, limit))

    async def quiet(self, since: float, after: str, limit: int) -> Sequence[FlowState]:
        return await self._database.read(lambda db: quiet_flows(db, since, after, limit))

    async def advance(self, flow_id: str, *, spread: int | None = None, tidied: bool | None = None) -> None:
        await self._database.write(lambda db: advance_flow(db, flow_id, spread, tidied))

    async def purge(self, before: float, limit: int) -> int:
        return await self._database.write(lambda db: purge_flows(db, before, limit))

    async def close(self) -> None:
        """Close the backend that this is a part of; may be called twice."""
        await self.backend.close()
