"""Workers are killed, frozen past their leases and stopped, their server is struck: nothing is lost or doubled."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.crash.run import Load, under_fire
from tests.crash.targets import TARGETS

pytestmark = [pytest.mark.crash, pytest.mark.realtime]

SHOWN = 20
"""Faults that are told of: of one fault there may be hundreds."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", TARGETS)
async def test_workers_that_die_lose_nothing_and_double_nothing(name: str, tmp_path: Path) -> None:
    seed = int(os.environ.get("TQ_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
    print(f"TQ_SEED={seed}")
    with TARGETS[name](tmp_path) as target:
        found, happened = await under_fire(target, tmp_path / "notes", random.Random(seed), Load())
    print(happened)
    assert not found, "\n  ".join([f"TQ_SEED={seed}: {len(found)} faults", *found[:SHOWN]])
