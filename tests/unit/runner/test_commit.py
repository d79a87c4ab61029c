"""Carrying batches to the backend: what is refused is found by halves, what is away is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import Any, cast

import pytest

from tq.errors import BackendError, BackendUnavailableError, ContentRefusedError, DatabaseFullError
from tq.model import Batch, Chunk, Claim, Effects, Failed, Hop, Receipt, Record, Remove, Settlement, TaskStatus
from tq.ports import Backend
from tq.runner.commit import CHUNKS_AT_ONCE, Committer, Note, Pending
from tq.runner.execution import Execution
from tq.testing import VirtualClock

from .making import NOW, delivery, execution, message

POISON = b"poison"


class Server:
    """Stands in for a backend: takes batches that `refuses` does not object to, and remembers them."""

    def __init__(self, refuses: Callable[[Batch], Exception | None] = lambda batch: None) -> None:
        self.refuses = refuses
        self.calls = 0
        self.written: list[str] = []
        self.dead: list[str] = []
        self.chunks: list[int] = []
        self.effects = 0
        self.claims: list[Claim] = []
        self.lost: list[Receipt] = []

    async def commit(self, batch: Batch, claim: Claim | None = None) -> Hop:
        self.calls += 1
        if (error := self.refuses(batch)) is not None:
            raise error
        for item in batch.settlements:
            (self.dead if any(record.dead for record in item.effects.records) else self.written).append(item.receipt.id)
        for effects in batch.effects:
            self.chunks += [chunk.number for chunk in effects.chunks]
            self.effects += not effects.chunks
        deliveries = [delivery(message("claimed"))] if claim is not None else []
        if claim is not None:
            self.claims.append(claim)
        refused = [receipt for receipt in batch.solo if receipt in self.lost]
        return Hop(deliveries, refused, [], [], None)


def poisoned(batch: Batch) -> Exception | None:
    """Object to every batch that holds a poisoned result, as a server does that cannot store it."""
    records = [record for item in batch.settlements for record in item.effects.records]
    records += [record for effects in batch.effects for record in effects.records]
    return ContentRefusedError("poison") if any(record.result == POISON for record in records) else None


def record(id: str, *, result: bytes | None = None, dead: bool = False) -> Record:
    return Record(id, "q", "t", TaskStatus.FAILED if dead else TaskStatus.EXECUTED, NOW, NOW, dead=dead, result=result)


def pending(id: str, result: bytes = b"1", **effects: Any) -> Pending:
    of = execution(delivery(message(id)))
    effects = {"records": (record(id, result=result),), **effects}
    return Pending(Settlement(Receipt(id, "w:1"), Remove(), Effects(**effects)), of)


def refuse(of: Execution, error: Exception) -> Pending:
    effects = Effects(records=(record(of.id, dead=True),))
    failed = Failed(str(error), final=True)
    return Pending(Settlement(of.delivery.receipt, Remove(), effects), of, failed)


def committer(server: Server, clock: VirtualClock) -> Committer:
    return Committer(cast("Backend", server), clock, refuse)


CLAIM = Claim(("q",), 5, "w:2", 30)


async def test_everything_goes_in_one_call_and_the_claim_comes_along(clock: VirtualClock) -> None:
    server = Server()
    note = Note(Effects(records=(record("note"),)))
    hop = await committer(server, clock).hop([pending("a"), pending("b")], [note], CLAIM)
    assert (server.calls, server.written, server.effects) == (1, ["a", "b"], 1)
    assert [it.message.id for it in hop.deliveries] == ["claimed"]
    assert note.done.result() is True


async def test_a_note_whose_lease_was_lost_is_told_so(clock: VirtualClock) -> None:
    server = Server()
    server.lost = [Receipt("x", "w:1")]
    kept, lost = Note(solo=Receipt("y", "w:1")), Note(solo=Receipt("x", "w:1"))
    await committer(server, clock).hop([], [kept, lost], None)
    assert (kept.done.result(), lost.done.result()) == (True, False)


@pytest.mark.spec("D-05", "D-12", "CON-05")
@pytest.mark.parametrize("size", [1, 2, 3, 8, 33])
async def test_the_culprit_is_found_and_everybody_else_is_written_once(clock: VirtualClock, size: int) -> None:
    for place in sorted({0, size // 2, size - 1}):
        server = Server(poisoned)
        items = [pending(f"{number}", POISON if number == place else b"1") for number in range(size)]
        hop = await committer(server, clock).hop(items, [], CLAIM)
        assert sorted(server.written, key=int) == [f"{number}" for number in range(size) if number != place]
        assert server.dead == [f"{place}"]
        assert (len(server.claims), len(hop.deliveries)) == (1, 1), "claimed once, however often it was split"
        culprit = items[place].outcome
        assert isinstance(culprit, Failed), "events tell of the ending that was written"
        assert server.calls <= 4 + 4 * size.bit_length()


async def test_several_culprits_are_all_found(clock: VirtualClock) -> None:
    server = Server(poisoned)
    items = [pending(f"{number}", POISON if number % 3 == 0 else b"1") for number in range(10)]
    await committer(server, clock).hop(items, [], None)
    assert sorted(server.dead) == ["0", "3", "6", "9"]
    assert len(server.written) == 6


async def test_a_refused_note_is_its_writers_affair(clock: VirtualClock) -> None:
    server = Server(poisoned)
    notes = [Note(Effects(records=(record(f"{n}", result=POISON if n == 1 else b"1"),))) for n in range(3)]
    hop = await committer(server, clock).hop([pending("a"), pending("b")], notes, CLAIM)
    assert (sorted(server.written), server.dead) == (["a", "b"], [])
    assert [note.done.done() for note in notes] == [True] * 3
    assert isinstance(notes[1].done.exception(), ContentRefusedError)
    assert (notes[0].done.result(), notes[2].done.result()) == (True, True)
    assert len(hop.deliveries) == 1


async def test_a_dead_letter_that_is_refused_too_goes_bare(clock: VirtualClock) -> None:
    def stubborn(batch: Batch) -> Exception | None:
        return ContentRefusedError("no records at all") if any(it.effects.records for it in batch.settlements) else None

    server = Server(stubborn)
    await committer(server, clock).hop([pending("a"), pending("b")], [], None)
    assert sorted(server.written) == ["a", "b"], "the message leaves its custodian: nothing would ever be taken"


async def test_what_refuses_an_empty_batch_is_no_tasks_fault(clock: VirtualClock) -> None:
    server = Server(lambda batch: ContentRefusedError("no"))
    with pytest.raises(ContentRefusedError):
        await committer(server, clock).hop([], [], CLAIM)


@pytest.mark.spec("RET-15", "D-24")
@pytest.mark.parametrize("error", [BackendUnavailableError("away"), DatabaseFullError("full")])
async def test_a_backend_that_is_away_is_waited_for_ever_longer(
    clock: VirtualClock, caplog: pytest.LogCaptureFixture, error: BackendError
) -> None:
    times: list[float] = []
    back = clock.now() + 30

    def away(batch: Batch) -> Exception | None:
        times.append(clock.now())
        return error if clock.now() < back else None

    server = Server(away)
    await committer(server, clock).hop([pending("a")], [], CLAIM)
    assert server.written == ["a"]
    pauses = [later - before for before, later in pairwise(times)]
    assert pauses[:4] == pytest.approx([0.05, 0.1, 0.2, 0.4], abs=1e-4)
    assert max(pauses) == pytest.approx(5.0)
    assert caplog.text.count("the backend cannot commit") == 1, "said once, not every time"


async def test_who_gives_up_does_not_wait(clock: VirtualClock) -> None:
    server = Server(lambda batch: BackendUnavailableError("away"))
    giving_up = committer(server, clock)
    giving_up.giving_up = True
    began = clock.now()
    with pytest.raises(BackendUnavailableError):
        await giving_up.hop([pending("a")], [], None)
    assert (clock.now(), server.calls) == (began, 1)


async def test_a_wait_ends_when_it_is_cancelled(clock: VirtualClock) -> None:
    server = Server(lambda batch: BackendUnavailableError("away"))
    hop = asyncio.ensure_future(committer(server, clock).hop([pending("a")], [], None))
    await clock.sleep(20)
    hop.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hop


# --- chunks -----------------------------------------------------------------------------------------------------------


def chunks(count: int) -> tuple[Chunk, ...]:
    return tuple(Chunk("plan", number, (), NOW) for number in range(count))


@pytest.mark.parametrize("count", [1, CHUNKS_AT_ONCE, CHUNKS_AT_ONCE + 1, 3 * CHUNKS_AT_ONCE])
async def test_the_chunks_of_a_wide_plan_are_written_before_what_seals_it(clock: VirtualClock, count: int) -> None:
    order: list[str] = []

    def watch(batch: Batch) -> None:
        order.append("seal" if batch.settlements else f"{sum(len(effects.chunks) for effects in batch.effects)}")
        assert not any(item.effects.chunks for item in batch.settlements)

    server = Server(watch)
    await committer(server, clock).hop([pending("a", chunks=chunks(count))], [], None)
    assert server.chunks == list(range(count))
    assert order[-1] == "seal"
    assert all(int(size) <= CHUNKS_AT_ONCE for size in order[:-1])
    assert server.written == ["a"]


async def test_a_plan_whose_chunks_are_refused_ends_as_a_dead_letter(clock: VirtualClock) -> None:
    def refuses(batch: Batch) -> Exception | None:
        return ContentRefusedError("too wide") if any(effects.chunks for effects in batch.effects) else None

    server = Server(refuses)
    await committer(server, clock).hop([pending("wide", chunks=chunks(2)), pending("a")], [], None)
    assert (server.dead, server.written) == (["wide"], ["a"])
