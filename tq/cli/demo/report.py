"""The join's work: from one entry per file to `report.json`, the same bytes whatever happened on the way."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["FailedFile", "build_report", "partial", "write_report"]

LARGEST = 10


class FailedFile(NamedTuple):
    """A file that was not measured."""

    path: str
    error: str


def build_report(
    files: Sequence[Mapping[str, Any]], failed: Sequence[FailedFile], meta: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the report. Everything is sorted; what differs from run to run stands in `meta` and nowhere else."""
    by_path = sorted(files, key=lambda file: file["path"])
    largest = sorted(by_path, key=lambda file: (-file["size"], file["path"]))
    longest = min(by_path, key=lambda file: (-file["longest_line"], file["path"]), default=None)
    return {
        "totals": {
            "files": len(files) + len(failed),
            "measured": len(files),
            "failed": len(failed),
            "bytes": sum(file["size"] for file in files),
            "lines": sum(file["lines"] for file in files),
            "words": sum(file["words"] for file in files),
            "longest_line": longest and {"path": longest["path"], "characters": longest["longest_line"]},
        },
        "largest": [{"path": file["path"], "size": file["size"]} for file in largest[:LARGEST]],
        "duplicates": _duplicates(by_path),
        "failed": [failure._asdict() for failure in sorted(failed)],
        "files": [dict(file) for file in by_path],
        "meta": dict(meta),
    }


def _duplicates(by_path: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return groups of files with the same content, those that waste most first."""
    same: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for file in by_path:
        same[file["sha256"]].append(file)
    groups = [
        {"sha256": digest, "size": group[0]["size"], "paths": [file["path"] for file in group]}
        for digest, group in same.items()
        if len(group) > 1
    ]
    return sorted(groups, key=lambda group: (-group["size"] * (len(group["paths"]) - 1), group["paths"]))


def partial(path: Path) -> Path:
    """Return where a report is written before it gets its name: one fixed name, so that a kill leaves one file."""
    return path.with_name(f".{path.name}.partial")


def write_report(report: Mapping[str, Any], path: Path) -> None:
    """Write the report whole or not at all: readers, and a power failure, never meet half of one."""
    written = partial(path)
    with written.open("w", encoding="utf-8") as file:
        json.dump(report, file, indent=2, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    written.replace(path)
    if hasattr(os, "O_DIRECTORY"):  # where there is none, a folder cannot be synchronised
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
