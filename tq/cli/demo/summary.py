"""What a reader is told of a report, in a few lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tq.cli.text import plain

__all__ = ["summary_lines"]

SHOWN = 10


def summary_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield totals, the ten largest files, duplicates, and what failed."""
    totals = report["totals"]
    yield (
        f"{totals['measured']:,} files measured, {totals['failed']:,} failed: {totals['lines']:,} lines, "
        f"{totals['words']:,} words, {totals['bytes']:,} bytes"
    )
    if longest := totals["longest_line"]:
        yield f"The longest line has {longest['characters']:,} characters: {plain(longest['path'])}"
    if report["largest"]:
        yield ""
        yield "Largest files:"
        width = len(f"{report['largest'][0]['size']:,}")
        for file in report["largest"]:
            yield f"  {file['size']:>{width},}  {plain(file['path'])}"
    if groups := report["duplicates"]:
        yield ""
        yield "The same content:"
        for group in groups[:SHOWN]:
            yield f"  {group['size']:,} bytes: {_some([plain(path) for path in group['paths']])}"
        yield from _more(len(groups), "groups")
    if failed := report["failed"]:
        yield ""
        yield "Failed:"
        for failure in failed[:SHOWN]:
            yield f"  {plain(failure['path'])}: {plain(failure['error'])}"
        yield from _more(len(failed), "files")


def _some(paths: list[str]) -> str:
    more = f" and {len(paths) - 4:,} more" if len(paths) > 4 else ""
    return ", ".join(paths[:4]) + more


def _more(count: int, what: str) -> Iterator[str]:
    if count > SHOWN:
        yield f"  and {count - SHOWN:,} more {what}; the report has them all"
