"""`tq flow ID`: one flow as a tree, and in words; cancel it, or run again what failed in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

import typer

from tq.app.handler import TaskHandler
from tq.errors import UnknownFlowError
from tq.flow import Explanation
from tq.flow.close import barrier_of
from tq.ids import step_id
from tq.model import FlowState, StepResult, StepStatus

from .command import Common, command
from .flows import flow_words
from .opening import opened
from .output import document, note, tree
from .text import instant, moment, plain, shortened

__all__ = ["flow"]

PAGE = 1000
LISTED = 20


@dataclass
class Members:
    """Recorded members: all of them counted, the first of those that failed listed."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("success", "fail", "cancelled"), 0))
    listed: list[StepResult] = field(default_factory=list[StepResult])

    def add(self, member: StepResult) -> None:
        self.counts[member.status] = self.counts.get(member.status, 0) + 1
        if member.status is not StepStatus.SUCCESS and len(self.listed) < LISTED:
            self.listed.append(member)


@command()
async def flow(
    common: Common,
    *,
    id: Annotated[str, typer.Argument(help="The flow, as `tq flows` lists it.")],
    cancel: Annotated[bool, typer.Option("--cancel", help="Close it now; its join is told.")] = False,
    redrive: Annotated[bool, typer.Option("--redrive", help="Run what did not succeed, and the join, again.")] = False,
) -> None:
    """Show how a flow stands: members by status, those that are missing, the join, and what happens next.

    --json prints what `tq flows` prints of each flow, and: members (counts by status), failures (the first twenty:
    index, id, status, error), waiting (the first twenty missing: index, id, type, queue, standing, attempt, until,
    since, detail), join.status, explanation (lines).
    """
    if cancel and redrive:
        raise typer.BadParameter("give either --cancel or --redrive")
    async with opened(common.url) as handler:
        handle = handler.flow(id)
        if cancel and not await handle.cancel("cancelled from the command line"):
            note("it was closed already")
        if redrive:
            again = await handle.redrive()
            note(f"{again} members run again" if again else "the join runs again")
        state = (await barrier_of(handler.backend).get([id])).get(id)
        if state is None:
            raise UnknownFlowError(id, f"nothing is stored about flow {id}: it never began, or was forgotten")
        members = await _members(handler, state)
        explanation = await handle.explain()
        status = await (await handle.join()).status()
    words = _words(state, members, explanation)
    words["join"]["status"] = None if status == "unknown" else status.value
    if common.json:
        document(words)
    else:
        tree(_head(words), _branches(words, explanation))


async def _members(handler: TaskHandler, state: FlowState) -> Members:
    members, after = Members(), -1
    while page := await barrier_of(handler.backend).get_step_results(state.id, after, PAGE):
        for member in page:
            members.add(member)
        after = page[-1].index
    return members


def _words(state: FlowState, members: Members, explanation: Explanation) -> dict[str, Any]:
    return {
        **flow_words(state),
        "members": {**members.counts, "missing": state.remaining},
        "failures": [
            {
                "index": member.index,
                "id": step_id(state.id, member.index),
                "status": member.status,
                "error": member.error,
            }
            for member in members.listed
        ],
        "waiting": [
            {**asdict(place), "until": moment(place.until), "since": moment(place.since)}
            for place in explanation.members
        ],
        "explanation": str(explanation).splitlines(),
    }


def _head(words: dict[str, Any]) -> str:
    entity = f", {words['entity']['type']} {words['entity']['id']}" if words["entity"] else ""
    again = f", generation {words['generation']}" if words["generation"] else ""
    closed = f", closed {instant(words['closed_at'])}" if words["closed_at"] else ""
    started = f"started {instant(words['started_at'])}"
    return plain(f"flow {words['id']} is {words['status']}: {words['policy']}{again}, {started}{closed}{entity}")


def _branches(words: dict[str, Any], explanation: Explanation) -> Sequence[tuple[str, Sequence[str]]]:
    counts = words["members"]
    failures = [
        f"step {one['index']} {one['status'].value} {shortened(one['error'] or '')}".rstrip()
        for one in words["failures"]
    ]
    if (unlisted := counts["fail"] + counts["cancelled"] - len(failures)) > 0:
        failures.append(f"and {unlisted} more")
    waiting = [plain(place) for place in explanation.members]
    if explanation.more:
        waiting.append(f"and {explanation.more} more")
    join = words["join"]
    told = join["status"] or ("held back" if words["status"] == "open" else "nothing of it is kept")
    return [
        (f"{counts['success']} of {words['total']} succeeded", ()),
        (f"{counts['fail']} failed" + (f", {counts['cancelled']} cancelled" if counts["cancelled"] else ""), failures),
        (f"{counts['missing']} missing", waiting),
        (plain(f"join {join['type']} on {join['queue']}: {told}"), [plain(text) for text in explanation.next]),
    ]
