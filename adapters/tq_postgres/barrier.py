"""The flow barrier."""

from __future__ import annotations

from collections.abc import Sequence

from tq.model import Flow, FlowState, Mark, Reopen, StepResult, StepStatus, Verdict
from tq.ports import Backend, FlowBarrierProvider

from . import shapes
from .commit import reopen_args
from .database import Database
from .statement import Statement

__all__ = ["PostgresBarrier"]

_LATE = f"SELECT {shapes.FLOW} FROM tq_flows WHERE verdict IS NULL AND deadline IS NOT NULL AND deadline <= $1"
_TODO = (
    f"SELECT {shapes.FLOW} FROM tq_flows WHERE verdict IS NOT NULL AND NOT confirmed OR spread < chunks"
    " OR verdict IS NOT NULL AND NOT tidied AND (cancel_siblings OR verdict = 'cancelled')"
)


class PostgresBarrier(FlowBarrierProvider):
    """Decides each flow once per generation, in one transaction with whatever decides it.

    Alone, in a composition with other servers, it releases no join: only the backend's commit does.
    """

    name = "postgres"

    def __init__(self, backend: Backend, database: Database) -> None:
        self.backend = backend
        self._database = database

    async def init_barrier(self, flows: Sequence[Flow]) -> list[FlowState]:
        statement = Statement()
        statement.call("open", *shapes.flow_columns(flows), False)  # noqa: FBT003 -- some may be there
        states = await self._states(statement, [flow.id for flow in flows])
        return [states[flow.id] for flow in flows]

    async def batch_decrement_and_check(self, marks: Sequence[Mark]) -> list[FlowState]:
        statement = Statement()
        statement.call("mark", *shapes.mark_columns([(mark, False) for mark in marks]))
        return list((await self._states(statement, [mark.flow_id for mark in marks])).values())

    async def mark_aborted(self, flow_id: str, verdict: Verdict, reason: str = "") -> FlowState | None:
        statement = Statement()
        statement.call("close", [flow_id], [str(verdict)], [reason])
        return (await self._states(statement, [flow_id])).get(flow_id)

    async def _states(self, statement: Statement, flow_ids: Sequence[str]) -> dict[str, FlowState]:
        """Run a statement and return, by id, how it leaves these flows; in the order of the ids."""
        statement.call("states", list(flow_ids), returns="states")
        [row] = await self._database.run(statement)
        found = {state[0]: shapes.flow_state(state) for state in row["states"] or ()}
        return {flow_id: found[flow_id] for flow_id in flow_ids if flow_id in found}

    async def confirm_join(self, joins: Sequence[tuple[str, int]]) -> None:
        await self._database.call("confirm", *shapes.columns(joins, 2))

    async def reopen(self, reopen: Reopen) -> list[int] | None:
        missing: list[int] | None = await self._database.call("reopen", *reopen_args(reopen))
        return missing

    async def get(self, flow_ids: Sequence[str]) -> dict[str, FlowState]:
        sql = f"SELECT {shapes.FLOW} FROM tq_flows WHERE id = ANY ($1::text[])"
        return {row[0]: shapes.flow_state(row) for row in await self._database.fetch(sql, list(flow_ids))}

    async def get_step_results(self, flow_id: str, after: int = -1, limit: int = 1000) -> Sequence[StepResult]:
        sql = "SELECT idx, status, result, error FROM tq_members WHERE flow = $1 AND idx > $2 ORDER BY idx LIMIT $3"
        found = await self._database.fetch(sql, flow_id, after, limit)
        return [StepResult(index, StepStatus(status), result, error) for index, status, result, error in found]

    async def list(
        self, *, active: bool | None = None, after: tuple[float, str] | None = None, limit: int = 100
    ) -> Sequence[FlowState]:
        where = {None: "true", True: "verdict IS NULL", False: "verdict IS NOT NULL"}[active]
        page = "" if after is None else " AND (started_at, id) < ($2, $3)"
        sql = f"SELECT {shapes.FLOW} FROM tq_flows WHERE {where}{page} ORDER BY started_at DESC, id DESC LIMIT $1"
        return [shapes.flow_state(row) for row in await self._database.fetch(sql, limit, *(after or ()))]

    async def due(self, now: float, limit: int) -> Sequence[FlowState]:
        sql = f"({_LATE} ORDER BY deadline LIMIT $2) UNION ALL ({_TODO} ORDER BY id LIMIT $2)"
        found = {row[0]: row for row in await self._database.fetch(sql, now, limit)}
        return [shapes.flow_state(row) for row in list(found.values())[:limit]]

    async def quiet(self, since: float, after: str, limit: int) -> Sequence[FlowState]:
        sql = (
            f"SELECT {shapes.FLOW} FROM tq_flows WHERE verdict IS NULL AND id > $1 AND opened_at < $2"
            " ORDER BY id LIMIT $3"
        )
        return [shapes.flow_state(row) for row in await self._database.fetch(sql, after, since, limit)]

    async def advance(self, flow_id: str, *, spread: int | None = None, tidied: bool | None = None) -> None:
        if spread is not None:
            await self._database.call("spread", [flow_id], [spread])
        if tidied is not None:
            await self._database.fetch("UPDATE tq_flows SET tidied = $2 WHERE id = $1", flow_id, tidied)

    async def purge(self, before: float, limit: int) -> int:
        gone: int = await self._database.call("purge_flows", before, limit)
        return gone

    async def close(self) -> None:
        """Close the backend that this is a part of; may be called twice."""
        await self.backend.close()
