"""`tq worker` as a command."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from tq.cli.command import Common, command
from tq.cli.output import line
from tq.cli.text import plain

from .sources import Sources
from .supervisor import LINE, Supervisor
from .target import as_handler, load

__all__ = ["worker"]

LEAVE_WITHIN = 3.0
"""Seconds that a worker which has stopped waits for threads that others have begun."""


class Teller:
    """Says what happens to a worker: a line of text, or of JSON."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json

    def __call__(self, event: str, **values: object) -> None:
        if self._as_json:
            line(json.dumps({"event": event, **values}, ensure_ascii=False), now=True)
        else:
            line(" ".join([event, *(f"{name}={plain(_words(value))}" for name, value in values.items())]), now=True)


def _words(value: object) -> str:
    return ",".join(str(item) for item in value) if isinstance(value, list) else str(value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] -- anything may be told


@command()
def worker(
    common: Common,
    *,
    target: Annotated[str, typer.Argument(metavar="MODULE:OBJECT", help="What to run, such as shop.tasks:executors.")],
    queue: Annotated[list[str] | None, typer.Option(help="Serve only this queue; may be repeated.")] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="Tasks at a time, per process.")] = None,
    processes: Annotated[int, typer.Option(min=1, help="Worker processes; one that dies is restarted.")] = 1,
    reload: Annotated[
        bool, typer.Option("--reload", help="Restart when a .py file below this folder changes.")
    ] = False,
    log_level: Annotated[str, typer.Option(help="What is logged: debug, info, warning, error.")] = "info",
    supervised: Annotated[bool, typer.Option("--supervised", hidden=True)] = False,
) -> None:
    """Run tasks until SIGTERM or SIGINT, which drain; a second one ends at once.

    OBJECT is a TaskQueuesManager, which works on --url, or a TaskHandler, which has its own, or a function that
    returns one of them.

    --json prints JSON lines with the key event ("worker started", "worker stopped", "child started", "child ended",
    "reloading", "draining", "killing") and, by event: worker, pid, queues, code, changed, children.
    """
    level = logging.getLevelNamesMapping().get(log_level.upper())
    if level is None:
        raise typer.BadParameter("give debug, info, warning or error", param_hint="--log-level")
    tell = Teller(as_json=common.json)
    if processes > 1 or reload:
        sources = Sources(Path.cwd()) if reload else None
        raise typer.Exit(
            Supervisor(
                _child(common, target, queue, concurrency, log_level), processes, tell=tell, sources=sources
            ).run()
        )
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if supervised:
        threading.Thread(target=_end_with_parent, name="tq-parent", daemon=True).start()
    asyncio.run(_work(common, target, queue, concurrency, tell, supervised=supervised))


async def _work(
    common: Common,
    target: str,
    queues: list[str] | None,
    concurrency: int | None,
    tell: Teller,
    *,
    supervised: bool,
) -> None:
    url = common.url if common.url_given else None
    handler = await as_handler(
        load(target), target, url=url, default_url=common.url, queues=queues, concurrency=concurrency
    )
    async with handler:
        if supervised:
            with suppress(ConnectionError):  # the supervisor has died: this worker is about to drain
                os.write(LINE, f"{handler.longest_stop}\n".encode())
        tell(
            "worker started",
            worker=handler.worker_id,
            pid=os.getpid(),
            queues=queues or handler.executors.served_queues(),
        )
        await handler.run()
    tell("worker stopped", worker=handler.worker_id, pid=os.getpid())
    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        threading.Thread(target=_leave, name="tq-leave", daemon=True).start()


def _child(common: Common, target: str, queues: list[str] | None, concurrency: int | None, log_level: str) -> list[str]:
    """Return the command of a worker of one process that runs the same."""
    command = [sys.executable, "-m", "tq.cli", "worker", target, "--supervised", "--log-level", log_level]
    if common.url_given:
        command += ["--url", common.url]
    for name in queues or ():
        command += ["--queue", name]
    if concurrency is not None:
        command += ["--concurrency", str(concurrency)]
    return command + [flag for flag, given in (("--json", common.json), ("--debug", common.debug)) if given]


def _end_with_parent() -> None:
    """Drain when the line to the supervisor is cut, which it holds open for as long as it lives."""
    with suppress(ConnectionError):  # so it ends where the supervisor had not listened yet
        while os.read(LINE, 4096):  # not by sys.stdin: its lock would hold up the interpreter's end
            pass
    os.kill(os.getpid(), signal.SIGTERM)


def _leave() -> None:
    """End the process in a while, if it has not ended by itself: somebody's thread may never end, whatever it is told.

    The worker has stopped, and its tasks are given back: what goes on runs a second time elsewhere.
    """
    threading.Event().wait(LEAVE_WITHIN)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
