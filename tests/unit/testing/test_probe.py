import asyncio
from typing import Any

import pytest

from tq.testing import Probe, Seen


async def test_next_waits_for_an_event_of_its_kind(probe: Probe) -> None:
    waiting = asyncio.create_task(probe.next(int))
    await asyncio.sleep(0)
    probe("a word")
    await asyncio.sleep(0)
    assert not waiting.done()
    probe(7)
    assert await waiting == 7


async def test_next_returns_each_event_once(probe: Probe) -> None:
    for event in (1, "one", 2):
        probe(event)
    assert [await probe.next(int), await probe.next(int), await probe.next(str)] == [1, 2, "one"]


async def test_a_probe_is_a_provider_of_callbacks(probe: Probe) -> None:
    told: Any = {"task_id": "a"}
    probe.on_task_completed(told)
    assert await probe.next("on_task_completed") == Seen("on_task_completed", ({"task_id": "a"},))
    assert probe.of("on_task_failed") == []
    assert not hasattr(probe, "emit")


async def test_what_never_comes_is_told_with_what_came() -> None:
    probe = Probe(patience=5)
    probe.on_start()
    with pytest.raises(AssertionError, match="on_start"):
        await probe.next("on_stop")
