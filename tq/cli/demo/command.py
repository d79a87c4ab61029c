"""`tq demo` as a command: its options, and what it says."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from tq.app.handles.flow import FlowStatus
from tq.cli.command import Common, command
from tq.cli.output import console, document, fail, line
from tq.cli.text import plain

from .drive import Driven, drive
from .files import own_sources
from .runs import Begun, Run
from .settings import DemoSettings
from .summary import summary_lines

__all__ = ["demo"]

INTERRUPTED = 130
"""What a shell expects of a program that Ctrl-C ended."""


@command(url=False)
def demo(
    common: Common,
    *,
    folder: Annotated[
        Path | None,
        typer.Argument(help="The folder to measure; tq's own sources if none is given.", show_default=False),
    ] = None,
    database: Annotated[Path, typer.Option(help="The SQLite file that keeps every run.")] = Path("tq-demo.db"),
    report: Annotated[Path, typer.Option(help="Where the join writes its report.")] = Path("report.json"),
    slow: Annotated[float, typer.Option(min=0.0, help="Seconds to sleep in each step: time enough to kill it.")] = 0.0,
    everything: Annotated[
        bool, typer.Option("--everything", help="Look into hidden folders, __pycache__ and node_modules, too.")
    ] = False,
    concurrency: Annotated[int, typer.Option(min=1, help="Files at a time.")] = 16,
) -> None:
    """Measure every file of a folder as one flow, and survive kill -9.

    One step per file (size, lines, words, SHA-256, longest line), then a join that writes the report. Kill it at any
    instant and give the same command again: it goes on where it was, and the report is the same. Once a run has ended,
    the next call begins a new one.

    --json prints the report without its list of files: totals, largest, duplicates, failed, meta.
    """
    settings = DemoSettings(
        folder=_folder(folder),
        database=Path(os.path.abspath(database)),  # noqa: PTH100 -- a link that is the database keeps its name
        report=_report(report),
        slow=slow,
        everything=everything,
        concurrency=concurrency,
    )
    driven = _drive(settings, quiet=common.json)
    if not driven.ended:
        done = driven.status.succeeded + driven.status.failed
        fail(
            f"stopped after {done:,} of {driven.status.total:,} files; the same command goes on from here", INTERRUPTED
        )
    if driven.error is not None:
        fail(f"the report could not be written: {plain(driven.error)}; the same command tries again")
    _tell(settings, driven, as_json=common.json)


def _drive(settings: DemoSettings, *, quiet: bool) -> Driven:
    from .progress import showing_progress  # noqa: PLC0415 -- loads rich, which `tq --help` need not wait for

    def begun(run: Run, status: FlowStatus) -> None:
        if not quiet:
            line(_greeting(settings, run, status), now=True)

    with showing_progress(None if quiet else console()) as seen:
        return asyncio.run(drive(settings, begun=begun, seen=seen))


def _greeting(settings: DemoSettings, run: Run, status: FlowStatus) -> str:
    name, folder = f"run {run.number}", plain(settings.folder)
    done = status.succeeded + status.failed
    match run.begun:
        case Begun.RESUMED:
            return f"Resuming {name} over {folder}: {done:,} of {status.total:,} files are done."
        case Begun.REPORT_ONLY:
            return f"Resuming {name} over {folder}: all files are done, its report is still to be written."
        case Begun.AGAIN:
            return f"Run {run.number - 1} has ended; beginning {name} over {folder}: {status.total:,} files."
        case Begun.FIRST:
            return f"Beginning {name} over {folder}: {status.total:,} files."


def _tell(settings: DemoSettings, driven: Driven, *, as_json: bool) -> None:
    try:
        report: dict[str, Any] = json.loads(settings.report.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        fail(f"run {driven.run.number} has ended, but its report cannot be read: {error}")
    if as_json:
        document({name: value for name, value in report.items() if name != "files"})
        return
    for text in summary_lines(report):
        line(text)
    line("")
    line(f"Report: {plain(settings.report)}")
    line(f"Look inside: tq flow {driven.run.flow} --url {settings.url}")


def _folder(given: Path | None) -> Path:
    folder = (own_sources() if given is None else given).resolve()
    if not folder.is_dir():
        _refuse("FOLDER", f"{plain(folder)} is not a folder")
    try:
        os.fspath(folder).encode()
        next(folder.iterdir(), None)
    except UnicodeEncodeError:
        _refuse("FOLDER", f"the name of {plain(folder)} is not UTF-8")
    except OSError as error:
        _refuse("FOLDER", f"{plain(folder)} cannot be listed: {error.strerror}")
    return folder


def _report(given: Path) -> Path:
    report = given.resolve()
    if report.is_dir() or not report.parent.is_dir():
        _refuse("--report", f"give a file in a folder that exists, not {plain(report)}")
    return report


def _refuse(hint: str, message: str) -> NoReturn:
    raise typer.BadParameter(message, param_hint=hint)
