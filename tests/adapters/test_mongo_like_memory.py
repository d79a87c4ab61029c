"""Whatever is done to it, MongoDB answers as memory does."""

import pytest

from tests.adapters.histories import compare
from tq.testing import run_virtual
from tq_mongo import open_backend


@pytest.mark.parametrize("seed", range(8))
def test_a_history_leaves_both_the_same(seed: int, mongo_url: str) -> None:
    run_virtual(compare(lambda clock: open_backend(mongo_url, clock=clock), seed, 80))
