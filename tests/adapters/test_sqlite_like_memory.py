"""Whatever is done to it, SQLite answers as memory does."""

import pytest

from tests.adapters.histories import compare
from tq.testing import run_virtual
from tq_sqlite import SqliteBackend, SqliteSettings


@pytest.mark.parametrize("seed", range(12))
def test_a_history_leaves_both_the_same(seed: int) -> None:
    run_virtual(compare(lambda clock: SqliteBackend(SqliteSettings(), clock), seed, 250))
