"""Play one case again, or worlds by their seeds; fire at workers with more to do; or play all, and write the report.

python -m tests.crash memory 'one task' die-after 7
python -m tests.crash seeds 1-500
python -m tests.crash fire redis 50000 500
python -m tests.crash report
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import sys
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

from tests import servers
from tests.crash.matrix import Case, play
from tests.crash.report import FIRST_SEED, REPORT, SEEDS, Tally, play_seeds, render, strike_all, with_summary
from tests.crash.run import Load, under_fire
from tests.crash.targets import TARGETS
from tests.house.tree import ROOT
from tq.testing import Fault, run_virtual

README = ROOT / "README.md"
SHOWN = 20
"""Faults that are told of: of one fault there may be hundreds."""


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


def fire(target: str, tasks: str = "50000", flows: str = "500", shots: str = "100") -> bool:
    """Fire at four workers that have so much to do: many times what the test of the same name has time for."""
    seed = int(os.environ.get("TQ_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
    print(f"TQ_SEED={seed}")
    load = Load(tasks=int(tasks), flows=int(flows), workers=4, shots=int(shots))
    with TemporaryDirectory() as folder, TARGETS[target](Path(folder)) as struck:
        found, happened = asyncio.run(under_fire(struck, Path(folder) / "notes", random.Random(seed), load))
    print("\n".join([f"{target}: {happened}", *found[:SHOWN]]))
    print(f"{len(found)} faults" if found else "every task has one ending, every join ran with every member once")
    return not found


def report(thinner: str = "1") -> bool:
    """Play everything, or one call in so many of it; write the report, and its summary into the README."""
    tally = Tally(strike_all(int(thinner)), play_seeds(range(FIRST_SEED, FIRST_SEED + SEEDS)), int(thinner))
    REPORT.write_text(render(tally), encoding="utf-8")
    README.write_text(with_summary(README.read_text(encoding="utf-8"), tally), encoding="utf-8")
    print("\n".join(tally.wrong) or f"{REPORT.name} is written: {tally.runs():,} runs, all sound")
    return not tally.wrong


def main(*words: str) -> int:
    logging.disable()  # what goes wrong is wanted, and logged a hundred thousand times
    with (
        servers.redis() if words[0] in {"redis", "report"} else nullcontext("") as redis,
        servers.mongo() if words[0] in {"mongo", "report"} else nullcontext("") as mongo,
    ):
        os.environ |= {"TQ_TEST_REDIS_URL": redis, "TQ_TEST_MONGO_URL": mongo}
        match words:
            case ("seeds", span):
                return not seeds(span)
            case ("fire", target, *numbers):
                return not fire(target, *numbers)
            case ("report", *thinner):
                return not report(*thinner)
            case _:
                return not show(*words)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
