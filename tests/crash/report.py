"""Writes `REPORT.md`: what was struck where, how often, and what came of it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from multiprocessing import Pool
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from tests.crash.homes import HOMES
from tests.crash.matrix import ONE_IN, strike
from tests.crash.scenarios import SCENARIOS
from tests.crash.simulation import World, simulate
from tq.testing import Fault

__all__ = ["FIRST_SEED", "REPORT", "SEEDS", "Tally", "play_seeds", "render", "strike_all", "with_summary"]

REPORT = Path(__file__).with_name("REPORT.md")
FIRST_SEED, SEEDS = 1, 2000
HEAD = "| Backend | | Calls struck | Runs | Violations |"
"""How the table begins that the README shows as well."""
WHERE = {
    "memory": "all in one process",
    "sqlite": "one file, opened by every process anew",
    "redis": "one server, to which every process connects anew",
    "mongo": "on the emulator; its commands are struck, several to a call",
    "servers": "queue, store, flows and rows on a server each",
    "stream": "the same; the queue cannot delay, and delivers again",
    "memory+sqlite": "the queue in memory, all else in a SQLite file",
}
NOT_PROMISED = """\
## What is not promised

- **Side effects of executors happen at least once.** A body whose process dies, whose lease runs out, or whose outcome
  is refused has run, and may run again. `task.idempotency_key` and `task.fence` are there for the systems it talks to.
- Members of a flow that was cancelled before they were spread never begin; the join is told `cancelled`.
- A call that never ends holds its worker, whose leases go on being renewed: an adapter ends its calls by a limit of
  its own. What hangs here comes back, later than a lease.
- What a server has acknowledged and then loses is lost to tq, too.
"""


class Struck(NamedTuple):
    """What came of one scenario under one fault."""

    home: str
    scenario: str
    fault: Fault
    verbs: Counter[str]
    """Runs, by the call that went wrong."""
    wrong: list[str]


@dataclass
class Tally:
    """Everything that was played."""

    struck: list[Struck] = field(default_factory=list[Struck])
    worlds: list[World] = field(default_factory=list[World])
    thinner: int = 1

    def runs(self, home: str = "", scenario: str = "", fault: str = "", verb: str = "") -> int:
        """Return how many runs there were; what is empty stands for all."""
        return sum(
            sum(n for name, n in it.verbs.items() if verb in {"", name})
            for it in self.struck
            if home in {"", it.home} and scenario in {"", it.scenario} and fault in {"", it.fault}
        )

    @property
    def wrong(self) -> list[str]:
        """What did not hold, as the commands that show it."""
        return [*(line for it in self.struck for line in it.wrong), *(str(it) for it in self.worlds if it.found)]


# --- playing ----------------------------------------------------------------------------------------------------------


def strike_all(thinner: int = 1) -> list[Struck]:
    """Play every scenario with every fault on every backend, on all cores; `thinner` strikes so many fewer calls."""
    jobs = [(home, scenario, fault, thinner) for home in HOMES for scenario in SCENARIOS for fault in Fault]
    with Pool(os.cpu_count()) as pool:
        struck = list[Struck]()
        for it in pool.imap(_strike, jobs):
            struck.append(it)
            print(f"{it.home}, {it.scenario}, {it.fault}: {sum(it.verbs.values())} runs", flush=True)
        return struck


def _strike(job: tuple[str, str, Fault, int]) -> Struck:
    home, scenario, fault, thinner = job
    with TemporaryDirectory() as folder:
        results = strike(home, scenario, fault, Path(folder), every=ONE_IN[home] * thinner)
    verbs = Counter(result.struck for result in results if result.struck)
    return Struck(home, scenario, fault, verbs, [str(result) for result in results if result.found])


def play_seeds(seeds: Iterable[int]) -> list[World]:
    """Play the worlds of these seeds, on all cores."""
    with Pool(os.cpu_count()) as pool:
        return pool.map(_simulate, seeds, chunksize=4)


def _simulate(seed: int) -> World:
    with TemporaryDirectory() as folder:
        return simulate(seed, Path(folder))


# --- writing ----------------------------------------------------------------------------------------------------------


def render(tally: Tally) -> str:
    """Return the report as text."""
    return "\n".join(
        [
            "# What was struck, and what held",
            "",
            "Written by `make crash-report`. A run plays one scenario to its end, and one call to a port goes wrong",
            "in one way; then `tq.testing.violations` compares what the ports tell with what the executors saw.",
            "",
            "## In short",
            "",
            *summary(tally),
            "",
            *_worlds(tally.worlds),
            "",
            *(["## What did not hold", "", *(f"- `{line}`" for line in tally.wrong), ""] if tally.wrong else []),
            NOT_PROMISED,
            *_by_scenario(tally),
            "",
            *_by_verb(tally),
            "",
        ]
    )


def summary(tally: Tally) -> list[str]:
    """Return the table that the README shows as well."""
    lines = [HEAD, "|---|---|---|---|---|"]
    for home in HOMES:
        wrong = sum(len(it.wrong) for it in tally.struck if it.home == home)
        one_in = ONE_IN[home] * tally.thinner
        each = "every one" if one_in == 1 else f"one in {one_in} by each fault"
        lines.append(f"| {home} | {WHERE[home]} | {each} | {tally.runs(home):,} | {wrong} |")
    return lines


def with_summary(page: str, tally: Tally) -> str:
    """Return a page whose table of this head is the one of this tally."""
    before, _, rest = page.partition(HEAD)
    after = rest[rest.index("\n\n") :]
    return before + "\n".join(summary(tally)) + after


def _worlds(worlds: list[World]) -> list[str]:
    if not worlds:
        return []
    seeds, wrong = [it.seed for it in worlds], sum(bool(it.found) for it in worlds)
    deaths, faults = sum(it.deaths for it in worlds), sum(it.faults for it in worlds)
    ran, joins = sum(it.executions for it in worlds), sum(it.joins for it in worlds)
    return [
        f"Simulated besides: the worlds of seeds {min(seeds)} to {max(seeds)}, with {deaths:,} deaths among {faults:,}",
        f"faults, {ran:,} executions and {joins:,} joins; violations in {wrong}.",
    ]


def _by_scenario(tally: Tally) -> list[str]:
    lines: list[str] = []
    for home in HOMES:
        lines += ["", f"## {home}: runs by scenario and fault", ""]
        lines += ["| | " + " | ".join(Fault) + " |", "|---" * (1 + len(Fault)) + "|"]
        for scenario in SCENARIOS:
            lines.append(f"| {scenario} | " + " | ".join(str(tally.runs(home, scenario, it)) for it in Fault) + " |")
    return lines


def _by_verb(tally: Tally) -> list[str]:
    verbs = sorted({verb for it in tally.struck for verb in it.verbs})
    lines = ["## Kill points: runs by the call that went wrong", ""]
    lines += ["| | " + " | ".join(HOMES) + " |", "|---" * (1 + len(HOMES)) + "|"]
    for verb in verbs:
        lines.append(f"| `{verb}` | " + " | ".join(str(tally.runs(home, verb=verb) or "") for home in HOMES) + " |")
    return lines
