"""The store, part three: outcomes across servers, wide plans, outgoing notes, and what retention drops."""

from __future__ import annotations

import pytest

from tq.clock import Clock
from tq.errors import ContentRefusedError
from tq.model import Chunk, Outgoing
from tq.ports import OutcomeKey, Stored

from .parking import StoreSuite
from .values import add, ids, message, record, take

__all__ = ["Upkeep"]

DAY = 86_400.0


class Upkeep(StoreSuite):
    """Written once, handed over in order, dropped in time."""

    # --- outcomes -------------------------------------------------------------------------------------------------

    @pytest.mark.spec("D-10", "D-11", "D-12")
    async def test_the_first_outcome_of_an_execution_counts_for_everybody(self, clock: Clock) -> None:
        async with self.open(clock) as store:
            now = clock.now()
            first, other = OutcomeKey("a", 0, 0), OutcomeKey("a", 0, 1)
            assert await store.put_outcomes([(first, b"one")], now) == {}
            stored = Stored(first, b"one", carried=False, at=now)
            assert await store.put_outcomes([(first, b"two"), (other, b"three")], now + 1) == {first: stored}
            third = OutcomeKey("a", 1, 0)
            found = await store.outcomes([first, other, third])
            assert found == {first: stored, other: Stored(other, b"three", carried=False, at=now + 1)}

    async def test_the_same_outcome_again_was_there_before(self, clock: Clock) -> None:
        async with self.open(clock) as store:
            key, now = OutcomeKey("a", 0, 0), clock.now()
            outcome = b"the very same"
            assert await store.put_outcomes([(key, outcome)], now) == {}
            assert sorted(await store.put_outcomes([(key, outcome)], now)) == [key]

    async def test_what_was_carried_out_is_told(self, clock: Clock) -> None:
        async with self.open(clock) as store:
            key, now = OutcomeKey("a", 0, 0), clock.now()
            await store.put_outcomes([(key, b"one")], now)
            await store.carried([key, OutcomeKey("never", 0, 0)])
            assert (await store.outcomes([key]))[key] == Stored(key, b"one", carried=True, at=now)
            assert (await store.put_outcomes([(key, b"two")], now))[key].carried
            assert await store.outcomes([OutcomeKey("never", 0, 0)]) == {}

    async def test_what_was_not_carried_out_is_found_without_its_name(self, clock: Clock) -> None:
        async with self.open(clock) as store:
            now = clock.now()
            assert await store.uncarried(None, 10) == []
            keys = [OutcomeKey(id, number % 3, number) for number, id in enumerate(("b", "b", "a", "é", "c", "a"))]
            await store.put_outcomes([(key, b"%d" % key.attempt) for key in keys], now)
            await store.put_outcomes([(keys[0], b"another")], now + 1)
            await store.carried([keys[1], OutcomeKey("never", 0, 0)])
            page = await store.uncarried(None, 2)
            rest = await store.uncarried(page[-1].key, 10)
            found = [*page, *rest]
            assert len(page) == 2
            assert [it.key for it in await store.uncarried(None, 10)] == [it.key for it in found], "always in one order"
            assert await store.uncarried(found[-1].key, 10) == []
            left = [key for key in keys if key != keys[1]]
            assert {it.key: it for it in found} == {
                key: Stored(key, b"%d" % key.attempt, carried=False, at=now) for key in left
            }
            await store.carried([page[-1].key])
            assert await store.uncarried(page[-1].key, 10) == rest, "what is carried out by now still has its place"
            await store.carried(left)
            assert await store.uncarried(None, 10) == []

    async def test_an_outcome_that_stands_in_for_a_refused_one_is_kept_like_any_other(self, clock: Clock) -> None:
        """Its attempt is below zero: no execution has such a one."""
        async with self.open(clock) as store:
            key, now = OutcomeKey("a", 0, -1), clock.now()
            await store.put_outcomes([(OutcomeKey("a", 0, 1), b"refused"), (key, b"instead")], now)
            assert {it.key.attempt for it in await store.uncarried(None, 10)} == {-1, 1}
            await store.carried([key])
            assert await store.outcomes([key]) == {key: Stored(key, b"instead", carried=True, at=now)}
            assert {it.key.attempt for it in await store.uncarried(None, 10)} == {1}

    # --- chunks ---------------------------------------------------------------------------------------------------

    async def test_a_part_of_a_plan_is_written_once_and_never_runs(self, clock: Clock) -> None:
        async with self.open(clock) as store:
            now = clock.now()
            members = tuple(message(f"f.{number}", now, stats=b"{}", lane="L") for number in range(3))
            part = Chunk("plan", 0, members, now)
            await store.put_chunks([part, Chunk("plan", 1, members[:1], now)])
            await store.put_chunks([Chunk("plan", 0, (), now + 1)])
            assert await store.chunk("plan", 0) == part
            assert await store.chunk("plan", 1) == Chunk("plan", 1, members[:1], now)
            assert await store.chunk("plan", 2) is None
            assert await store.chunk("other", 0) is None
            assert await take(store, lease=self.long) == []
            assert await store.locate(["f.0"]) == {}

    # --- notes ----------------------------------------------------------------------------------------------------

    async def test_notes_go_out_in_the_order_in_which_they_came(self, clock: Clock) -> None:
        async with self.open(clock) as store:
            await store.put_outgoing([Outgoing("p", f"{9 - number}", b"%d" % number) for number in range(5)])
            await store.put_outgoing([Outgoing("other", "x", b"x"), Outgoing("p", "last", b"5")])
            first = await store.outgoing("p", 4)
            assert [note.id for note in first] == ["9", "8", "7", "6"]
            assert [note.seq for note in first] == sorted({note.seq for note in first})
            assert await store.outgoing("p", 4) == first
            await store.sent(first)
            await store.sent(first)
            assert [(note.id, note.body) for note in await store.outgoing("p", 4)] == [("5", b"4"), ("last", b"5")]
            assert [note.id for note in await store.outgoing("other", 4)] == ["x"]
            assert await store.outgoing("never", 4) == []

    async def test_a_note_is_put_once(self, clock: Clock) -> None:
        async with self.open(clock) as store:
            await store.put_outgoing([Outgoing("p", "a", b"first"), Outgoing("p", "b", b"")])
            await store.put_outgoing([Outgoing("p", "a", b"second"), Outgoing("r", "a", b"third")])
            assert [(note.id, note.body) for note in await store.outgoing("p", 9)] == [("a", b"first"), ("b", b"")]
            assert [note.body for note in await store.outgoing("r", 9)] == [b"third"]

    async def test_handing_over_once_does_not_remove_what_was_put_again(self, clock: Clock) -> None:
        async with self.open(clock) as store:
            await store.put_outgoing([Outgoing("p", "a", b"first")])
            handed = await store.outgoing("p", 1)
            await store.sent(handed)
            await store.put_outgoing([Outgoing("p", "a", b"second")])
            await store.sent(handed)
            assert [note.body for note in await store.outgoing("p", 9)] == [b"second"]

    async def test_whatever_it_is_refused_content_is_refused_whole(self, clock: Clock) -> None:
        bad = self.bad_text()
        async with self.open(clock) as store:
            now = clock.now()
            wrong, key = message("b", now, type=bad), OutcomeKey("a", 0, 0)
            await store.put([(message("1", now, lane="L"), "")])
            for refused in (
                store.park(wrong, "w:1", self.beat),
                store.append_if_parked("L", [message("2", now, lane="L"), wrong]),
                store.put_outcomes([(key, b""), (OutcomeKey(bad, 0, 0), b"")], now),
                store.put_chunks([Chunk("p", 0, (), now), Chunk("p", 1, (wrong,), now)]),
                store.put_outgoing([Outgoing("p", "a", b""), Outgoing("p", bad, b"")]),
            ):
                with pytest.raises(ContentRefusedError):
                    await refused
            assert [it.id for it in await store.list(None, "", 9)] == ["1"]
            assert await store.outcomes([key]) == {}
            assert await store.chunk("p", 0) is None
            assert await store.outgoing("p", 9) == []

    # --- retention ------------------------------------------------------------------------------------------------

    @pytest.mark.spec("INV-09", "ADP-10", "STO-10")
    async def test_records_are_dropped_when_their_time_has_come(self, clock: Clock) -> None:
        async with self.open(clock) as store:
            now = clock.now()
            await store.record([record("gone", now, expires_at=now), record("kept", now, expires_at=now + DAY)])
            assert await store.purge(now + 1, DAY, 100) == 1
            assert sorted(await store.records(["gone", "kept"])) == ["kept"]
            assert await store.purge(now + 1, DAY, 100) == 0
            assert await store.purge(now + DAY + 1, 9 * DAY, 100) == 1

    async def test_a_record_that_was_replaced_keeps_its_new_time(self, clock: Clock) -> None:
        async with self.open(clock) as store:
            now = clock.now()
            await store.record([record("a", now, expires_at=now)])
            await store.record([record("a", now, expires_at=now + DAY, generation=1)])
            assert await store.purge(now + 1, DAY, 100) == 0
            assert sorted(await store.records(["a"])) == ["a"]

    async def test_a_record_that_was_forgotten_is_not_dropped_again(self, clock: Clock) -> None:
        async with self.open(clock) as store:
            now = clock.now()
            await store.record([record("a", now, expires_at=now), record("b", now, expires_at=now)])
            await store.forget(["a"])
            assert await store.purge(now + 1, DAY, 100) == 1

    async def test_outcomes_are_dropped_once_they_are_carried_out_and_old(self, clock: Clock) -> None:
        async with self.open(clock) as store:
            now = clock.now()
            keys = [OutcomeKey(name, 0, 0) for name in ("old", "open", "new")]
            await store.put_outcomes([(keys[0], b""), (keys[1], b"")], now - 2 * DAY)
            await store.put_outcomes([(keys[2], b"")], now)
            await store.carried([keys[0], keys[2]])
            assert await store.purge(now, DAY, 100) == 1
            assert sorted(await store.outcomes(keys)) == sorted([keys[1], keys[2]])

    async def test_old_plans_are_dropped(self, clock: Clock) -> None:
        async with self.open(clock) as store:
            now = clock.now()
            await store.put_chunks([Chunk("old", 0, (), now - 2 * DAY), Chunk("new", 0, (), now)])
            assert await store.purge(now, DAY, 100) == 1
            assert await store.chunk("old", 0) is None
            assert await store.chunk("new", 0) is not None

    async def test_a_purge_is_bounded_and_finishes_in_steps(self, clock: Clock) -> None:
        async with self.open(clock) as store:
            now = clock.now()
            await store.record([record(f"{number}", now, expires_at=now - 1) for number in range(50)])
            keys = [OutcomeKey(f"{number}", 0, 0) for number in range(50)]
            await store.put_outcomes([(key, b"") for key in keys], now - 2 * DAY)
            await store.carried(keys)
            await store.put_chunks([Chunk("p", number, (), now - 2 * DAY) for number in range(50)])
            gone = 0
            while (step := await store.purge(now, DAY, 10)) > 0:
                assert step <= 30, "at most about the limit"
                gone += step
            assert gone == 150
            assert set((await store.stats()).values()) == {0}

    @pytest.mark.spec("ADP-10", "D-34")
    async def test_a_live_message_is_never_dropped(self, clock: Clock) -> None:
        async with self.open(clock) as store:
            now = clock.now() - 99 * DAY
            await add(store, message("waiting", now), message("running", now - 1))
            await store.put([(message("held", now), "f")])
            (running,) = await take(store, 1, lease=self.long)
            await store.put_outgoing([Outgoing("p", "a", b"")])
            assert await store.purge(clock.now() + 99 * DAY, 0.0, 100) == 0
            assert sorted(await store.locate(["waiting", "running", "held"])) == ["held", "running", "waiting"]
            assert await store.ack([running.receipt]) == []
            assert ids(await take(store, lease=self.long)) == ["waiting"]
            assert len(await store.outgoing("p", 9)) == 1

    async def test_rows_are_counted_by_kind(self, clock: Clock) -> None:
        async with self.open(clock) as store:
            now = clock.now()
            kinds = ("records", "dead", "outcomes", "chunks", "outgoing")
            assert [(await store.stats())[kind] for kind in kinds] == [0] * 5
            await store.record([record("a", now), record("b", now, dead=True), record("c", now)])
            await store.put_outcomes([(OutcomeKey("a", 0, 0), b""), (OutcomeKey("b", 0, 0), b"")], now)
            await store.put_chunks([Chunk("p", 0, (), now)])
            await store.put_outgoing([Outgoing("p", f"{number}", b"") for number in range(4)])
            stats = await store.stats()
            assert [stats[kind] for kind in kinds] == [3, 1, 2, 1, 4]

    async def test_outcomes_plans_and_notes_outlive_the_process(self, clock: Clock) -> None:
        async with self.open(clock) as store:
            now, key = clock.now(), OutcomeKey("a", 0, 0)
            reopened = self.again(store, clock)
            await store.put_outcomes([(key, b"one")], now)
            await store.put_chunks([Chunk("p", 0, (message("f.0", now),), now)])
            await store.put_outgoing([Outgoing("p", "a", b"note")])
            await store.close()
            async with reopened as later:
                assert sorted(await later.outcomes([key])) == [key]
                assert await later.chunk("p", 0) == Chunk("p", 0, (message("f.0", now),), now)
                assert [note.body for note in await later.outgoing("p", 9)] == [b"note"]
