"""The public suites are put together from parts: no part may hide a test of another."""

import pytest

from tq.testing import contracts
from tq.testing.contracts import Suite

SUITES: list[type[Suite[object]]] = [getattr(contracts, name) for name in contracts.__all__ if name != "Suite"]


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.__name__)
def test_no_test_of_a_suite_hides_another(suite: type[Suite[object]]) -> None:
    homes: dict[str, list[str]] = {}
    for part in suite.__mro__:
        for name in vars(part):
            if name.startswith("test_"):
                homes.setdefault(name, []).append(part.__name__)
    assert not {name: parts for name, parts in homes.items() if len(parts) > 1}
    assert homes
