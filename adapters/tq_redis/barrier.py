"""The flow barrier."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tq.model import Flow, FlowState, Mark, Reopen, StepResult, Verdict
from tq.ports import Backend, FlowBarrierProvider

from .arguments import as_number, counted, flow_arguments, mark_arguments, read_states
from .commit import reopen_arguments
from .packing import unpack_result
from .server import Argument, Server

__all__ = ["RedisBarrier"]

_MOST_RESULTS = 10_000
"""Members that one look brings."""


class RedisBarrier(FlowBarrierProvider):
    """Decides each flow once per generation, in one script with whatever decides it.

    Alone, in a composition with other servers, it releases no join: only the backend's commit does.
    """

    name = "redis"

    def __init__(self, backend: Backend, server: Server) -> None:
        self.backend = backend
        self._server = server

    async def init_barrier(self, flows: Sequence[Flow]) -> list[FlowState]:
        def arguments() -> Iterator[Argument]:
            yield len(flows)
            for flow in flows:
                yield from flow_arguments(flow)

        return read_states(await self._server.write("init", arguments()))

    async def batch_decrement_and_check(self, marks: Sequence[Mark]) -> list[FlowState]:
        def arguments() -> Iterator[Argument]:
            yield len(marks)
            for mark in marks:
                yield from mark_arguments(mark)

        return read_states(await self._server.write("mark", arguments()))

    async def mark_aborted(self, flow_id: str, verdict: Verdict, reason: str = "") -> FlowState | None:
        states = read_states(await self._server.write("abort", (flow_id, str(verdict), reason)))
        return states[0] if states else None

    async def confirm_join(self, joins: Sequence[tuple[str, int]]) -> None:
        await self._server.write("confirm", (len(joins), *(part for join in joins for part in join)))

    async def reopen(self, reopen: Reopen) -> list[int] | None:
        def arguments() -> Iterator[Argument]:
            yield from reopen_arguments(reopen)

        missing = await self._server.write("reopen", arguments())
        return None if missing == 0 else missing

    async def get(self, flow_ids: Sequence[str]) -> dict[str, FlowState]:
        states = read_states(await self._server.look("flows", counted(flow_ids)))
        return {state.id: state for state in states}

    async def get_step_results(self, flow_id: str, after: int = -1, limit: int = 1000) -> Sequence[StepResult]:
        found: list[StepResult] = []
        while len(found) < limit:
            size = min(limit - len(found), _MOST_RESULTS)
            rows = await self._server.look("results", (flow_id, max(after + 1, 0), size))
            found += [unpack_result(index, data) for index, data in zip(rows[::2], rows[1::2], strict=True)]
            if len(rows) < 2 * size:
                break
            after = found[-1].index
        return found

    async def list(
        self, *, active: bool | None = None, after: tuple[float, str] | None = None, limit: int = 100
    ) -> Sequence[FlowState]:
        at, id = ("", "") if after is None else (repr(after[0]), after[1])
        found: list[FlowState] = []
        for opened in (True, False):
            if active is None or active is opened:
                found += read_states(await self._server.look("list_flows", (int(opened), at, id, limit)))
        # A flow that was closed between the two looks stands in both.
        newest = {state.id: state for state in found}.values()
        return sorted(newest, key=lambda it: (it.flow.started_at, it.id), reverse=True)[:limit]

    async def due(self, now: float, limit: int) -> Sequence[FlowState]:
        return read_states(await self._server.look("due", (repr(now), limit)))

    async def quiet(self, since: float, after: str, limit: int) -> Sequence[FlowState]:
        found: list[FlowState] = []
        while len(found) < limit:
            rows, last = await self._server.look("quiet", (repr(since), after, limit))
            found += read_states(rows)
            if not last:
                break
            after = last.decode()
        return found[:limit]

    async def advance(self, flow_id: str, *, spread: int | None = None, tidied: bool | None = None) -> None:
        noted: list[Any] = ["" if spread is None else spread, "" if tidied is None else int(tidied)]
        await self._server.write("advance", (flow_id, *noted))

    async def purge(self, before: float, limit: int) -> int:
        gone: int = await self._server.write("purge_flows", (as_number(before), limit))
        return gone

    async def close(self) -> None:
        """Close the backend that this is a part of; may be called twice."""
        await self.backend.close()
