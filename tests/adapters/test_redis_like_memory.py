"""Whatever is done to it, Redis answers as memory does."""

import pytest

from tests.adapters.histories import compare
from tq.testing import run_virtual
from tq_redis import open_backend


@pytest.mark.parametrize("seed", range(12))
def test_a_history_leaves_both_the_same(seed: int, redis_url: str) -> None:
    run_virtual(compare(lambda clock: open_backend(redis_url, clock=clock), seed, 250))
