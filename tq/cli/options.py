"""Options that several commands share, so that each means the same everywhere."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["After", "Ids", "Limit", "Queue", "Type"]

Queue = Annotated[str | None, typer.Option("--queue", help="Only this queue.")]
Type = Annotated[str | None, typer.Option("--type", help="Only this type.")]
Limit = Annotated[int, typer.Option("--limit", min=1, help="At most so many.")]
After = Annotated[str | None, typer.Option("--after", help="Begin after this: what the page before named.")]
Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="The tasks, by id.", show_default=False)]
