"""The suite of leases on the shards of streams."""

from __future__ import annotations

import asyncio

import pytest

from tq.clock import Clock
from tq.errors import ContentRefusedError
from tq.model import ShardLease
from tq.ports import ShardLeases

from .suite import Suite

__all__ = ["ShardLeasesContract"]

FIRST, SECOND = ShardLease("orders", "shard-0"), ShardLease("orders", "shard-1", parents=("shard-8", "shard-9"))


class ShardLeasesContract(Suite[ShardLeases]):
    """A row changes only as whoever changes it has seen it."""

    async def test_leases_are_listed_by_stream_and_shard(self, clock: Clock) -> None:
        async with self.open(clock) as leases:
            other = ShardLease(
                "orders-2", "shard-0", owner="w", counter=3, checkpoint="49590338271490256608", note="{}"
            )
            await leases.create([SECOND, other, FIRST])
            assert [*await leases.list("orders")] == [FIRST, SECOND]
            assert [*await leases.list("orders-2")] == [other]
            assert [*await leases.list("order")] == []

    async def test_what_is_there_is_not_created_again(self, clock: Clock) -> None:
        async with self.open(clock) as leases:
            await leases.create([FIRST])
            [taken] = await leases.swap([(FIRST, FIRST._replace(owner="w-1"))])
            await leases.create([FIRST, SECOND])
            assert [*await leases.list("orders")] == [taken, SECOND]

    async def test_a_change_raises_the_counter_and_keeps_the_rest(self, clock: Clock) -> None:
        async with self.open(clock) as leases:
            await leases.create([SECOND])
            [taken] = await leases.swap([(SECOND, SECOND._replace(owner="w-1"))])
            assert taken is not None
            assert taken == SECOND._replace(owner="w-1", counter=1)
            [moved] = await leases.swap([(taken, taken._replace(checkpoint="17", note='{"x":"é"}'))])
            assert moved == SECOND._replace(owner="w-1", counter=2, checkpoint="17", note='{"x":"é"}')
            assert [*await leases.list("orders")] == [moved]

    @pytest.mark.spec("D-70")
    async def test_who_was_overtaken_changes_nothing(self, clock: Clock) -> None:
        async with self.open(clock) as leases:
            await leases.create([FIRST])
            [old] = await leases.swap([(FIRST, FIRST._replace(owner="w-1"))])
            assert old is not None
            [stolen] = await leases.swap([(old, old._replace(owner="w-2"))])
            assert await leases.swap([(old, old._replace(checkpoint="99"))]) == [None]
            assert await leases.swap([(old, old._replace(owner=""))]) == [None]
            await leases.drop([old])
            assert [*await leases.list("orders")] == [stolen]

    async def test_of_two_that_take_one_lease_one_has_it(self, clock: Clock) -> None:
        async with self.open(clock) as leases:
            await leases.create([FIRST])
            asked = [leases.swap([(FIRST, FIRST._replace(owner=f"w-{number}"))]) for number in range(5)]
            answers = [answer for [answer] in await asyncio.gather(*asked)]
            [held] = [answer for answer in answers if answer is not None]
            assert [*await leases.list("orders")] == [held]

    async def test_a_change_made_again_after_a_lost_answer_is_done_once(self, clock: Clock) -> None:
        async with self.open(clock) as leases:
            await leases.create([FIRST])
            change = (FIRST, FIRST._replace(owner="w-1", checkpoint="5"))
            first, again = await leases.swap([change]), await leases.swap([change])
            assert first == again == [FIRST._replace(owner="w-1", checkpoint="5", counter=1)]
            assert await leases.swap([(FIRST, FIRST._replace(owner="w-1", checkpoint="6"))]) == [None]

    async def test_changes_of_one_call_stand_each_by_itself(self, clock: Clock) -> None:
        async with self.open(clock) as leases:
            await leases.create([FIRST, SECOND])
            unknown = ShardLease("orders", "never")
            stale = FIRST._replace(counter=4)
            answers = await leases.swap(
                [(unknown, unknown._replace(owner="w")), (SECOND, SECOND._replace(owner="w")), (stale, stale)]
            )
            assert answers == [None, SECOND._replace(owner="w", counter=1), None]
            assert await leases.swap([]) == []

    async def test_an_unchanged_row_is_dropped(self, clock: Clock) -> None:
        async with self.open(clock) as leases:
            await leases.create([FIRST, SECOND])
            await leases.drop([FIRST, SECOND._replace(counter=1)])
            await leases.drop([])
            assert [*await leases.list("orders")] == [SECOND]
            await leases.create([FIRST])
            assert len(await leases.list("orders")) == 2

    async def test_refused_text_leaves_everything_as_it_was(self, clock: Clock) -> None:
        async with self.open(clock) as leases:
            bad = self.bad_text()
            await leases.create([FIRST])
            with pytest.raises(ContentRefusedError):
                await leases.create([SECOND, ShardLease("orders", bad)])
            with pytest.raises(ContentRefusedError):
                await leases.swap([(FIRST, FIRST._replace(owner="w")), (FIRST, FIRST._replace(note=bad))])
            assert [*await leases.list("orders")] == [FIRST]

    async def test_leases_outlive_the_process(self, clock: Clock) -> None:
        async with self.open(clock) as leases:
            await leases.create([FIRST])
            async with self.again(leases, clock) as other:
                [taken] = await other.swap([(FIRST, FIRST._replace(owner="w"))])
                assert [*await leases.list("orders")] == [taken]
