"""What is kept of a task that has ended, as what, and for how long."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from tq import TaskQueuesManager
from tq.errors import ResultNotKeptError
from tq.testing import VirtualClock
from tq.testing.harness import harness


class Thumbnail(BaseModel):
    url: str
    width: int


async def test_a_returned_value_is_written_as_its_declared_type(url: str, clock: VirtualClock) -> None:
    executors = TaskQueuesManager()

    @executors.task("resize")
    async def resize(payload: int) -> Thumbnail:
        return Thumbnail(url=f"/{payload}", width=payload)

    @executors.task("maybe")
    async def maybe(payload: None) -> Thumbnail | None:
        return None

    @executors.task("lying")
    async def lying(payload: None) -> Thumbnail:
        return "no thumbnail"  # type: ignore[return-value]

    async with harness(executors, url=url, clock=clock) as h:
        first, second, third = await h.run(resize.task(64), maybe.task(None), lying.task(None))
        assert await h.handler.task(first).result() == {"url": "/64", "width": 64}
        assert await h.handler.task(second).result() is None
        assert await h.handler.task(third).result() == "no thumbnail"


async def test_results_are_kept_as_long_as_was_asked_for(url: str, clock: VirtualClock) -> None:
    executors = TaskQueuesManager()

    @executors.task("a day")
    async def a_day(payload: None) -> int:
        return 1

    @executors.task("a minute", result_ttl=60)
    async def a_minute(payload: None) -> int:
        return 2

    @executors.task("never", result_ttl=None)
    async def never(payload: None) -> int:
        return 3

    @executors.task("nothing")
    async def nothing(payload: None) -> None: ...

    async with harness(executors, url=url, clock=clock) as h:
        day, minute, none, silent = await h.run(*[made.task(None) for made in (a_day, a_minute, never, nothing)])
        for task_id in (none, silent):
            with pytest.raises(ResultNotKeptError, match="result_ttl"):
                await h.handler.task(task_id).result()
        assert await h.handler.task(minute).result() == 2
        await h.later(121)
        with pytest.raises(ResultNotKeptError):
            await h.handler.task(minute).result()
        await h.later(86_000)
        assert await h.handler.task(day).result() == 1
        await h.later(600)
        with pytest.raises(ResultNotKeptError):
            await h.handler.task(day).result()


@pytest.mark.spec("STO-10", "POL-07")
async def test_a_dead_letter_is_kept_for_thirty_days_unless_it_is_not_wanted(url: str, clock: VirtualClock) -> None:
    executors = TaskQueuesManager()

    @executors.task("kept")
    async def kept(payload: None) -> None:
        raise ValueError("no")

    @executors.task("dropped", store_on_failure=False)
    async def dropped(payload: None) -> None:
        raise ValueError("no")

    async with harness(executors, url=url, clock=clock) as h:
        letter, nothing = await h.run(kept.task(None), dropped.task(None))
        assert [dead.task_id for dead in await h.handler.dead.list()] == [letter]
        assert await h.handler.task(nothing).record() is None
        await h.later(30 * 86_400 - 10)
        assert [dead.task_id for dead in await h.handler.dead.list()] == [letter]
        await h.later(130)
        assert await h.handler.dead.list() == [], "retention runs by itself"
