"""Every mutant still applies to the source; whether the suite notices it is what `make mutations` tells."""

import pytest

from tests.house.mutants import MUTANTS, Mutant
from tests.house.mutations import broken
from tests.house.tree import ROOT


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda it: it.name)
def test_a_mutant_applies_and_compiles(mutant: Mutant) -> None:
    text = broken(mutant, (ROOT / mutant.file).read_text(encoding="utf-8"))
    compile(text, mutant.file, "exec")


def test_mutants_have_names_of_their_own() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


def test_a_text_that_stands_twice_is_no_mutant() -> None:
    mutant = Mutant("twice", "x.py", edits=(("a", "b"),), tests=("t",))
    assert broken(mutant, "cat") == "cbt"
    with pytest.raises(ValueError, match="2 times"):
        broken(mutant, "papa")
