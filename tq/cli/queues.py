"""`tq queues`: how much is where, and which queues are paused."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated

import typer

from tq.app.handler import TaskHandler
from tq.app.handles.looking import custodies

from .command import Common, command
from .opening import opened
from .output import document, table

__all__ = ["queues"]

COUNTED = ("waiting", "delayed", "running", "held")


@command()
async def queues(
    common: Common,
    *,
    pause: Annotated[list[str] | None, typer.Option(help="Pause this queue first; may be repeated.")] = None,
    resume: Annotated[list[str] | None, typer.Option(help="Resume this queue first; may be repeated.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Take queues too of which nothing is known.")] = False,
) -> None:
    """List queues, pause and resume them.

    Listed are queues that hold tasks, are served by a live worker, or are paused. Of a paused queue no worker is
    handed anything until it is resumed; what runs goes on. One that is not listed is refused: it may be mistyped.

    --json prints {"queues": [...]}; each has queue, waiting, delayed, running, held, served, paused.
    """
    if both := sorted({*(pause or ())} & {*(resume or ())}):
        raise typer.BadParameter(f"pause or resume, not both: {', '.join(both)}")
    async with opened(common.url) as handler:
        if not force:
            known = {str(row["queue"]) for row in await _queues(handler)}
            _check_known([*(pause or ()), *(resume or ())], known)
        for name in pause or ():
            await handler.queue(name).pause()
        for name in resume or ():
            await handler.queue(name).resume()
        found = await _queues(handler)
    if common.json:
        document({"queues": found})
        return
    table(
        ("QUEUE", *(kind.upper() for kind in COUNTED), "SERVED", "STATE"),
        [
            (
                row["queue"],
                *(row[kind] for kind in COUNTED),
                "yes" if row["served"] else "no",
                "paused" if row["paused"] else "open",
            )
            for row in found
        ],
        empty="no queue holds anything",
    )


def _check_known(named: Sequence[str], known: Collection[str]) -> None:
    if unknown := [name for name in named if name not in known]:
        listed = ", ".join(sorted(known)) or "none"
        raise typer.BadParameter(
            f"nobody serves {', '.join(unknown)}, and nothing waits there; known are: {listed}; --force does it anyway"
        )


async def _queues(handler: TaskHandler) -> list[Mapping[str, object]]:
    counts: dict[str, dict[str, int]] = {}
    for part in custodies(handler.backend):
        for queue, kinds in (await part.counts()).items():
            row = counts.setdefault(queue, dict.fromkeys(COUNTED, 0))
            for kind, count in kinds.items():
                row[kind] = row.get(kind, 0) + count
    served = set(await handler.backend.queue.announced())
    paused = set(await handler.backend.queue.paused())
    return [
        {
            "queue": name,
            **counts.get(name, dict.fromkeys(COUNTED, 0)),
            "served": name in served,
            "paused": name in paused,
        }
        for name in sorted({*counts, *served, *paused})
    ]
