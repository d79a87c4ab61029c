"""`tq flows`: every flow that is remembered."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tq.flow import about
from tq.flow.close import barrier_of
from tq.model import FlowState

from .command import Common, command
from .cursor import read_pair, write_pair
from .opening import opened
from .options import After, Limit
from .output import document, note, table
from .text import instant, moment

__all__ = ["flow_words", "flows"]


@command()
async def flows(
    common: Common,
    *,
    active: Annotated[
        bool | None, typer.Option("--open/--closed", help="Only flows that are open, or closed.", show_default=False)
    ] = None,
    limit: Limit = 50,
    after: After = None,
) -> None:
    """List flows, newest first.

    --json prints {"flows": [...], "next": ...}. Each has id, status (open, completed, aborted, timed_out, cancelled),
    total, succeeded, failed, missing, generation, policy, reason, started_at, deadline, closed_at, join, entity.
    """
    async with opened(common.url) as handler:
        pair = None if after is None else read_pair(after)
        found = await barrier_of(handler.backend).list(active=active, after=pair, limit=limit + 1)
    following = write_pair(found[limit - 1].flow.started_at, found[limit - 1].id) if len(found) > limit else None
    rows = [flow_words(state) for state in found[:limit]]
    if common.json:
        document({"flows": rows, "next": following})
        return
    table(
        ("ID", "STATUS", "SUCCEEDED", "FAILED", "MISSING", "TOTAL", "POLICY", "STARTED", "ENTITY"),
        [
            (
                row["id"],
                row["status"],
                row["succeeded"],
                row["failed"],
                row["missing"],
                row["total"],
                row["policy"],
                instant(row["started_at"]),
                " ".join(row["entity"].values()) if row["entity"] else "",
            )
            for row in rows
        ],
        empty="no such flows",
    )
    if following:
        note(f"more: --after '{following}'")


def flow_words(state: FlowState) -> dict[str, Any]:
    """Return a flow as programs are told of it."""
    told = about(state.flow)
    return {
        "id": state.id,
        "status": state.verdict.value if state.verdict is not None else "open",
        "total": state.flow.total,
        "succeeded": state.succeeded,
        "failed": state.failed,
        "missing": state.remaining,
        "generation": state.flow.generation,
        "policy": told.policy,
        "reason": state.reason,
        "started_at": moment(state.flow.started_at),
        "deadline": moment(state.flow.deadline),
        "closed_at": moment(state.closed_at),
        "join": {"id": state.flow.join.id, "type": state.flow.join.type, "queue": state.flow.join.queue},
        "entity": {"type": told.entity.type, "id": told.entity.id} if told.entity is not None else None,
    }
