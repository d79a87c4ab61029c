"""Doubles for the flow room: a barrier that keeps the rules, and a server of dictionaries around it."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from tq.codec import dumps, message_of
from tq.errors import ContentRefusedError
from tq.ids import join_id
from tq.model import (
    Batch,
    Chunk,
    Effects,
    Entity,
    FailurePolicy,
    Flow,
    FlowRequest,
    FlowState,
    Hop,
    Join,
    Mark,
    Member,
    Message,
    Outgoing,
    Record,
    State,
    StepResult,
    StepStatus,
    Task,
    Verdict,
    Whereabouts,
    decide,
)
from tq.ports import Backend, FlowBarrierProvider, Guarantees

NOW = 1_900_000_000.0


def request_of(
    count: int = 3,
    *,
    id: str = "f",
    policy: str = "continue",
    timeout: float | None = None,
    entity: Entity | None = None,
    members: Sequence[Member] | None = None,
    log_context: Mapping[str, str] | None = None,
    **settings: Any,
) -> FlowRequest:
    """Return a flow of `count` steps "resize" on queue "media", joined by "publish" on queue "default"."""
    steps = members if members is not None else [Member("resize", "media", b'{"n":%d}' % n) for n in range(count)]
    return FlowRequest(
        id=id,
        members=tuple(steps),
        join=Join("publish"),
        policy=FailurePolicy.compile(policy, len(steps), **settings),
        timeout=timeout,
        entity=entity,
        log_context=log_context or {},
        worker_id="w1",
        consumer_id="c1",
    )


def flow_of(total: int = 3, **fields: Any) -> Flow:
    """Return a flow that needs all of its members, for tests that look at nothing but its numbers."""
    join = message_of(Task[object](type="publish", id=join_id("f", 0)), dumps({"flow_id": "f"}), NOW)
    settings: dict[str, Any] = {
        "id": "f",
        "total": total,
        "allowed": total,
        "needed": total,
        "join": join,
        "started_at": NOW,
    }
    return Flow(**(settings | fields))


class Barrier:
    """Keeps flows as RFC 002 says; what callers never asked of it stands in `calls`."""

    def __init__(self, server: Server | None = None) -> None:
        self.states: dict[str, FlowState] = {}
        self.results: dict[str, dict[int, StepResult]] = {}
        self.calls: list[str] = []
        self.now = NOW
        self._server = server

    def open(self, flow: Flow) -> FlowState:
        """Store a flow unless it is there."""
        if flow.id not in self.states:
            self.results[flow.id] = {}
            self.states[flow.id] = FlowState(flow=flow, remaining=flow.total, opened_at=flow.started_at)
            self._decide(flow.id)
        return self.states[flow.id]

    def mark(self, *marks: Mark) -> list[FlowState]:
        """Record; return what was closed by it."""
        seen = list(dict.fromkeys(mark.flow_id for mark in marks))
        was_open = [id for id in seen if id in self.states and self.states[id].verdict is None]
        for mark in marks:
            state = self.states.get(mark.flow_id)
            if state is None or state.verdict is not None or mark.index in self.results[mark.flow_id]:
                continue
            self.results[mark.flow_id][mark.index] = StepResult(mark.index, mark.status, mark.result, mark.error)
            good = mark.status is StepStatus.SUCCESS
            self.states[mark.flow_id] = replace(
                state,
                remaining=state.remaining - 1,
                succeeded=state.succeeded + good,
                failed=state.failed + (not good),
            )
        for id in was_open:
            self._decide(id)
        return [self.states[id] for id in was_open if self.states[id].verdict is not None]

    def close(self, flow_id: str, verdict: Verdict, reason: str = "") -> FlowState | None:
        """Close an open flow; return it if it was open."""
        state = self.states.get(flow_id)
        if state is None or state.verdict is not None:
            return None
        self.states[flow_id] = replace(state, verdict=verdict, reason=reason, closed_at=self.now)
        return self.states[flow_id]

    def _decide(self, flow_id: str) -> None:
        state = self.states[flow_id]
        verdict = decide(
            remaining=state.remaining,
            succeeded=state.succeeded,
            failed=state.failed,
            allowed=state.flow.allowed,
            needed=state.flow.needed,
        )
        if verdict is not None:
            self.states[flow_id] = replace(state, verdict=verdict, closed_at=self.now)

    # --- the verbs that the flow room uses ------------------------------------------------------------------------

    async def mark_aborted(self, flow_id: str, verdict: Verdict, reason: str = "") -> FlowState | None:
        self.close(flow_id, verdict, reason)
        return self.states.get(flow_id)

    async def confirm_join(self, joins: Sequence[tuple[str, int]]) -> None:
        self.calls.append("confirm_join")
        for id, _ in joins:
            self.states[id] = replace(self.states[id], confirmed=True)

    async def get(self, flow_ids: Sequence[str]) -> dict[str, FlowState]:
        return {id: self.states[id] for id in flow_ids if id in self.states}

    async def get_step_results(self, flow_id: str, after: int = -1, limit: int = 1000) -> Sequence[StepResult]:
        self.calls.append(f"get_step_results {flow_id}")
        found = self.results.get(flow_id, {})
        return [found[index] for index in sorted(found) if index > after][:limit]

    async def due(self, now: float, limit: int) -> Sequence[FlowState]:
        found: list[FlowState] = []
        for state in self.states.values():
            deadline = state.flow.deadline
            cancels = state.verdict is Verdict.CANCELLED or state.flow.cancel_siblings
            passed = state.verdict is None and deadline is not None and deadline <= now
            unsent = state.verdict is not None and not state.confirmed
            untidy = state.verdict is not None and cancels and not state.tidied
            if passed or unsent or untidy or state.spread < state.flow.chunks:
                found.append(state)
        return found[:limit]

    async def quiet(self, since: float, after: str, limit: int) -> Sequence[FlowState]:
        self.calls.append(f"quiet after {after!r}")
        names = sorted(
            id for id, state in self.states.items() if state.verdict is None and state.opened_at < since and id > after
        )
        return [self.states[id] for id in names[:limit]]

    async def advance(self, flow_id: str, *, spread: int | None = None, tidied: bool | None = None) -> None:
        state = self.states[flow_id]
        self.states[flow_id] = replace(
            state, spread=max(state.spread, spread or 0), tidied=state.tidied if tidied is None else tidied
        )

    @property
    def port(self) -> FlowBarrierProvider:
        """Itself, as the port of which it is a part."""
        return cast("FlowBarrierProvider", self)


class Part:
    """The queue's, or the store's, side of a server."""

    def __init__(self, server: Server, *, locates: bool = True) -> None:
        self._server = server
        self.guarantees = Guarantees(locates=locates)
        self.live: dict[str, Whereabouts] = {}
        self.on_hold: builtins.list[str] = []

    async def locate(self, ids: Sequence[str]) -> dict[str, Whereabouts]:
        found = {id: self.live[id] for id in ids if id in self.live} if self.guarantees.locates else {}
        self._server.after_locate()
        return found

    async def cancel(self, ids: Sequence[str]) -> builtins.list[str]:
        found = [id for id in ids if id in self.live]
        self._server.cancelled += [id for id in found if self.live[id].state is not State.HELD]
        return found

    async def list(self, queue: str | None, after: str, limit: int) -> Sequence[Whereabouts]:
        return [self.live[id] for id in sorted(self.live) if id > after][:limit]

    async def paused(self) -> Sequence[str]:
        return self.on_hold

    async def records(self, ids: Sequence[str]) -> dict[str, Record]:
        found = {id: self._server.kept[id] for id in ids if id in self._server.kept}
        self._server.after_records()
        return found

    async def revive(self, ids: Sequence[str], at: float, stats: bytes = b"") -> builtins.list[str]:
        done = [id for id in ids if id in self._server.kept and self._server.kept[id].body is not None]
        for id in done:
            record = self._server.kept.pop(id)
            message = Message(id, record.queue, record.type, record.body or b"", at, record.generation + 1, stats=stats)
            self._server.add(message)
        return done

    async def outgoing(self, topic: str, limit: int) -> Sequence[Outgoing]:
        return [note for note in self._server.notes.values() if note.topic == topic][:limit]

    async def put_outgoing(self, notes: Sequence[Outgoing]) -> None:
        for note in notes:
            self._server.notes.setdefault(note.id, note)

    async def sent(self, notes: Sequence[Outgoing]) -> None:
        for note in notes:
            del self._server.notes[note.id]

    async def chunk(self, plan: str, number: int) -> Chunk | None:
        return self._server.chunks.get((plan, number))


class Server:
    """A backend of dictionaries; `written` holds, in order, the effects of every commit."""

    name = "double"
    projections = None

    def __init__(self, *, atomic: bool = True, locates: bool = True) -> None:
        self.atomic = atomic
        self.queue = Part(self, locates=locates)
        self.store = Part(self)
        self.barrier = Barrier(self)
        self.kept: dict[str, Record] = {}
        self.chunks: dict[tuple[str, int], Chunk] = {}
        self.notes: dict[str, Outgoing] = {}
        self.sent: dict[str, Message] = {}
        """Every message that was ever inserted."""
        self.cancelled: list[str] = []
        self.written: list[Effects] = []
        self._closed: list[FlowState] = []
        self.refuse: set[str] = set()
        """Ids of messages that the server refuses."""

    @property
    def port(self) -> Backend:
        """Itself, as the port of which it is a part."""
        return cast("Backend", self)

    def after_locate(self) -> None:
        """Is called after each `locate`, for tests in which the world moves on meanwhile."""

    def after_records(self) -> None:
        """Is called after each `records`, likewise."""

    def add(self, message: Message) -> bool:
        """Insert a message unless its id is taken."""
        if message.id in self.queue.live or message.id in self.store.live or message.id in self.kept:
            return False
        self.sent[message.id] = message
        self.queue.live[message.id] = place_of(message)
        return True

    async def commit(self, batch: Batch, claim: object = None) -> Hop:
        messages = [message for effects in batch.effects for message in effects.messages]
        for message in messages:
            if message.id in self.refuse:
                raise ContentRefusedError(message.id)
        self._closed = closed = list[FlowState]()
        for effects in batch.effects:
            self._write(effects)
        for effects in batch.effects:
            closed += self.barrier.mark(*effects.marks)
        for effects in batch.effects:
            for verdict in effects.verdicts:
                state = self.barrier.close(*verdict)
                closed += [] if state is None else [state]
        for state in closed:
            self.add(state.flow.join)
        return Hop([], [], closed, [])

    def _write(self, effects: Effects) -> None:
        self.written.append(effects)
        for chunk in effects.chunks:
            self.chunks.setdefault((chunk.plan, chunk.number), chunk)
        for flow in effects.flows:
            self.barrier.open(flow)
        for message in effects.messages:
            self.add(message)
        for record in effects.records:
            self.kept[record.task_id] = record
        for flow_id, spread in effects.spreads:
            state = self.barrier.states[flow_id]
            self.barrier.states[flow_id] = replace(state, spread=max(state.spread, spread))
        for resolve in effects.resolves:
            held = self.store.live.get(resolve.task_id)
            if held is not None and held.held_by == resolve.flow_id:
                del self.store.live[resolve.task_id]
                self._write(resolve.effects)
                self._closed += self.barrier.mark(*resolve.effects.marks)


def place_of(message: Message, state: State = State.WAITING, **fields: Any) -> Whereabouts:
    """Return where a message is."""
    head = (message.id, message.queue, message.type, state, message.run_at, message.generation, message.attempt)
    return Whereabouts(*head)._replace(stats=message.stats, **fields)
