"""Whatever is done to it, PostgreSQL answers as memory does."""

import pytest

from tests.adapters.histories import compare
from tq.testing import run_virtual
from tq_postgres import open_backend


@pytest.mark.parametrize("seed", range(12))
def test_a_history_leaves_both_the_same(seed: int, postgres_url: str) -> None:
    run_virtual(compare(lambda clock: open_backend(postgres_url, clock=clock), seed, 250))
