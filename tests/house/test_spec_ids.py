"""Every behaviour that tq owes is named by a test."""

from tests.house.spec_ids import behaviours, named, named_in, unnamed
from tests.house.tree import ROOT


def test_every_behaviour_is_named_by_a_test() -> None:
    missing = [f"{it.id} {it.title}" for it in unnamed()]
    assert not missing, f"{len(missing)} behaviours are named by no test"


def test_marks_name_behaviours_that_are_on_the_list() -> None:
    _, marks = named()
    assert not marks - set(behaviours()), "not in spec_ids.txt, or misspelt"


def test_a_retired_behaviour_names_an_rfc_that_exists() -> None:
    retired = {it.rfc for it in behaviours().values() if it.rfc is not None}
    assert not {rfc for rfc in retired if not list((ROOT / "rfcs").glob(f"{rfc}-*.md"))}


def test_ids_are_read_from_docstrings_and_marks_of_tests_only() -> None:
    source = '''
"""ABC-01"""
@pytest.mark.spec("ABC-02", "ABC-03")
class TestThem:
    """ABC-04"""
    async def test_one(self) -> None:
        """Says what ABC-05 asks for."""
def helper() -> None:
    """ABC-06"""
'''
    assert named_in(source) == ({"ABC-04", "ABC-05"}, {"ABC-02", "ABC-03"})
