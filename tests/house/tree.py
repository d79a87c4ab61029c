"""Where things are: the files that the tests of the house look at."""

import os
import subprocess
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

PUBLIC = (
    "tq",
    "tq.clock",
    "tq.errors",
    "tq.ids",
    "tq.memory",
    "tq.model",
    "tq.ports",
    "tq.testing",
    "tq_kinesis",
    "tq_mongo",
    "tq_postgres",
    "tq_redis",
    "tq_sqlite",
)
"""The modules whose names are a promise to users."""


def adapters() -> list[str]:
    """Return the names of the packages on the shelf."""
    return sorted(path.parent.name for path in (ROOT / "adapters").glob("*/__init__.py"))


def modules() -> list[Path]:
    """Return every module that users install."""
    return sorted(path for shelf in ("tq", "adapters") for path in (ROOT / shelf).rglob("*.py"))


def pyproject() -> dict[str, Any]:
    """Return the project file, parsed."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def versioned_files() -> list[Path]:
    """Return the files under version control that exist; none outside a checkout (an unpacked sdist)."""
    if not (ROOT / ".git").exists():
        return []
    # In CI the checkout may belong to somebody else, which git refuses to read unless it is told that this is meant.
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"]
    # A git hook sets GIT_* to its own repository and index; the question here is about this tree.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    listed = subprocess.run(command, cwd=ROOT, env=clean, check=True, capture_output=True, text=True).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]
