"""Play one case again, or worlds by their seeds, or everything, and write the report.

python -m tests.crash memory 'one task' die-after 7
python -m tests.crash seeds 1-500
python -m tests.crash report
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

from tests import servers
from tests.crash.matrix import Case, play
from tests.crash.report import FIRST_SEED, REPORT, SEEDS, Tally, play_seeds, render, strike_all, with_summary
from tests.house.tree import ROOT
from tq.testing import Fault, run_virtual

README = ROOT / "README.md"


def show(home: str, scenario: str, fault: str = Fault.BEFORE, number: str = "0") -> bool:
    """Play one case and tell call by call what happened."""
    with TemporaryDirectory() as folder:
        result = run_virtual(play(Case(home, scenario, Fault(fault), int(number)), Path(folder)))
    for place, name in enumerate(result.calls, start=1):
        print(f"{place:5} {name}{f'   <- {fault}' if place == result.case.number else ''}")
    print("\n".join(result.found) or "it is sound")
    return not result.found


def seeds(span: str) -> bool:
    """Play the worlds of these seeds: one, or first and last."""
    first, _, last = span.partition("-")
    worlds = play_seeds(range(int(first), int(last or first) + 1))
    wrong = [str(world) for world in worlds if world.found]
    deaths, faults = sum(world.deaths for world in worlds), sum(world.faults for world in worlds)
    print("\n".join(wrong))
    print(f"{len(worlds)} worlds, {deaths} deaths, {faults} faults: {len(wrong)} are not sound")
    return not wrong


def report(thinner: str = "1") -> bool:
    """Play everything, or one call in so many of it; write the report, and its summary into the README."""
    tally = Tally(strike_all(int(thinner)), play_seeds(range(FIRST_SEED, FIRST_SEED + SEEDS)), int(thinner))
    REPORT.write_text(render(tally), encoding="utf-8")
    README.write_text(with_summary(README.read_text(encoding="utf-8"), tally), encoding="utf-8")
    print("\n".join(tally.wrong) or f"{REPORT.name} is written: {tally.runs():,} runs, all sound")
    return not tally.wrong


def main(*words: str) -> int:
    logging.disable()  # what goes wrong is wanted, and logged a hundred thousand times
    with servers.redis() if words[0] in {"redis", "report"} else nullcontext("") as url:
        os.environ["TQ_TEST_REDIS_URL"] = url
        match words:
            case ("seeds", span):
                return not seeds(span)
            case ("report", *thinner):
                return not report(*thinner)
            case _:
                return not show(*words)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
