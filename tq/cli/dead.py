"""`tq dead list|replay|purge`: tasks that failed for good."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from tq.app.handles.dead import DeadLetter

from .command import Common, command
from .cursor import read_pair, write_pair
from .opening import opened
from .options import After, Ids, Limit, Queue, Type
from .output import document, line, note, table
from .text import instant, shortened

__all__ = ["dead"]

dead = typer.Typer(
    name="dead", help="Look at tasks that failed for good, run them again, or let them go.", no_args_is_help=True
)

All = Annotated[bool, typer.Option("--all", help="Without any filter: all there are, up to --limit.")]


@dead.command("list")
@command()
async def list_dead(
    common: Common, *, queue: Queue = None, type: Type = None, limit: Limit = 50, after: After = None
) -> None:
    """List dead letters, newest first.

    --json prints {"dead": [...], "next": ...}; each has id, type, queue, status, error, at, attempt, generation,
    payload, stats, raw. `attempt` is the number of the last one, from 0; the table counts them. `raw` is text where a
    task's bytes could not be read as a task.
    """
    async with opened(common.url) as handler:
        pair = None if after is None else read_pair(after)
        store = handler.backend.store
        records = await store.list_records(dead=True, queue=queue, type=type, after=pair, limit=limit + 1)
    following = write_pair(records[limit - 1].at, records[limit - 1].task_id) if len(records) > limit else None
    found = [DeadLetter.of(record) for record in records[:limit]]
    if common.json:
        document({"dead": [_words(letter) for letter in found], "next": following})
        return
    table(
        ("ID", "STATUS", "TYPE", "QUEUE", "ATTEMPTS", "AT", "ERROR"),
        [
            (
                letter.task_id,
                letter.status,
                letter.type,
                letter.queue_id,
                letter.attempt + 1,
                instant(letter.at),
                shortened(letter.error),
            )
            for letter in found
        ],
        empty="no dead letters",
    )
    if following:
        note(f"more: --after '{following}'")


def _words(letter: DeadLetter) -> dict[str, object]:
    return {
        "id": letter.task_id,
        "type": letter.type,
        "queue": letter.queue_id,
        "status": letter.status,
        "error": letter.error,
        "at": letter.at,
        "attempt": letter.attempt,
        "generation": letter.generation,
        "payload": letter.payload,
        "stats": letter.stats,
        "raw": letter.raw,
    }


@dead.command("replay")
@command()
async def replay(
    common: Common, *, ids: Ids = None, queue: Queue = None, type: Type = None, all_: All = False, limit: Limit = 100
) -> None:
    """Run dead letters again: those named, or at most --limit of those that match.

    A replayed task never reopens its flow; `tq flow ID --redrive` does that. --json prints {"replayed": [ids]}.
    """
    _must_choose(ids, queue, type, all_)
    async with opened(common.url) as handler:
        done = await handler.dead.replay(ids or None, queue=queue, type=type, limit=limit)
    _tell(common, "replayed", done, ids)


@dead.command("purge")
@command()
async def purge(
    common: Common, *, ids: Ids = None, queue: Queue = None, type: Type = None, all_: All = False, limit: Limit = 100
) -> None:
    """Forget dead letters: those named, or at most --limit of those that match.

    --json prints {"purged": [ids]}.
    """
    _must_choose(ids, queue, type, all_)
    async with opened(common.url) as handler:
        done = await handler.dead.purge(ids or None, queue=queue, type=type, limit=limit)
    _tell(common, "purged", done, ids)


def _must_choose(ids: Sequence[str] | None, queue: str | None, type: str | None, all_: bool) -> None:  # noqa: FBT001 -- an option, passed on
    """Refuse what nobody can have meant: everything by giving nothing, or names and a filter that may disagree."""
    filtered = queue is not None or type is not None
    if sum([bool(ids), filtered, all_]) != 1:
        raise typer.BadParameter("give either ids, or --queue and --type, or --all")


def _tell(common: Common, what: str, done: Sequence[str], ids: Sequence[str] | None) -> None:
    if common.json:
        document({what: list(done)})
    else:
        for id in done:
            line(id)
        note(f"{len(done)} {what}")
    missed = [id for id in ids or () if id not in set(done)]
    if missed:
        note(f"no dead letter: {', '.join(missed)}")
        raise typer.Exit(1)
