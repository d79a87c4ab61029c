"""What must be true once everything is quiet, whatever was killed: pure, from a snapshot and the run's own account.

The executors of such a run keep what shows it: every ending (`store_on_success=True` with a `result_ttl`), their stamp
in the result and in the payload of what they bring. The same checks serve simulations and processes killed for real.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from tq.codec import loads
from tq.flow import flow_version
from tq.flow.about import about
from tq.flow.spread import cancels_members
from tq.ids import join_id, step_id
from tq.model import FlowState, Projection, Record, StepResult, StepStatus, TaskStatus, Verdict, projection_version
from tq.ports import Backend, ProjectionQuery
from tq.testing.account import Account, Joined, stamp_in
from tq.testing.snapshot import Snapshot, take_snapshot

__all__ = ["Endings", "assert_sound", "changed_endings", "violations"]

_ROW_OF = {TaskStatus.EXECUTED: TaskStatus.EXECUTED, TaskStatus.CANCELLED: TaskStatus.CANCELLED}
_ROW_OF_VERDICT = {
    Verdict.ABORTED: TaskStatus.FAILED,
    Verdict.TIMED_OUT: TaskStatus.FAILED,
    Verdict.CANCELLED: TaskStatus.CANCELLED,
}
_MARK_OF = {TaskStatus.EXECUTED: StepStatus.SUCCESS, TaskStatus.CANCELLED: StepStatus.CANCELLED}


async def assert_sound(
    backend: Backend, account: Account, rows: ProjectionQuery | None = None, *, words: str = ""
) -> Snapshot:
    """Assert that nothing is lost, doubled or left over, and return what was read.

    Raises:
        AssertionError: says, line by line, what is not as it must be; `words` come first, such as a seed.
    """
    snapshot = await take_snapshot(backend, account, rows)
    found = violations(snapshot, account)
    assert not found, "\n  ".join([words or "it is not sound:", *found])
    return snapshot


def violations(snapshot: Snapshot, account: Account) -> list[str]:
    """Return a sentence for everything that is not as it must be, or nothing."""
    return [
        *_left_over(snapshot),
        *_unended(snapshot, account),
        *_strangers(snapshot, account),
        *_overtaken(snapshot, account),
        *_of_others(snapshot, account),
        *_of_two_causes(account),
        *_unsound_flows(snapshot),
        *_unsound_joins(snapshot, account),
        *_untrue_rows(snapshot, account),
    ]


# --- nothing is left --------------------------------------------------------------------------------------------------


def _left_over(snapshot: Snapshot) -> Iterator[str]:
    for it in snapshot.live:
        held = f", held by flow {it.held_by}" if it.held_by else ""
        yield f"task {it.id} ({it.type}) is {it.state} in the {it.place}{held}"
    for state in snapshot.flows.values():
        if state.verdict is None:
            yield f"flow {state.id} is open: {state.remaining} of {state.flow.total} are missing"
        elif not state.confirmed:
            yield f"flow {state.id} is {state.verdict}, and nobody has confirmed its join"
        elif state.spread < state.flow.chunks and not state.tidied:
            yield f"the plan of flow {state.id} is spread up to {state.spread} of {state.flow.chunks} chunks"
    if snapshot.outgoing:
        yield f"{snapshot.outgoing} notes wait in the outbox"


# --- every task has one ending ----------------------------------------------------------------------------------------


def _unended(snapshot: Snapshot, account: Account) -> Iterator[str]:
    live = {it.id for it in snapshot.live}
    for task_id in dict.fromkeys([*account.accepted, *(it.task_id for it in account.began)]):
        record = snapshot.records.get(task_id)
        if record is None and task_id not in live:
            yield f"task {task_id} is lost: it is nowhere, and no ending of it is kept"
        elif record is not None and not record.status.terminal:
            yield f"the record of task {task_id} says {record.status}, which is no ending"
    for flow_id in account.flows:
        if flow_id not in snapshot.flows:
            yield f"flow {flow_id} is lost: no barrier knows it"


def _strangers(snapshot: Snapshot, account: Account) -> Iterator[str]:
    """An ending whose execution was never begun, or was begun under another lease than the one that recorded it."""
    began = {it.stamp: it for it in account.began}
    for task_id, record in snapshot.records.items():
        stamp = stamp_in(record.result)
        if not stamp:
            continue
        execution = began.get(stamp)
        if execution is None:
            yield f"the result of task {task_id} is of an execution that nobody began: {stamp}"
        elif execution.task_id == task_id and (execution.generation, execution.attempt, execution.fence) != (
            record.generation,
            record.attempt,
            record.fence,
        ):
            yield f"task {task_id} is recorded for {_run_of(record)}, with the result of {execution}"


def _overtaken(snapshot: Snapshot, account: Account) -> Iterator[str]:
    """An ending under a lease after which another one was given out: on one server that must have been refused."""
    if not snapshot.atomic:
        return
    last: dict[tuple[str, int], int] = {}
    for it in account.began:
        last[it.task_id, it.generation] = max(it.fence, last.get((it.task_id, it.generation), 0))
    for task_id, record in snapshot.records.items():
        if record.fence < last.get((task_id, record.generation), 0):
            yield f"task {task_id} is recorded for {_run_of(record)}; a later lease had begun"


def _run_of(record: Record) -> str:
    return f"generation {record.generation}, attempt {record.attempt}, fence {record.fence}"


# --- what came of a task came of the execution that counted -----------------------------------------------------------


def _of_others(snapshot: Snapshot, account: Account) -> Iterator[str]:
    """Children of an execution whose outcome did not count: a fenced-off worker had an effect."""
    began = {it.stamp: it for it in account.began}
    for child in account.began:
        parent = began.get(child.cause)
        if parent is None:
            if child.cause:
                yield f"task {child.task_id} was brought forth by an execution that nobody began: {child.cause}"
            continue
        record = snapshot.records.get(parent.task_id)
        counted = began.get(stamp_in(record.result)) if record is not None else None
        if counted is not None and counted.stamp != parent.stamp and counted[:3] == parent[:3]:
            yield f"task {child.task_id} is an effect of {parent.stamp}; what counted was {counted.stamp}"


def _of_two_causes(account: Account) -> Iterator[str]:
    """Two executions of one attempt that both brought something forth; or a plan mixed of two."""
    began = {it.stamp: it for it in account.began}
    causes: defaultdict[tuple[str, int, int], set[str]] = defaultdict(set)
    for child in account.began:
        if (parent := began.get(child.cause)) is not None:
            causes[parent.task_id, parent.generation, parent.attempt].add(parent.stamp)
    for (task_id, generation, attempt), stamps in causes.items():
        if len(stamps) > 1:
            yield f"{len(stamps)} executions of task {task_id}, {generation}.{attempt}, had effects: {sorted(stamps)}"


# --- flows ------------------------------------------------------------------------------------------------------------


def _unsound_flows(snapshot: Snapshot) -> Iterator[str]:
    for flow_id, state in snapshot.flows.items():
        members = snapshot.members[flow_id]
        indexes = [it.index for it in members]
        if indexes != sorted(set(indexes)) or (indexes and not 0 <= indexes[0] <= indexes[-1] < state.flow.total):
            yield f"flow {flow_id} has recorded members {indexes} of {state.flow.total}"
        succeeded = sum(it.status is StepStatus.SUCCESS for it in members)
        counted = state.succeeded, state.failed, state.remaining
        if counted != (succeeded, len(members) - succeeded, state.flow.total - len(members)):
            yield f"flow {flow_id} counts {counted}, and {len(members)} members are recorded, {succeeded} successes"
        if state.verdict is Verdict.COMPLETED and state.remaining and state.succeeded < state.flow.needed:
            yield f"flow {flow_id} is completed, and {state.remaining} members are missing"
        if state.verdict is Verdict.ABORTED and state.failed <= state.flow.allowed:
            yield f"flow {flow_id} is aborted after {state.failed} failures; it bears {state.flow.allowed}"
        for member in members:
            yield from _unlike_its_record(state, member, snapshot.records)
        unbegun = state.flow.chunks > 0 and cancels_members(state)  # closed while its plan was spread: not begun
        if not unbegun:
            for index in sorted({*range(state.flow.total)} - {*indexes}):
                if step_id(flow_id, index) not in snapshot.records:
                    yield f"step {index} of flow {flow_id} was not counted, and no ending of it is kept"


def _unlike_its_record(state: FlowState, member: StepResult, records: Mapping[str, Record]) -> Iterator[str]:
    record = records.get(step_id(state.id, member.index))
    if record is None or record.generation > state.flow.generation:  # a dead letter replayed reopens no flow
        return
    expected = _MARK_OF.get(record.status, StepStatus.FAIL)
    if member.status is not expected or stamp_in(member.result) != stamp_in(record.result):
        yield (
            f"step {member.index} of flow {state.id} is counted as {member.status} {stamp_in(member.result)}; "
            f"its task is recorded as {record.status} {stamp_in(record.result)}"
        )


# --- joins ------------------------------------------------------------------------------------------------------------


def _unsound_joins(snapshot: Snapshot, account: Account) -> Iterator[str]:
    told: defaultdict[str, list[Joined]] = defaultdict(list)
    for joined in account.joined:
        told[joined.task_id].append(joined)
    for state in snapshot.flows.values():
        for generation in range(state.flow.generation + 1):
            name = join_id(state.id, generation)
            answers = told.pop(name, [])
            record = snapshot.records.get(name)
            if state.verdict is not None and record is None and name not in {it.id for it in snapshot.live}:
                yield f"the join {name} has no ending: it never ran, or is lost"
            if record is not None and record.status is TaskStatus.EXECUTED and not answers:
                yield f"the join {name} has succeeded, and never ran"
            yield from _untrue_answers(state, generation, answers, snapshot.members[state.id])
    for name, answers in told.items():
        yield f"a join ran that no flow has: {name}, {len(answers)} times"


def _untrue_answers(
    state: FlowState, generation: int, answers: list[Joined], members: Iterable[StepResult]
) -> Iterator[str]:
    for answer in answers:
        if [index for index, *_ in answer.entries] != list(range(state.flow.total)):
            yield f"the join {answer.task_id} was told of {answer.entries}, not of {state.flow.total} steps in order"
        if answer.entries != answers[0].entries:
            yield f"the join {answer.task_id} ran again and was told {answer.entries}, before {answers[0].entries}"
    if not answers or generation != state.flow.generation:
        return
    recorded = {it.index: [it.index, str(it.status), stamp_in(it.result)] for it in members}
    for entry in answers[0].entries:
        absent = entry[1] in (StepStatus.OPEN, StepStatus.CANCELLED) and entry[0] not in recorded
        if not absent and entry != recorded.get(entry[0]):
            yield f"the join {answers[0].task_id} was told {entry}; the barrier has {recorded.get(entry[0])}"


# --- rows -------------------------------------------------------------------------------------------------------------


def _untrue_rows(snapshot: Snapshot, account: Account) -> Iterator[str]:
    if snapshot.rows is None:
        return
    for task_id in dict.fromkeys(it.task_id for it in account.began if it.entity):
        if task_id not in snapshot.rows:
            yield f"task {task_id} names an entity, and has no row"
    for flow_id, state in snapshot.flows.items():
        if about(state.flow).entity is not None and flow_id not in snapshot.rows:
            yield f"flow {flow_id} names an entity, and has no row"
    for name, row in snapshot.rows.items():
        flow = snapshot.flows.get(name)
        if flow is None:
            expected = _task_row(snapshot.records.get(name))
        else:
            expected = _flow_row(flow, snapshot.records.get(join_id(name, flow.flow.generation)))
        if expected is not None and (found := _Shown.of(row)) != expected:
            yield f"the row of {name} shows {found}; true is {expected}"


class _Shown(NamedTuple):
    """The part of a row that can be told from what is recorded."""

    status: TaskStatus
    stage: int
    """Its version, without the instant of its making."""
    result: object

    @classmethod
    def of(cls, row: Projection) -> _Shown:
        stage = row.version - projection_version(row.created_at, 0, TaskStatus.PROCESSING) + 1
        return cls(row.status, stage, _plain(row.result))


def _task_row(record: Record | None) -> _Shown | None:
    if record is None:
        return None
    status = _ROW_OF.get(record.status, TaskStatus.FAILED)
    return _Shown(status, projection_version(0.0, record.generation, status), _plain(record.result))


def _flow_row(state: FlowState, join: Record | None) -> _Shown | None:
    if state.verdict is None or join is None:
        return None
    ended = _ROW_OF_VERDICT.get(state.verdict)
    status = ended or _ROW_OF.get(join.status, TaskStatus.FAILED)
    result = _plain(join.result) if ended is None else None
    return _Shown(status, flow_version(0.0, state.flow.generation, join.generation, status), result)


def _plain(data: bytes | None) -> object:
    return None if data is None else loads(data)


# --- an ending stands -------------------------------------------------------------------------------------------------

Endings = Mapping[str, Record]
"""Records by task id, as an earlier snapshot had them."""


def changed_endings(before: Endings, after: Endings) -> list[str]:
    """Return a sentence for every ending that another one has replaced within its generation, or that has gone."""
    found: list[str] = []
    for task_id, record in before.items():
        now = after.get(task_id)
        if now is None:
            found.append(f"the ending of task {task_id} is gone")
        elif now.generation == record.generation and now != record:
            before_words, after_words = f"{record.status} ({_run_of(record)})", f"{now.status} ({_run_of(now)})"
            found.append(f"task {task_id} had ended as {before_words}, and now as {after_words}")
    return found
