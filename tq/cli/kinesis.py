"""`tq kinesis shards|checkpoint|reset`: who reads the shards of a stream, and from where."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated

import typer

from tq.app.handler import TaskHandler
from tq.clock import to_instant
from tq.errors import BackendUnavailableError, ConfigurationError, InvalidInputError
from tq.model import ShardLease
from tq.ports import ShardLeases

from .command import Common, command
from .opening import opened
from .output import document, line, note, table
from .text import shortened

__all__ = ["kinesis"]

kinesis = typer.Typer(
    name="kinesis",
    help="See who reads the shards of a stream, and from where; --url names the server that keeps the leases.",
    no_args_is_help=True,
)

TRIES = 10
"""How often a lease is changed anew that its owner has changed meanwhile."""

Stream = Annotated[str, typer.Argument(help="The name of the stream.", show_default=False)]
Shards = Annotated[list[str] | None, typer.Argument(metavar="[SHARD]...", show_default=False)]
Group = Annotated[str, typer.Option("--group", help="The workers that share the stream.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@kinesis.command("shards")
@command()
async def shards(common: Common, *, stream: Stream, group: Group = "tq") -> None:
    """List the shards of which somebody has begun to read, and who does.

    Everything up to the checkpoint has ended. CHANGES grows with every renewal: one that stands still for the length of
    a lease is free. --json prints {"shards": [...]}; each has shard, owner, checkpoint, changes, parents, note.
    """
    async with opened(common.url) as handler:
        rows = await _leases(handler).list(f"{group}:{stream}")
    if common.json:
        document({"shards": [_words(row) for row in rows]})
        return
    table(
        ("SHARD", "OWNER", "CHECKPOINT", "CHANGES", "AFTER", "NOTE"),
        [
            (row.shard, row.owner or "-", row.checkpoint, row.counter, " ".join(row.parents), shortened(row.note))
            for row in rows
        ],
        empty=f"nobody of group {group} has read {stream}",
    )


def _words(row: ShardLease) -> dict[str, object]:
    return {
        "shard": row.shard,
        "owner": row.owner or None,
        "checkpoint": row.checkpoint,
        "changes": row.counter,
        "parents": list(row.parents),
        "note": row.note or None,
    }


@kinesis.command("checkpoint")
@command()
async def checkpoint(
    common: Common,
    *,
    stream: Stream,
    shard: Annotated[str, typer.Argument(show_default=False)],
    place: Annotated[str, typer.Argument(show_default=False)],
    group: Group = "tq",
    yes: Yes = False,
) -> None:
    """Let a shard be read on from another place, and take it from its reader.

    The place is a sequence number, after which reading goes on; TRIM_HORIZON for the oldest record; SHARD_END for none
    any more; or an instant such as 2026-11-20T10:00:00Z. What stands before it is not run; what stands behind it, and
    has run, finds its outcome. --json prints {"shards": [...]} as `tq kinesis shards` does.
    """
    wanted = _place(place)
    await _change(common, stream, group, [shard], yes, f"{shard} is to be read on from {wanted}", _at(wanted))


def _at(place: str) -> Callable[[ShardLease], ShardLease]:
    return lambda row: row._replace(owner="", checkpoint=place, note="")


def _place(text: str) -> str:
    if text.isdigit() or text in {"TRIM_HORIZON", "SHARD_END"}:
        return text
    try:
        return f"AT_TIMESTAMP {to_instant('place', datetime.fromisoformat(text)):.3f}"
    except (InvalidInputError, ValueError) as error:
        way_out = "give a sequence number, TRIM_HORIZON, SHARD_END or an instant"
        raise typer.BadParameter(f"{text} is no place: {way_out}") from error


@kinesis.command("reset")
@command()
async def reset(common: Common, *, stream: Stream, named: Shards = None, group: Group = "tq", yes: Yes = False) -> None:
    """Take shards from their readers: those named, or all. Whoever comes first reads on from the checkpoint.

    What runs of them runs once more. --json prints {"shards": [...]} as `tq kinesis shards` does.
    """
    what = f"{', '.join(named) if named else 'every shard'} of {stream} is to be taken from its reader"
    await _change(common, stream, group, named, yes, what, lambda row: row._replace(owner=""))


async def _change(
    common: Common,
    stream: str,
    group: str,
    named: Sequence[str] | None,
    yes: bool,  # noqa: FBT001 -- an option, passed on
    what: str,
    change: Callable[[ShardLease], ShardLease],
) -> None:
    if not yes:
        typer.confirm(f"{what}. Go on?", abort=True, err=True)
    async with opened(common.url) as handler:
        leases, changed = _leases(handler), dict[str, ShardLease]()
        for _ in range(TRIES):
            rows = {row.shard: row for row in await leases.list(f"{group}:{stream}")}
            if unknown := [shard for shard in named or () if shard not in rows]:
                raise typer.BadParameter(f"nobody of group {group} has read {', '.join(unknown)} of {stream}")
            left = [row for shard, row in rows.items() if shard in (named or rows) and shard not in changed]
            answers = await leases.swap([(row, change(row)) for row in left])
            changed |= {row.shard: row for row in answers if row is not None}
            if len(changed) == len(named or rows):
                break
        else:
            raise BackendUnavailableError("other workers change these leases all the time; try again")
    if common.json:
        document({"shards": [_words(row) for row in changed.values()]})
    else:
        for shard in sorted(changed):
            line(shard)
        note(f"{len(changed)} changed")


def _leases(handler: TaskHandler) -> ShardLeases:
    found: ShardLeases | None = getattr(handler.backend, "shards", None)
    if found is None:
        raise ConfigurationError(
            f"{handler.backend.name} keeps no leases on shards: name the server that does by --url"
        )
    return found
