"""Worlds of many seeds: workers die, servers are away, clocks differ, and in the end nothing is lost or doubled.

A seed that fails is printed as the command that plays it again.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.report import FIRST_SEED, SEEDS
from tests.crash.simulation import simulate

AT_ONCE = 25


def worlds(first: int, count: int, folder: Path) -> None:
    wrong = [str(world) for seed in range(first, first + count) if (world := simulate(seed, folder)).found]
    assert not wrong, "\n".join(wrong)


def test_a_few_worlds_come_to_rest_with_nothing_lost_and_nothing_doubled(tmp_path: Path) -> None:
    worlds(FIRST_SEED, 15, tmp_path)


def test_the_same_seed_is_the_same_world(tmp_path: Path) -> None:
    assert simulate(5, tmp_path) == simulate(5, tmp_path)


@pytest.mark.crash
@pytest.mark.simulated
@pytest.mark.timeout(300)
@pytest.mark.parametrize("first", range(FIRST_SEED, FIRST_SEED + SEEDS, AT_ONCE))
def test_every_world_comes_to_rest_with_nothing_lost_and_nothing_doubled(first: int, tmp_path: Path) -> None:
    worlds(first, AT_ONCE, tmp_path)
