"""Would the suite notice? Break the library in every way that `mutants.py` knows, and see which tests fail.

`make mutations` prints a line for each mutant and ends with 1 when one survives, or does not apply any more; words
given along choose mutants by name. Each is made in a copy of the tree, so that nothing here is ever broken.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from queue import SimpleQueue

from tests.house.mutants import MUTANTS, Mutant
from tests.house.tree import ROOT

__all__ = ["broken"]

COPIED = ("tq", "adapters", "tests", "pyproject.toml")
HANGS = 120.0
"""Seconds after which a mutant counts as noticed: its tests go on for ever."""
FAILED = re.compile(r"^FAILED \S*?::(\S+)", re.MULTILINE)
ENOUGH = 110
"""Characters of a test's name that are shown."""


class Fate(StrEnum):
    """What became of a mutant."""

    KILLED = "killed"
    HUNG = "hung"
    SKIPPED = "skipped"
    """The server that its tests need is not here."""
    SURVIVED = "SURVIVED"
    USELESS = "USELESS"
    """Its tests could not even be collected, or it does not apply: it says nothing about the suite."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One mutant's fate, and by what it was sealed."""

    mutant: Mutant
    fate: Fate
    by: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.fate:9}{self.seconds:5.1f} s  {self.mutant.name}\n{'':18}{self.by[:ENOUGH]}"


def broken(mutant: Mutant, text: str) -> str:
    """Return the source with the mutant's fault.

    Raises:
        ValueError: a text that it replaces does not stand there just once.
    """
    for old, new in mutant.edits:
        if (found := text.count(old)) != 1:
            raise ValueError(f"{mutant.name}: {old!r} stands {found} times in {mutant.file}")
        text = text.replace(old, new)
    return text


class Copy:
    """A copy of the tree in which one mutant at a time lives."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._changes = 0
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, folder / name)
            else:
                shutil.copy2(ROOT / name, folder / name)

    @contextmanager
    def living(self, mutant: Mutant) -> Generator[None]:
        """Let the mutant live for as long as it is looked at."""
        path = self.folder / mutant.file
        healthy = path.read_text(encoding="utf-8")
        self._write(path, broken(mutant, healthy))
        try:
            yield
        finally:
            self._write(path, healthy)

    def _write(self, path: Path, text: str) -> None:
        path.write_text(text, encoding="utf-8")
        # Compiled modules are told apart by whole seconds and size: a second write within one would not be seen.
        self._changes += 1
        os.utime(path, (self._changes, self._changes))

    def run(self, tests: Sequence[str], patience: float = HANGS) -> tuple[int | None, str]:
        """Run tests until one fails; return the exit code, None where it took too long, and what was printed."""
        paths = os.pathsep.join([str(self.folder), str(self.folder / "adapters")])
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--no-header", *tests]
        environment = {**os.environ, "PYTHONPATH": paths, "COLUMNS": "500"}
        with tempfile.TemporaryFile("w+") as printed:
            process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=printed, stderr=subprocess.STDOUT, text=True
            )
            try:
                code = process.wait(patience)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                code = None
            printed.seek(0)
            return code, printed.read()


def look(copy: Copy, mutant: Mutant) -> Seen:
    """Let a mutant live, and see what its tests say."""
    began = time.perf_counter()
    try:
        with copy.living(mutant):
            code, printed = copy.run(mutant.tests)
    except (ValueError, OSError) as error:
        return Seen(mutant, Fate.USELESS, str(error), 0.0)
    taken = time.perf_counter() - began
    match code:
        case None:
            return Seen(mutant, Fate.HUNG, ", ".join(mutant.tests), taken)
        case 0 if " passed" not in printed:
            return Seen(mutant, Fate.SKIPPED, printed.strip().rpartition("\n")[2], taken)
        case 0:
            return Seen(mutant, Fate.SURVIVED, ", ".join(mutant.tests), taken)
        case 1 if (failed := FAILED.search(printed)) is not None:
            return Seen(mutant, Fate.KILLED, failed[1], taken)
        case _:
            return Seen(mutant, Fate.USELESS, printed.strip().rpartition("\n")[2], taken)


def main(words: Sequence[str]) -> int:
    mutants = [it for it in MUTANTS if not words or any(word in it.name for word in words)]
    width = os.cpu_count() or 1
    with tempfile.TemporaryDirectory(prefix="tq-mutants-") as place, ThreadPoolExecutor(width) as threads:
        copies: SimpleQueue[Copy] = SimpleQueue()
        for number in range(width):
            copies.put(Copy(Path(place) / f"{number}"))

        def one(mutant: Mutant) -> Seen:
            copy = copies.get()
            try:
                return look(copy, mutant)
            finally:
                copies.put(copy)

        first = copies.get()
        code, printed = first.run(sorted({test for mutant in mutants for test in mutant.tests}), 10 * HANGS)
        copies.put(first)
        if code != 0:
            print(printed, "\nthese tests fail without any mutant", file=sys.stderr)
            return 1
        found: list[Seen] = []
        for seen in threads.map(one, mutants):
            found.append(seen)
            print(seen, flush=True)
    bad = [seen for seen in found if seen.fate in (Fate.SURVIVED, Fate.USELESS)]
    noticed = [seen for seen in found if seen.fate in (Fate.KILLED, Fate.HUNG)]
    print(f"{len(noticed)} of {len(found)} mutants are noticed")
    return 1 if bad or not found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
