"""Rooms see only what is below them, and each file is one idea, read at one sitting."""

import ast
import subprocess
import sys
from pathlib import Path

from tests.house.tree import ROOT, modules

LONGEST = 400
LONGER: dict[str, str] = {}
"""Files that may be longer than LONGEST lines, each with its reason."""


def test_rooms_see_only_what_is_below_them() -> None:
    lint_imports = Path(sys.executable).with_name("lint-imports")
    seen = subprocess.run(
        [lint_imports, "--no-logo", "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert seen.returncode == 0, seen.stdout + seen.stderr


def test_files_are_read_at_one_sitting() -> None:
    lines = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in modules()}
    too_long = {name: count for name, count in lines.items() if count > LONGEST and name not in LONGER}
    assert not too_long, f"one idea per file, at most {LONGEST} lines: {too_long}"


def test_reasons_for_long_files_are_still_needed() -> None:
    short = [name for name in LONGER if len((ROOT / name).read_text(encoding="utf-8").splitlines()) <= LONGEST]
    assert not short, f"these are short enough now, take them out of LONGER: {short}"


def test_every_module_says_what_it_is_for() -> None:
    silent = [str(path) for path in modules() if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))]
    assert not silent, f"a module opens with one sentence: {silent}"


def test_every_room_has_a_door() -> None:
    folders = {path.parent for path in modules() if path.parent.name != "adapters"}
    doorless = sorted(str(folder.relative_to(ROOT)) for folder in folders if not (folder / "__init__.py").is_file())
    assert not doorless, f"a room opens with __init__.py, which says what the room is for: {doorless}"


def test_the_shelf_is_no_package() -> None:
    """`adapters` is another project's name; what stands on the shelf is imported by its own name."""
    assert not (ROOT / "adapters" / "__init__.py").exists()
