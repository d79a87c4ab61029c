"""Every mutant still applies, and its tests are there; whether they notice it is what `make mutations` tells."""

import subprocess
import sys

import pytest

from tests.house.mutants import MUTANTS, Mutant
from tests.house.mutations import broken
from tests.house.tree import ROOT


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda it: it.name)
def test_a_mutant_applies_and_compiles(mutant: Mutant) -> None:
    text = broken(mutant, (ROOT / mutant.file).read_text(encoding="utf-8"))
    if mutant.file.endswith(".py"):
        compile(text, mutant.file, "exec")


def test_the_tests_that_are_to_notice_mutants_are_there() -> None:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    asked = sorted({test for mutant in MUTANTS for test in mutant.tests})
    collected = subprocess.run([*command, *asked], cwd=ROOT, capture_output=True, text=True, check=False)
    assert collected.returncode == 0, collected.stdout


def test_mutants_have_names_of_their_own() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


def test_a_text_that_stands_twice_is_no_mutant() -> None:
    mutant = Mutant("twice", "x.py", edits=(("a", "b"),), tests=("t",))
    assert broken(mutant, "cat") == "cbt"
    with pytest.raises(ValueError, match="2 times"):
        broken(mutant, "papa")
