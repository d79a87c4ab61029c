"""How far a run is: a bar where somebody looks on, now and then a line where the output goes to a file."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tq.app.handles.flow import FlowStatus

__all__ = ["showing_progress"]

LINE_EVERY = 2.0

Seen = Callable[[FlowStatus], None]


@contextmanager
def showing_progress(console: Console | None) -> Generator[Seen]:
    """Give a function that shows how far a flow is; without a console it shows nothing."""
    if console is None:
        yield lambda _: None
    elif console.is_terminal:
        with _bar(console) as bar:
            yield _on(bar)
    else:
        yield _lines(console)


def _bar(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console)


def _on(bar: Progress) -> Seen:
    task = bar.add_task("files", total=None)

    def seen(status: FlowStatus) -> None:
        failed = f"files, {status.failed} failed" if status.failed else "files"
        bar.update(task, description=failed, total=status.total, completed=status.succeeded + status.failed)

    return seen


def _lines(console: Console) -> Seen:
    last: tuple[float, int] = (time.monotonic(), -1)

    def seen(status: FlowStatus) -> None:
        nonlocal last
        done, now = status.succeeded + status.failed, time.monotonic()
        if done == last[1] or (now - last[0] < LINE_EVERY and done < status.total):
            return
        last = now, done
        console.print(f"{done:,} of {status.total:,} files", highlight=False)

    return seen
