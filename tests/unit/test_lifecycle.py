"""How asyncio tasks are begun at once: by whatever Python there is, and whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from contextvars import copy_context

from tq.lifecycle import Spawner


async def from_the_loop(call: Callable[[], object]) -> None:
    """Call it as the event loop calls its callbacks: from no task."""
    called: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def back() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 -- told to whoever waits
            called.set_exception(error)
        else:
            called.set_result(None)

    asyncio.get_running_loop().call_soon(back)
    await called


async def test_what_never_waits_has_ended_when_begin_returns() -> None:
    spawner, done = Spawner(), list[asyncio.Task[object] | None]()

    async def work() -> None:
        done.append(asyncio.current_task())

    def begin() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(3):
            assert spawner.begin(work(), loop, copy_context()) is None
        assert len(done) == 3
        assert None not in done
        assert len({id(one) for one in done}) == 3

    await from_the_loop(begin)
    assert len(spawner) == 0


async def test_what_waits_goes_on_in_the_task_in_which_it_began() -> None:
    spawner, free = Spawner(), asyncio.Event()
    seen, begun = list[asyncio.Task[object] | None](), list[asyncio.Task[None] | None]()

    async def work() -> None:
        seen.append(asyncio.current_task())
        async with asyncio.timeout(60):
            await free.wait()
        seen.append(asyncio.current_task())

    loop = asyncio.get_running_loop()
    await from_the_loop(lambda: begun.append(spawner.begin(work(), loop, copy_context())))
    assert (len(seen), len(spawner)) == (1, 1)
    assert begun == seen
    free.set()
    while len(spawner):  # noqa: ASYNC110 -- it is the spawner's own count that is looked at
        await asyncio.sleep(0)
    assert seen[0] is seen[1] is not None


async def test_what_others_ask_of_the_loop_while_a_task_is_made_is_not_lost() -> None:
    """A finalizer may run at any allocation, and may call on the loop."""
    loop, spawner, asked, ran = asyncio.get_running_loop(), Spawner(), list[int](), list[int]()

    class Finalized:
        def __init__(self) -> None:
            self.itself = self  # a circle: only the garbage collector ends it

        def __del__(self) -> None:
            loop.call_soon(asked.append, 1)

    async def work() -> None:
        ran.append(1)

    def begin() -> None:
        gc.collect()
        before = gc.get_threshold()
        gc.set_threshold(1)  # collect at every allocation, the one of the task included
        try:
            for _ in range(50):
                Finalized()
                spawner.begin(work(), loop, copy_context())
        finally:
            gc.set_threshold(*before)
        gc.collect()

    await from_the_loop(begin)
    await asyncio.sleep(0)
    assert (len(asked), len(ran)) == (50, 50)


async def test_the_loop_is_as_it_was_once_a_task_is_made() -> None:
    loop, spawner = asyncio.get_running_loop(), Spawner()

    async def work() -> None:
        loop.call_soon(order.append, "later")
        order.append("now")

    order = list[str]()
    await from_the_loop(lambda: spawner.begin(work(), loop, copy_context()))
    await asyncio.sleep(0)
    assert order == ["now", "later"]
    assert "call_soon" not in vars(loop)
