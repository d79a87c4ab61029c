"""The command line `tq`: a thin face over `tq.app`, and the demo. Nothing here is known to a rule of its own.

main ─▶ program (the commands) ─▶ command (common options, errors) ─▶ tasks flows dead queues · worker · demo
                                  output, text (what people and programs read)
"""

import io
import sys
from importlib import import_module

__all__ = ["main"]


def main() -> None:
    """Run the command that was typed."""
    try:
        import_module("rich")  # some commands ask for it only when they have something to show
        from .program import program  # noqa: PLC0415 -- its absence is to be told in words
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich", "click"):
            raise
        print("tq: the command line needs typer and rich: pip install 'tq-tasks[cli]'", file=sys.stderr)
        raise SystemExit(1) from None
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files and tasks may hold what the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    program(prog_name="tq")
