"""The suite of `MessageQueue`."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractAsyncContextManager

import pytest

from tq.clock import Clock
from tq.model import Place
from tq.ports import MessageQueue

from .custody import CustodyContract
from .values import add, message, take

__all__ = ["QueueContract"]


class QueueContract(CustodyContract):
    """A custodian that also knows which queues are served."""

    @abstractmethod
    def open(self, clock: Clock) -> AbstractAsyncContextManager[MessageQueue]:
        """Open the queue over data of its own: empty, and nobody else's."""

    async def test_a_delivery_says_that_it_came_from_the_queue(self, clock: Clock) -> None:
        async with self.open(clock) as queue:
            await add(queue, message("a", clock.now()))
            (delivery,) = await take(queue, lease=self.long)
            assert delivery.place is Place.QUEUE
            assert (await queue.locate(["a"]))["a"].place is Place.QUEUE

    @pytest.mark.spec("INV-09")
    async def test_queues_are_served_while_their_workers_say_so(self, clock: Clock) -> None:
        async with self.open(clock) as queue:
            assert await queue.announced() == []
            await queue.announce("w1", ["b", "a"], 4 * self.beat)
            await queue.announce("w2", ["c", "a"], self.beat)
            assert await queue.announced() == ["a", "b", "c"]
            await clock.sleep(1.1 * self.beat)
            assert await queue.announced() == ["a", "b"]
            await clock.sleep(3 * self.beat)
            assert await queue.announced() == []

    async def test_the_last_word_of_a_worker_counts(self, clock: Clock) -> None:
        async with self.open(clock) as queue:
            await queue.announce("w", ["a", "b"], self.beat)
            await queue.announce("w", ["b"], 3 * self.beat)
            assert await queue.announced() == ["b"]
            await clock.sleep(1.1 * self.beat)
            assert await queue.announced() == ["b"]
