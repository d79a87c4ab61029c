"""Rows on their way to a user's own provider."""

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest

from tq.clock import Clock
from tq.codec import encode_projection
from tq.errors import BackendUnavailableError, ContentRefusedError, InvalidInputError
from tq.model import Outgoing, Projection, TaskStatus, projection_version
from tq.ports import TaskStore
from tq.projection import Feed
from tq.testing import VirtualClock

STATUSES = (TaskStatus.SCHEDULED, TaskStatus.PROCESSING, TaskStatus.EXECUTED)


def row(task: str, status: TaskStatus = TaskStatus.SCHEDULED) -> Projection:
    return Projection(task, "o", "Order", "t", "q", status, projection_version(1.0, 0, status), 1.0, 2.0, result=b"1")


class Outbox:
    """The store's outgoing notes."""

    def __init__(self, *rows: Projection) -> None:
        self.notes: list[Outgoing] = []
        self.reads = 0
        self.away = 0
        self.put(*rows)

    def put(self, *rows: Projection) -> None:
        for it in rows:
            self.notes.append(
                Outgoing("projection", f"{it.task_id}:{it.version}", encode_projection(it), len(self.notes))
            )

    async def outgoing(self, topic: str, limit: int) -> Sequence[Outgoing]:
        assert topic == "projection"
        self.reads += 1
        if self.away:
            self.away -= 1
            raise BackendUnavailableError("away")
        return self.notes[:limit]

    async def sent(self, notes: Sequence[Outgoing]) -> None:
        self.notes = [note for note in self.notes if note not in notes]

    @property
    def port(self) -> TaskStore:
        return cast("TaskStore", self)


class Provider:
    """A user's own."""

    def __init__(self) -> None:
        self.calls: list[list[Projection]] = []
        self.attempts = 0
        self.failing = 0
        self.hanging = 0
        self.poison = ""

    @property
    def rows(self) -> list[Projection]:
        return [it for call in self.calls for it in call]

    async def upsert_projections(self, rows: Sequence[Projection]) -> None:
        self.attempts += 1
        if self.failing:
            self.failing -= 1
            raise ConnectionError("the status table is away")
        if self.hanging:
            self.hanging -= 1
            await asyncio.Event().wait()
        if self.poison and any(it.task_id == self.poison for it in rows):
            raise ContentRefusedError(self.poison)
        self.calls.append(list(rows))


def feed(outbox: Outbox, provider: Provider, clock: Clock) -> Feed:
    return Feed(outbox.port, provider, clock)


@pytest.mark.spec("ENT-08")
async def test_rows_go_out_together_in_order_and_leave_the_outbox(clock: Clock) -> None:
    outbox, provider = Outbox(*[row(f"t-{number}") for number in range(1200)]), Provider()
    assert await feed(outbox, provider, clock).drain() == 1200
    assert [len(call) for call in provider.calls] == [500, 500, 200]
    assert [it.task_id for it in provider.rows] == [f"t-{number}" for number in range(1200)]
    assert outbox.notes == []


async def test_a_row_arrives_as_it_was_written(clock: Clock) -> None:
    sent = row("t-1", TaskStatus.EXECUTED)._replace(payload=b'{"a":1}', error=None)
    outbox, provider = Outbox(sent), Provider()
    await feed(outbox, provider, clock).drain()
    assert provider.rows == [sent]


async def test_an_empty_outbox_disturbs_nobody(clock: Clock) -> None:
    provider = Provider()
    assert await feed(Outbox(), provider, clock).drain() == 0
    assert provider.attempts == 0


@pytest.mark.spec("ENT-09", "INV-08")
async def test_rows_wait_in_order_until_the_provider_accepts(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    outbox, provider = Outbox(*[row("t-1", status) for status in STATUSES]), Provider()
    provider.failing = 3
    waiting = feed(outbox, provider, clock)
    for failures in (1, 2, 3):
        assert await waiting.drain() == 0
        assert len(outbox.notes) == 3
        assert waiting.failures == failures
    assert await waiting.drain() == 3
    assert waiting.failures == 0
    assert [it.status for it in provider.rows] == list(STATUSES)
    assert "the status table is away" in caplog.text


async def test_a_provider_that_hangs_is_a_provider_that_fails(clock: Clock) -> None:
    outbox, provider = Outbox(row("t-1")), Provider()
    provider.hanging = 1
    before = clock.monotonic()
    assert await feed(outbox, provider, clock).drain() == 0
    assert clock.monotonic() - before == pytest.approx(30.0)
    assert len(outbox.notes) == 1


@pytest.mark.spec("D-55")
async def test_a_row_that_the_provider_refuses_for_its_content_holds_back_nobody(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    outbox, provider = Outbox(row("a"), row("bad"), row("c")), Provider()
    provider.poison = "bad"
    await feed(outbox, provider, clock).drain()
    assert [it.task_id for it in provider.rows] == ["a", "c"]
    assert outbox.notes == []
    assert "refused for its content and dropped: bad" in caplog.text


async def test_a_provider_that_fails_while_a_culprit_is_looked_for_keeps_the_rest_in_order(clock: Clock) -> None:
    outbox, provider = Outbox(row("a"), row("bad"), *[row("c", status) for status in STATUSES]), Provider()
    provider.poison = "bad"
    looking = feed(outbox, provider, clock)
    original = provider.upsert_projections

    async def moody(rows: Sequence[Projection]) -> None:
        if [it.status for it in rows if it.task_id == "c"] == [TaskStatus.SCHEDULED] and not looking.failures:
            raise ConnectionError("away")
        await original(rows)

    provider.upsert_projections = moody  # type: ignore[method-assign]
    await looking.drain()
    assert [it.task_id for it in provider.rows] == ["a"]
    assert [note.id.partition(":")[0] for note in outbox.notes] == ["c", "c", "c"]
    await looking.drain()
    assert [it.status for it in provider.rows if it.task_id == "c"] == list(STATUSES)


async def test_a_note_that_is_no_row_is_dropped_and_told(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    outbox, provider = Outbox(row("a")), Provider()
    outbox.notes.insert(0, Outgoing("projection", "broken", b"no row"))
    outbox.notes.append(Outgoing("projection", "short", b'["a"]', 9))
    await feed(outbox, provider, clock).drain()
    assert [it.task_id for it in provider.rows] == ["a"]
    assert outbox.notes == []
    assert "broken" in caplog.text


# --- as a service -----------------------------------------------------------------------------------------------------


async def test_a_running_feed_finds_rows_by_itself_and_at_once_when_woken(clock: Clock) -> None:
    outbox, provider = Outbox(), Provider()
    async with feed(outbox, provider, clock) as running:
        await clock.sleep(5)
        outbox.put(row("a"))
        await clock.sleep(1.5)
        assert [it.task_id for it in provider.rows] == ["a"]
        outbox.put(row("b"))
        running.wake()
        await clock.sleep(0.001)
        assert [it.task_id for it in provider.rows] == ["a", "b"]


async def test_a_failing_provider_is_asked_ever_less_often(clock: Clock) -> None:
    outbox, provider = Outbox(row("a")), Provider()
    provider.failing = 10**6
    async with feed(outbox, provider, clock) as running:
        await clock.sleep(3600)
        asked = provider.attempts
        assert 60 <= asked <= 70, "once a minute in the end"
        for _ in range(5):
            running.wake()
            await clock.sleep(0.1)
        assert provider.attempts <= asked + 1, "news do not hurry it"
        provider.failing = 0
        await clock.sleep(61)
    assert [it.task_id for it in provider.rows] == ["a"]


async def test_a_store_that_is_away_is_asked_again(clock: Clock) -> None:
    outbox, provider = Outbox(row("a")), Provider()
    outbox.away = 2
    async with feed(outbox, provider, clock):
        await clock.sleep(30)
    assert [it.task_id for it in provider.rows] == ["a"]


@pytest.mark.spec("INV-10")
async def test_a_feed_stops_at_once_whatever_it_waits_for(clock: Clock) -> None:
    for provider in (Provider(), Provider()):
        outbox = Outbox(row("a"))
        provider.failing = 10
        running = feed(outbox, provider, clock)
        await running.stop()
        again = feed(outbox, provider, clock)
        await again.start()
        await clock.sleep(20)
        before = clock.monotonic()
        await again.stop()
        assert clock.monotonic() == before


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="interval"):
        Feed(Outbox().port, Provider(), VirtualClock(), interval=0.0)
