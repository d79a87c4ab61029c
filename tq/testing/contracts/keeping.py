"""The store, part two: what is kept of tasks that have ended, and how it becomes a message again."""

from __future__ import annotations

import pytest

from tq.clock import Clock
from tq.errors import ContentRefusedError
from tq.model import TaskStatus

from .parking import StoreSuite
from .values import add, held, ids, message, record, take

__all__ = ["Keeping"]


class Keeping(StoreSuite):
    """One record per task; a later generation replaces an earlier one."""

    @pytest.mark.spec("ADP-02", "STO-01", "STO-06")
    async def test_a_record_comes_back_as_it_was_written(self, clock: Clock) -> None:
        async with self.open(clock) as store:
            now = clock.now()
            full = record(
                "a",
                now,
                status=TaskStatus.EXPIRED,
                expires_at=now + 5,
                generation=2,
                attempt=3,
                fence=4,
                dead=True,
                result=b"\x00null",
                error="✗ wrong",
                stats=b'{"retry_count":3}',
                body=b"\xff\x00",
            )
            bare = record("b", now, status=TaskStatus.EXECUTED)
            null = record("c", now, status=TaskStatus.EXECUTED, result=b"null", error="")
            await store.record([full, bare, null])
            assert await store.records(["a", "b", "c", "never"]) == {"a": full, "b": bare, "c": null}
            assert (await store.records(["b"]))["b"].result is None

    @pytest.mark.spec("STO-09", "ADP-03")
    async def test_nothing_kept_is_nothing_found(self, clock: Clock) -> None:
        async with self.open(clock) as store:
            await store.record([])
            assert await store.records([]) == {}
            assert await store.records(["never"]) == {}
            assert await store.list_records() == []
            assert await store.forget(["never"]) == []
            assert await store.revive(["never"], clock.now()) == []

    @pytest.mark.spec("D-82")
    async def test_what_was_handed_out_belongs_to_who_asked(self, clock: Clock) -> None:
        async with self.open(clock) as store:
            now = clock.now()
            await store.record([record("kept", now)])
            await store.add([message("live", now)])
            for _ in range(2):
                records, places = await store.records(["kept"]), await store.locate(["live"])
                assert (list(records), list(places)) == (["kept"], ["live"])
                records.clear()
                places.clear()

    @pytest.mark.spec("D-10", "D-11")
    async def test_the_first_record_of_a_generation_stays(self, clock: Clock) -> None:
        async with self.open(clock) as store:
            now = clock.now()
            first = record("a", now, error="first", generation=1)
            await store.record([first])
            await store.record([record("a", now + 1, error="second", generation=1)])
            await store.record([record("a", now + 1, error="older", generation=0, attempt=9)])
            assert (await store.records(["a"]))["a"] == first
            newer = record("a", now, error="newer", generation=2)
            await store.record([newer])
            assert await store.records(["a"]) == {"a": newer}

    async def test_a_record_stands_for_its_id(self, clock: Clock) -> None:
        """A producer that adds a task again after it has ended is told that it was there."""
        async with self.open(clock) as store:
            await store.record([record("a", clock.now())])
            assert await add(store, message("a", clock.now()), message("b", clock.now())) == ["a"]
            assert ids(await take(store, lease=self.long)) == ["b"]
            await store.forget(["a"])
            assert await add(store, message("a", clock.now())) == []

    async def test_a_refused_record_keeps_its_whole_call_out(self, clock: Clock) -> None:
        bad = self.bad_text()
        async with self.open(clock) as store:
            with pytest.raises(ContentRefusedError):
                await store.record([record("a", clock.now()), record("b", clock.now(), error=bad)])
            assert await store.records(["a", "b"]) == {}

    # --- lists ----------------------------------------------------------------------------------------------------

    async def test_records_are_listed_newest_first_page_by_page(self, clock: Clock) -> None:
        async with self.open(clock) as store:
            now = clock.now()
            kept = [record(f"{number * 7 % 20:02}", now + number // 3) for number in range(20)]
            await store.record(kept)
            expected = [it.task_id for it in sorted(kept, key=lambda it: (it.at, it.task_id), reverse=True)]
            got: list[str] = []
            after: tuple[float, str] | None = None
            while page := await store.list_records(after=after, limit=6):
                assert len(page) <= 6
                got += [it.task_id for it in page]
                after = (page[-1].at, page[-1].task_id)
            assert got == expected

    async def test_records_are_found_by_what_they_are(self, clock: Clock) -> None:
        async with self.open(clock) as store:
            now = clock.now()
            await store.record(
                [
                    record("dead", now, dead=True, queue="r", type="u"),
                    record("failed", now + 1, queue="r"),
                    record("done", now + 2, status=TaskStatus.EXECUTED, type="u"),
                ]
            )

            async def found(**filters: object) -> list[str]:
                return [it.task_id for it in await store.list_records(**filters)]  # type: ignore[arg-type]

            assert await found() == ["done", "failed", "dead"]
            assert await found(dead=True) == ["dead"]
            assert await found(dead=False) == ["done", "failed"]
            assert await found(status=TaskStatus.FAILED) == ["failed", "dead"]
            assert await found(queue="r") == ["failed", "dead"]
            assert await found(type="u") == ["done", "dead"]
            assert await found(type="u", queue="r", dead=True, status=TaskStatus.FAILED) == ["dead"]
            assert await found(queue="never") == []

    # --- revive and forget ----------------------------------------------------------------------------------------

    async def test_a_dead_letter_becomes_a_message_again(self, clock: Clock) -> None:
        async with self.open(clock) as store:
            at = clock.now() + self.beat
            dead = record(
                "a", clock.now(), dead=True, generation=1, attempt=4, fence=6, body=b"body", queue="r", type="u"
            )
            await store.record([dead])
            assert await store.revive(["a", "never"], at, b'{"by":"hand"}') == ["a"]
            assert await store.records(["a"]) == {}
            assert await take(store, lease=self.long, queues=("r",)) == []
            await clock.sleep(1.1 * self.beat)
            (delivery,) = await take(store, lease=self.long, queues=("r",))
            revived = delivery.message
            assert (revived.id, revived.queue, revived.type, revived.body) == ("a", "r", "u", b"body")
            assert (revived.generation, revived.attempt, revived.stats) == (2, 0, b'{"by":"hand"}')
            assert (delivery.crashes, delivery.fence) == (0, 7)

    async def test_reviving_twice_is_reviving_once(self, clock: Clock) -> None:
        async with self.open(clock) as store:
            await store.record([record("a", clock.now(), dead=True, body=b"body")])
            assert await store.revive(["a", "a"], clock.now()) == ["a"]
            assert await store.revive(["a"], clock.now()) == []
            (delivery,) = await take(store, lease=self.long)
            assert delivery.message.generation == 1

    async def test_what_is_live_or_has_no_body_is_not_revived(self, clock: Clock) -> None:
        async with self.open(clock) as store:
            now = clock.now()
            await add(store, message("live", now))
            await store.record([record("live", now, dead=True, body=b"body"), record("bare", now, dead=True)])
            assert await store.revive(["live", "bare"], now) == []
            assert sorted(await store.records(["live", "bare"])) == ["bare", "live"]
            assert ids(await take(store, lease=self.long)) == ["live"]

    async def test_a_record_need_not_be_dead_to_be_revived(self, clock: Clock) -> None:
        async with self.open(clock) as store:
            await store.record([record("a", clock.now(), status=TaskStatus.CANCELLED, body=b"body")])
            assert await store.revive(["a"], clock.now()) == ["a"]

    async def test_what_was_revived_may_end_again(self, clock: Clock) -> None:
        async with self.open(clock) as store:
            now = clock.now()
            await store.record([record("a", now, dead=True, body=b"body", error="first")])
            await store.revive(["a"], now)
            (delivery,) = await take(store, lease=self.long)
            await store.record([record("a", now, dead=True, generation=1, error="second")])
            await store.ack(held(delivery))
            assert (await store.records(["a"]))["a"].error == "second"

    async def test_forgotten_records_are_gone(self, clock: Clock) -> None:
        async with self.open(clock) as store:
            await store.record([record("a", clock.now()), record("b", clock.now())])
            assert await store.forget(["a", "never", "a"]) == ["a"]
            assert sorted(await store.records(["a", "b"])) == ["b"]
            assert await store.forget(["a"]) == []

    async def test_records_outlive_the_process(self, clock: Clock) -> None:
        async with self.open(clock) as store:
            reopened = self.again(store, clock)
            kept = record("a", clock.now(), dead=True, body=b"body")
            await store.record([kept])
            await store.close()
            async with reopened as later:
                assert await later.records(["a"]) == {"a": kept}
