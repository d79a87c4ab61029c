"""Tasks and running bodies for the tests of the manager."""

import asyncio
from typing import Any

from tq.model import Task


def a_task(id: str = "t-1", type: str = "video.transcode") -> Task[Any]:
    return Task(type=type, id=id)


class Bodies:
    """Bodies that run until they are told to end; all are ended when the test is over."""

    def __init__(self) -> None:
        self._ends: dict[asyncio.Task[None], asyncio.Event] = {}

    def start(self, *, stubborn: bool = False) -> asyncio.Task[None]:
        """Start a body; a stubborn one goes on when it is cancelled."""
        end = asyncio.Event()

        async def body() -> None:
            while not end.is_set():
                try:
                    await end.wait()
                except asyncio.CancelledError:
                    if not stubborn:
                        raise

        task = asyncio.create_task(body())
        self._ends[task] = end
        return task

    def fail(self, error: Exception) -> asyncio.Task[None]:
        """Start a body that fails after a second."""

        async def body() -> None:
            await asyncio.sleep(1)
            raise error

        task = asyncio.create_task(body())
        self._ends[task] = asyncio.Event()
        return task

    def fail_when_cancelled(self, error: Exception) -> asyncio.Task[None]:
        """Start a body that answers its cancellation with another error."""

        async def body() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise error from None

        task = asyncio.create_task(body())
        self._ends[task] = asyncio.Event()
        return task

    def ends(self, task: asyncio.Task[None]) -> asyncio.Event:
        """Return what a body waits for."""
        return self._ends[task]

    async def end(self, *tasks: asyncio.Task[None]) -> None:
        """Let these end, all without arguments, and let everybody notice."""
        for task in tasks or list(self._ends):
            self._ends[task].set()
        await asyncio.wait(tasks or list(self._ends))
        await settle()


async def settle() -> None:
    """Let what is ready happen."""
    for _ in range(5):
        await asyncio.sleep(0)
