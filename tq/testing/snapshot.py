"""Everything that a backend tells about what it keeps, read through its public ports at one quiet instant."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

from tq.ids import join_id, step_id
from tq.model import FlowState, Projection, Record, StepResult, Whereabouts
from tq.ports import Backend, Custody, ProjectionQuery
from tq.testing.account import Account

__all__ = ["Snapshot", "take_snapshot"]

T = TypeVar("T")
PAGE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What is kept of everything that an account names, and of everything that leads on from there."""

    atomic: bool
    """Whether the backend's commit is one step, so that an outcome without its lease has no effect at all."""
    live: tuple[Whereabouts, ...]
    """Messages that wait, run or are held, in queue and store."""
    records: dict[str, Record]
    flows: dict[str, FlowState]
    members: dict[str, tuple[StepResult, ...]]
    """What the barrier has recorded, by flow."""
    rows: dict[str, Projection] | None
    """Projection rows, or None where nobody keeps any."""
    outgoing: int
    """Notes that have not been handed over."""


async def take_snapshot(backend: Backend, account: Account, rows: ProjectionQuery | None = None) -> Snapshot:
    """Read what is kept; nothing may move meanwhile, or the parts will not fit.

    `rows` answers for a provider of the user's own; else the backend's provider is asked, where it can be.
    """
    live: list[Whereabouts] = []
    for part in (backend.queue, backend.store):
        live += [it async for it in _live(part)]
    flows = {state.id: state async for state in _flows(backend)}
    members = {flow: await _members(backend, flow) for flow in flows}
    records: dict[str, Record] = {}
    for ids in _portions([*_named(account, flows.values(), live)]):
        records |= await backend.store.records(ids)
    provider = rows or backend.projections
    return Snapshot(
        atomic=backend.atomic,
        live=tuple({it.id: it for it in live}.values()),  # parts of one server may both name all there is
        records=records,
        flows=flows,
        members=members,
        rows=await _rows(cast("ProjectionQuery", provider)) if hasattr(provider, "find_projections") else None,
        outgoing=(await backend.store.stats()).get("outgoing", 0),
    )


def _named(account: Account, flows: Iterable[FlowState], live: Iterable[Whereabouts]) -> dict[str, None]:
    """Return, once each, the ids of tasks that there must be, or may be, an ending of."""
    ids = [*account.accepted, *(it.task_id for it in account.began), *(it.id for it in live)]
    for state in flows:
        ids += [step_id(state.id, index) for index in range(state.flow.total)]
        ids += [join_id(state.id, generation) for generation in range(state.flow.generation + 1)]
    return dict.fromkeys(ids)


async def _live(part: Custody) -> AsyncIterator[Whereabouts]:
    after = ""
    while found := await part.list(None, after, PAGE):
        for item in found:
            yield item
        after = found[-1].id


async def _flows(backend: Backend) -> AsyncIterator[FlowState]:
    after: tuple[float, str] | None = None
    while backend.barrier is not None and (found := await backend.barrier.list(after=after, limit=PAGE)):
        for state in found:
            yield state
        after = found[-1].flow.started_at, found[-1].id


async def _members(backend: Backend, flow_id: str) -> tuple[StepResult, ...]:
    members: list[StepResult] = []
    after = -1
    while backend.barrier is not None and (found := await backend.barrier.get_step_results(flow_id, after, PAGE)):
        members += found
        after = found[-1].index
    return tuple(members)


async def _rows(provider: ProjectionQuery) -> dict[str, Projection]:
    rows: dict[str, Projection] = {}
    after: tuple[float, str] | None = None
    while found := await provider.find_projections(after=after, limit=PAGE):
        rows |= {row.task_id: row for row in found}
        after = found[-1].updated_at, found[-1].task_id
    return rows


def _portions(items: Sequence[T]) -> Iterable[Sequence[T]]:
    for start in range(0, len(items), PAGE):
        yield items[start : start + PAGE]
