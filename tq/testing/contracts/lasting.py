"""Custody, part five: what outlives the process, what several processes share, and what a closed port says."""

from __future__ import annotations

import asyncio

import pytest

from tq.clock import Clock
from tq.errors import BackendError
from tq.ports import Custody

from .suite import Suite
from .values import add, claim, held, ids, message, take

__all__ = ["Lasting"]


class Lasting(Suite[Custody]):
    """What is declared in `guarantees` is true."""

    async def test_what_is_declared_can_be_proved(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            lasting = custody.guarantees.durable or custody.guarantees.shared
            assert (self.reopen(custody, clock) is not None) is lasting, (
                "a port that is durable or shared overrides `reopen`; one that is neither does not"
            )
            assert custody.name

    @pytest.mark.spec("INV-02")
    async def test_messages_outlive_the_process(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            self.needs(custody, "delays")
            now = clock.now()
            reopened = self.again(custody, clock)
            sent = message("a", now, generation=1, attempt=2, lane="L", stats=b"{}", body=b"\x00\xff")
            await add(custody, sent, message("b", now, lane="L"), message("later", now + self.long))
            await custody.cancel(["later"])
            await custody.close()
            async with reopened as reborn:
                first, later = sorted(await take(reborn, lease=self.long), key=lambda it: it.message.id)
                assert (first.message, later.message.id, later.cancelled) == (sent, "later", True)
                await reborn.ack(held(first))
                assert ids(await take(reborn, lease=self.long)) == ["b"]

    @pytest.mark.spec("INV-02", "D-36")
    async def test_leases_outlive_the_process(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            if custody.guarantees.partitioned:
                pytest.skip("its end gives back what a process had")
            reopened = self.again(custody, clock)
            await add(custody, message("a", clock.now()), message("b", clock.now()))
            first, _ = await take(custody, lease=3 * self.beat)
            await custody.close()
            async with reopened as reborn:
                assert await take(reborn, lease=self.long, worker="other") == []
                assert await reborn.ack(held(first)) == []
                await clock.sleep(3.1 * self.beat)
                (second,) = await take(reborn, lease=self.long, worker="other")
                assert (second.message.id, second.crashes, second.fence) == ("b", 1, 2)

    async def test_a_pause_outlives_the_process(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            reopened = self.again(custody, clock)
            await add(custody, message("a", clock.now()))
            await custody.pause("q", paused=True)
            await custody.close()
            async with reopened as reborn:
                assert await reborn.paused() == ["q"]
                assert await take(reborn, lease=self.long) == []

    @pytest.mark.spec("D-29", "D-03", "INV-03")
    async def test_processes_do_not_share_a_message(self, clock: Clock) -> None:
        async with self.open(clock) as custody, self.again(custody, clock) as other:
            if not custody.guarantees.shared or custody.guarantees.partitioned:
                pytest.skip("one process at a time, or each with parts of its own")
            await custody.add([message(f"{number}", clock.now()) for number in range(200)])
            ports = [custody, other]
            claims = [
                ports[number % 2].claim(claim(7, lease=self.long, worker=f"w{number % 2}")) for number in range(40)
            ]
            got = [it for answer in await asyncio.gather(*claims) for it in answer.deliveries]
            assert sorted(ids(got)) == sorted(f"{number}" for number in range(200))
            by_worker = {worker: [it.receipt for it in got if it.token.startswith(worker)] for worker in ("w0", "w1")}
            assert await other.ack(by_worker["w0"]) == []
            assert await custody.ack(by_worker["w1"]) == []
            assert await other.counts() == {}

    async def test_a_pause_is_for_every_process(self, clock: Clock) -> None:
        async with self.open(clock) as custody, self.again(custody, clock) as other:
            if not custody.guarantees.shared:
                pytest.skip("one process at a time")
            await add(custody, message("a", clock.now()))
            await other.pause("q", paused=True)
            assert await take(custody, lease=self.long) == []
            await other.pause("q", paused=False)
            await clock.sleep(self.beat)
            assert ids(await take(custody, lease=self.long)) == ["a"]

    @pytest.mark.spec("MQ-10")
    async def test_a_closed_port_says_so_and_may_be_closed_again(self, clock: Clock) -> None:
        async with self.open(clock) as custody:
            await custody.close()
            await custody.close()
            with pytest.raises(BackendError, match="closed"):
                await add(custody, message("a", clock.now()))
            with pytest.raises(BackendError, match="closed"):
                await take(custody, lease=self.long)
