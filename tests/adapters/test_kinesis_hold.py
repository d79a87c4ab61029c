"""A lease that is held: renewed by whatever is written, and lost in two ways only."""

import pytest

from tq.clock import Clock
from tq.errors import BackendUnavailableError
from tq.memory import MemoryShardLeases
from tq.model import ShardLease
from tq_kinesis.hold import Hold
from tq_kinesis.position import ENDED

LEASE = 10.0
ROW = ShardLease("s", "shard-1", owner="me")


async def held(leases: MemoryShardLeases, clock: Clock) -> Hold:
    await leases.create([ROW])
    return Hold(ROW, leases, clock, LEASE, clock.monotonic())


async def test_writing_anything_renews(clock: Clock) -> None:
    leases = MemoryShardLeases(clock=clock)
    hold = await held(leases, clock)
    for number in range(5):
        await clock.sleep(6.0)
        assert await hold.write(checkpoint=f"{number}")
    assert hold.live
    (row,) = await leases.list("s")
    assert (row, row.checkpoint, row.counter) == (hold.row, "4", 5)


@pytest.mark.spec("D-70")
async def test_what_somebody_else_has_changed_is_lost_at_once_and_for_good(clock: Clock) -> None:
    leases = MemoryShardLeases(clock=clock)
    hold = await held(leases, clock)
    [theirs] = await leases.swap([(ROW, ROW._replace(owner="other"))])
    assert hold.live
    assert not await hold.write(checkpoint="9")
    assert not hold.live
    assert not await hold.write(checkpoint="9")
    assert not await hold.give_back("9")
    assert list(await leases.list("s")) == [theirs]


@pytest.mark.spec("D-70")
async def test_what_was_not_renewed_for_a_lease_is_lost_though_nobody_came(clock: Clock) -> None:
    leases = MemoryShardLeases(clock=clock)
    hold = await held(leases, clock)
    await clock.sleep(LEASE)
    assert not hold.live
    assert not await hold.write(checkpoint="9")
    assert list(await leases.list("s")) == [ROW]


async def test_a_change_whose_answer_was_lost_is_made_before_the_next(clock: Clock) -> None:
    leases = MemoryShardLeases(clock=clock)
    hold, swap = await held(leases, clock), leases.swap
    for made in (True, False):

        async def lossy(changes: object, *, made: bool = made) -> object:
            if made:
                await swap(changes)  # type: ignore[arg-type]
            raise BackendUnavailableError("no answer")

        leases.swap = lossy  # type: ignore[method-assign,assignment]
        with pytest.raises(BackendUnavailableError):
            await hold.write(checkpoint="3", change=lambda note: note._replace(seen="8"))
        leases.swap = swap  # type: ignore[method-assign]
        assert await hold.write(checkpoint="5")
    (row,) = await leases.list("s")
    assert (row, row.checkpoint, hold.note.seen) == (hold.row, "5", "8")


async def test_what_is_given_back_is_nobodys_and_says_what_was_handed_out(clock: Clock) -> None:
    leases = MemoryShardLeases(clock=clock)
    hold = await held(leases, clock)
    await hold.write(change=lambda note: note._replace(seen="8"))
    assert await hold.give_back("5")
    assert not hold.live
    (row,) = await leases.list("s")
    assert (row.owner, row.checkpoint, row.note) == ("", "5", '{"bounds":[["8",1,0]]}')


async def test_of_an_ended_shard_no_note_is_left(clock: Clock) -> None:
    leases = MemoryShardLeases(clock=clock)
    hold = await held(leases, clock)
    await hold.write(change=lambda note: note._replace(seen="8", alone=("7/0",)))
    await hold.give_back(ENDED)
    (row,) = await leases.list("s")
    assert (row.checkpoint, row.note) == (ENDED, "")
