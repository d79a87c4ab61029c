"""The suite of projection providers that can also be asked."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

import pytest

from tq.clock import Clock
from tq.errors import ContentRefusedError
from tq.model import TaskStatus, projection_version
from tq.ports import EntityProjectionProvider, ProjectionQuery

from .suite import Suite
from .values import projection

__all__ = ["ProjectionContract", "Projections"]


class Projections(EntityProjectionProvider, ProjectionQuery, Protocol):
    """What this suite needs: both sides, and an end."""

    async def close(self) -> None:
        """Release what was opened."""
        ...


class ProjectionContract(Suite[Projections]):
    """Per task the row with the largest version; the first of equal versions stays."""

    @pytest.mark.spec("ENT-16", "MOD-01")
    async def test_a_row_comes_back_as_it_was_written(self, clock: Clock) -> None:
        async with self.open(clock) as rows:
            now = clock.now()
            full = projection(
                "a", 2, now, status=TaskStatus.FAILED, payload=b'{"p":1}', result=b'[2,"\xc3\xa9"]', error="✗"
            )
            changed = full._replace(updated_at=now + 1, task_id="b")
            bare = projection("c", 0, now, status=TaskStatus.SCHEDULED)
            await rows.upsert_projections([full, changed, bare])
            assert await rows.get_projections(["a", "b", "c", "never"]) == {"a": full, "b": changed, "c": bare}
            assert await rows.get_projections([]) == {}

    async def test_writing_nothing_writes_nothing(self, clock: Clock) -> None:
        async with self.open(clock) as rows:
            await rows.upsert_projections([])
            assert await rows.find_projections() == []

    @pytest.mark.spec("INV-07", "ENT-07")
    async def test_a_row_never_goes_backwards(self, clock: Clock) -> None:
        async with self.open(clock) as rows:
            now = clock.now()
            done = projection("a", 2, now, status=TaskStatus.EXECUTED)
            await rows.upsert_projections([done])
            await rows.upsert_projections([projection("a", 1, now + 1), projection("a", 0, now + 2)])
            assert await rows.get_projections(["a"]) == {"a": done}

    @pytest.mark.spec("INV-07", "D-50")
    async def test_the_first_of_equal_versions_stays(self, clock: Clock) -> None:
        async with self.open(clock) as rows:
            now = clock.now()
            failed = projection("a", 2, now, status=TaskStatus.FAILED, error="first")
            executed = projection("a", 2, now + 1, status=TaskStatus.EXECUTED, result=b"1")
            assert projection_version(now, 0, failed.status) == projection_version(now, 0, executed.status)
            await rows.upsert_projections([failed])
            await rows.upsert_projections([executed])
            assert await rows.get_projections(["a"]) == {"a": failed}

    @pytest.mark.spec("ENT-15")
    async def test_a_newer_row_replaces_all_of_an_older_one(self, clock: Clock) -> None:
        async with self.open(clock) as rows:
            now = clock.now()
            await rows.upsert_projections([projection("a", 2, now, status=TaskStatus.FAILED, error="x", payload=b"1")])
            again = projection("a", 5, now + 1, entity=("Other", "o-1"), task_type="u")
            await rows.upsert_projections([again])
            assert await rows.get_projections(["a"]) == {"a": again}

    @pytest.mark.spec("ENT-08")
    async def test_rows_of_one_call_are_written_in_order(self, clock: Clock) -> None:
        async with self.open(clock) as rows:
            now = clock.now()
            await rows.upsert_projections(
                [
                    projection("a", 0, now, status=TaskStatus.SCHEDULED),
                    projection("a", 2, now, status=TaskStatus.EXECUTED, result=b"1"),
                    projection("a", 1, now),
                    projection("a", 2, now, status=TaskStatus.FAILED),
                ]
            )
            (row,) = (await rows.get_projections(["a"])).values()
            assert (row.status, row.result) == (TaskStatus.EXECUTED, b"1")

    async def test_refused_content_keeps_its_whole_call_out(self, clock: Clock) -> None:
        bad = self.bad_text()
        async with self.open(clock) as rows:
            now = clock.now()
            with pytest.raises(ContentRefusedError):
                await rows.upsert_projections([projection("a", 1, now), projection("b", 1, now, error=bad)])
            assert await rows.get_projections(["a", "b"]) == {}

    async def test_rows_are_found_newest_first_page_by_page(self, clock: Clock) -> None:
        async with self.open(clock) as rows:
            now = clock.now()
            written = [projection(f"{number * 7 % 20:02}", 1, now + number // 3) for number in range(20)]
            await rows.upsert_projections(written)
            expected = [it.task_id for it in sorted(written, key=lambda it: (it.updated_at, it.task_id), reverse=True)]
            got: list[str] = []
            after: tuple[float, str] | None = None
            while page := await rows.find_projections(after=after, limit=6):
                assert len(page) <= 6
                got += [it.task_id for it in page]
                after = (page[-1].updated_at, page[-1].task_id)
            assert got == expected

    async def test_rows_are_found_by_what_they_are(self, clock: Clock) -> None:
        async with self.open(clock) as rows:
            now = clock.now()
            await rows.upsert_projections(
                [
                    projection("a", 1, now),
                    projection("b", 2, now + 1, status=TaskStatus.EXECUTED, task_type="u"),
                    projection("c", 1, now + 2, entity=("Item", "item-2")),
                    projection("d", 1, now + 3, entity=("Order", "item-1")),
                ]
            )

            async def found(**filters: object) -> list[str]:
                return [it.task_id for it in await rows.find_projections(**filters)]  # type: ignore[arg-type]

            assert await found() == ["d", "c", "b", "a"]
            assert await found(entity_type="Item") == ["c", "b", "a"]
            assert await found(entity_type="Item", entity_id="item-1") == ["b", "a"]
            assert await found(entity_id="item-1") == ["d", "b", "a"]
            assert await found(status=TaskStatus.EXECUTED) == ["b"]
            assert await found(task_type="u") == ["b"]
            assert await found(updated_from=now + 1) == ["d", "c", "b"]
            assert await found(updated_to=now + 2) == ["b", "a"]
            assert await found(updated_from=now + 1, updated_to=now + 3, entity_type="Item") == ["c", "b"]
            assert await found(entity_type="Item", status=TaskStatus.PROCESSING, limit=1) == ["c"]

    async def test_rows_outlive_the_process(self, clock: Clock) -> None:
        async with self.open(clock) as rows:
            reopened: AbstractAsyncContextManager[Projections] = self.again(rows, clock)
            row = projection("a", 2, clock.now(), status=TaskStatus.EXECUTED, result=b"1")
            await rows.upsert_projections([row])
            await rows.close()
            async with reopened as later:
                assert await later.get_projections(["a"]) == {"a": row}
                await later.upsert_projections([projection("a", 1, clock.now())])
                assert await later.get_projections(["a"]) == {"a": row}
