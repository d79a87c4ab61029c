"""The commands of `tq`, by name."""

from __future__ import annotations

import os

import typer

from .command import DEFAULT_URL, Common, Debug, Json, Url
from .dead import dead
from .demo.command import demo
from .flow import flow
from .flows import flows
from .kinesis import kinesis
from .queues import queues
from .tasks import tasks
from .worker.command import worker

__all__ = ["program"]

program = typer.Typer(
    name="tq",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help starts in half the time
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@program.callback()
def root(ctx: typer.Context, *, url: Url = None, json: Json = False, debug: Debug = False) -> None:
    """Tasks, flows and workers of tq.

    Environment: TQ_URL stands for --url, TQ_DEBUG=1 for --debug. Errors are one line on standard error; the exit code
    is 1, and 2 for a command that was mistyped.
    """
    debug = debug or os.environ.get("TQ_DEBUG", "") not in ("", "0")
    ctx.obj = Common(url or os.environ.get("TQ_URL") or DEFAULT_URL, json, debug, url is not None)


program.command("demo")(demo)
program.command("tasks")(tasks)
program.command("flows")(flows)
program.command("flow")(flow)
program.command("queues")(queues)
program.add_typer(dead)
program.add_typer(kinesis)
program.command("worker")(worker)
