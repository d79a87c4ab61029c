"""Whatever trigger is lost, the reconciler derives from what is stored what is left to do, and does it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.stories.flows import Stage, barrier, entries, projection, steps
from tq import Entity, FlowStep, Join, TaskHandler, TaskStatus, connect
from tq.errors import ContentRefusedError
from tq.memory import MemoryQueue
from tq.model import Batch, Claim, Effects, Hop, Mark, Message, StepStatus, Verdict
from tq.ports import Backend
from tq.testing import VirtualClock
from tq.testing.harness import Harness, harness

REPAIRED = 60 + 2 * 10.0
"""Seconds within which what went quiet is looked at: open for a minute, and a round every ten seconds."""


def tamper(
    monkeypatch: pytest.MonkeyPatch, backend: Backend, change: Callable[[Effects], Effects], *, times: int = 10**9
) -> None:
    """Let every commit write something else than it was asked to."""
    commit, left = backend.commit, [times]

    async def tampered(batch: Batch, claim: Claim | None = None) -> Hop:
        if left[0] > 0 and (batch.settlements or batch.effects):
            left[0] -= 1
            settlements = [it._replace(effects=change(it.effects)) for it in batch.settlements]
            batch = replace(batch, settlements=settlements, effects=[change(it) for it in batch.effects])
        return await commit(batch, claim)

    monkeypatch.setattr(backend, "commit", tampered)


async def steal(h: Harness, queue: str) -> list[str]:
    """Take every waiting message of a queue away, as a broker that loses them would."""
    found = await h.handler.backend.queue.claim(Claim((queue,), 10_000, "thief:1", 60.0))
    await h.handler.backend.queue.ack([delivery.receipt for delivery in found.deliveries])
    return [delivery.message.id for delivery in found.deliveries]


@pytest.mark.spec("D-40", "D-41", "INV-05")
@pytest.mark.parametrize(
    ("orders", "status", "words"),
    [({"fail": "no"}, "fail", "no"), ({"final": "never"}, "fail", "never")],
    ids=["a failure", "a final one"],
)
async def test_a_forgotten_mark_is_made_from_the_record(
    url: str,
    clock: VirtualClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    orders: Any,
    status: str,
    words: str,
) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        flow = await stage.start(h.handler, [orders])
        tamper(monkeypatch, h.handler.backend, lambda effects: effects._replace(marks=()))
        await h.drain()
        monkeypatch.undo()
        assert (await h.handler.flow(flow).status()).remaining == 1
        await h.handler.start()
        with caplog.at_level(logging.WARNING):
            await clock.sleep(REPAIRED)
        assert entries(stage.only) == [(0, status, words)]
        assert f"member {flow}.0 ended as failed and was not counted; it is now" in caplog.text
        assert "looking over open flows: 1 marked" in caplog.text


@pytest.mark.spec("D-40")
async def test_a_forgotten_success_is_counted_with_its_result(
    url: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage()

    @stage.executors.task("kept", queue="media")
    async def kept(payload: int) -> int:
        return payload * 2

    async with harness(stage.executors, url=url, clock=clock) as h:
        members = [FlowStep("kept", queue="media", payload=n) for n in range(3)]
        await h.handler.start_flow(members, join=Join("join"))
        tamper(monkeypatch, h.handler.backend, lambda effects: effects._replace(marks=()))
        await h.drain()
        monkeypatch.undo()
        assert not stage.told
        await h.handler.start()
        await clock.sleep(REPAIRED)
        assert entries(stage.only) == [(0, "success", 0), (1, "success", 2), (2, "success", 4)]


@pytest.mark.spec("F-01", "D-40", "INV-05")
@pytest.mark.parametrize("how", ["last mark", "deadline"])
async def test_a_verdict_whose_join_nobody_sent_sends_it(url: str, clock: VirtualClock, how: str) -> None:
    """The barrier alone has decided; whoever asked it died before it could send the join."""
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        flow = await stage.start(h.handler, ["a"])
        await steal(h, "media")
        if how == "last mark":
            await barrier(h.handler).batch_decrement_and_check([Mark(flow, 0, StepStatus.SUCCESS, 0, b'"a"')])
        else:
            verdict = (await barrier(h.handler).get([flow]))[flow].verdict
            assert verdict is None

            await barrier(h.handler).mark_aborted(flow, Verdict.TIMED_OUT, "")
        state = (await barrier(h.handler).get([flow]))[flow]
        assert (state.confirmed, state.answer) == (False, 0)
        assert f"Its join {flow}.join (join on default) is about to be sent." in str(
            await h.handler.flow(flow).explain()
        )
        await h.handler.start()
        await clock.sleep(2)
        expected = (0, "success", "a") if how == "last mark" else (0, "open", None)
        assert entries(stage.only) == [expected]
        assert (await barrier(h.handler).get([flow]))[flow].answer == -1
        await clock.sleep(REPAIRED)
        assert len(stage.told) == 1


@pytest.mark.spec("D-40", "INV-05")
async def test_a_join_that_was_deleted_before_it_was_confirmed_is_sent_again(url: str, clock: VirtualClock) -> None:
    """Across servers: the join is written, then lost, before the barrier was told that it is on its way."""
    stage = Stage()
    backend = connect(url, clock=clock)
    assert backend.barrier is not None
    handler = TaskHandler(
        queue=MemoryQueue(clock=clock),
        store=backend.store,
        barrier=backend.barrier,
        executors=stage.executors,
        clock=clock,
    )
    flow = await stage.start(handler, ["a"])
    died = False
    confirm = backend.barrier.confirm_join

    async def dying(joins: Any) -> None:
        nonlocal died
        if not died:
            died = True
            found = await backend.store.claim(Claim(("default",), 10, "thief:1", 60.0))
            await backend.store.ack([delivery.receipt for delivery in found.deliveries])
            raise RuntimeError("died")
        await confirm(joins)

    backend.barrier.confirm_join = dying  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="died"):
        await handler.drain()
    assert not stage.told
    other = TaskHandler(
        queue=handler.backend.queue,
        store=backend.store,
        barrier=backend.barrier,
        executors=stage.executors,
        clock=clock,
    )
    await other.start()
    await clock.sleep(60)
    assert entries(stage.only) == [(0, "success", "a")]
    assert (await other.flow(flow).status()).verdict == "completed"
    await handler.kill()
    await other.close()
    await backend.close()


@pytest.mark.spec("D-47", "INV-05")
async def test_a_step_that_is_nowhere_is_called_lost_after_an_hour(
    url: str, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        flow = await h.handler.start_flow(steps("a", "b"), join=Join("join"), entity=Entity("Item", "i-1"))
        assert await steal(h, "media") == [f"{flow}.0", f"{flow}.1"]
        assert "is nowhere to be found and counts as failed, as lost, from" in str(await h.handler.flow(flow).explain())
        await h.handler.start()
        await clock.sleep(3590)
        assert not stage.told
        await clock.sleep(30)
        assert [it[:2] for it in entries(stage.only)] == [(0, "fail"), (1, "fail")]
        assert "lost" in entries(stage.only)[0][2]
        row = await projection(h.handler, flow)
        assert row is not None
        assert row.status is TaskStatus.EXECUTED
        assert "counts as failed: lost" in caplog.text


@pytest.mark.spec("D-40")
async def test_steps_of_a_wide_flow_that_are_nowhere_are_written_again(url: str, clock: VirtualClock) -> None:
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        flow = await stage.start(h.handler, list(range(700)))
        await h.handler.queue("media").pause()
        await h.drain()
        await h.handler.queue("media").resume()
        stolen = await steal(h, "media")
        assert len(stolen) == 700
        await h.handler.start()
        await clock.sleep(REPAIRED)
        assert entries(stage.only) == [(number, "success", number) for number in range(700)]
        assert set(stage.runs.values()) == {1}
        assert (await h.handler.flow(flow).status()).succeeded == 700


@pytest.mark.spec("D-47")
@pytest.mark.parametrize("body", [b"garbage", b'{"v":999}\nnull'], ids=["garbage", "a format of tomorrow"])
async def test_a_step_that_cannot_be_read_counts_as_failed(
    url: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    """Who cannot read a task cannot know its flow; its dead letter is found."""
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock, unknown_grace=100) as h:

        def spoil(message: Message) -> Message:
            return message._replace(body=body) if message.id.endswith(".1") else message

        tamper(
            monkeypatch,
            h.handler.backend,
            lambda effects: effects._replace(messages=tuple(map(spoil, effects.messages))),
            times=1,
        )
        await stage.start(h.handler, ["a", "b"])
        await h.handler.start()
        await clock.sleep(400)
        first, second = entries(stage.only)
        assert first == (0, "success", "a")
        assert second[:2] == (1, "fail")


@pytest.mark.spec("F-28", "INV-05")
async def test_several_reconcilers_do_everything_once(
    url: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage()
    backend = connect(url, clock=clock)
    workers = [TaskHandler.on(backend, stage.executors, clock=clock) for _ in range(3)]
    flows = [await stage.start(workers[0], [{"fail": "no"}]) for _ in range(20)]
    timed = [await stage.start(workers[0], [{"sleep": 1e5}], timeout=30) for _ in range(20)]
    tamper(monkeypatch, backend, lambda effects: effects._replace(marks=()), times=1)
    for worker in workers:
        await worker.start()
    await clock.sleep(2 * REPAIRED)
    monkeypatch.undo()
    assert sorted(told["flow_id"] for told in stage.told) == sorted([*flows, *timed])
    for worker in workers:
        await worker.kill()
    await backend.close()


@pytest.mark.spec("D-41")
async def test_trouble_in_one_flow_stays_there_and_is_tried_again(
    url: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One plan cannot be spread; the flows beside it go on, and it goes on later."""
    stage = Stage()
    async with harness(stage.executors, url=url, clock=clock) as h:
        wide = await stage.start(h.handler, list(range(600)))
        commit, trouble = h.handler.backend.commit, [True]

        async def refusing(batch: Batch, claim: Claim | None = None) -> Hop:
            if trouble[0] and any(spread[0] == wide for effects in batch.effects for spread in effects.spreads):
                raise ContentRefusedError("not now")
            return await commit(batch, claim)

        monkeypatch.setattr(h.handler.backend, "commit", refusing)
        await h.handler.start()
        other = await stage.start(h.handler, ["a"], timeout=5)
        late = await stage.start(h.handler, [{"sleep": 1e4}], timeout=5)
        await clock.sleep(10)
        assert {told["flow_id"] for told in stage.told} == {other, late}
        assert f"flow {wide} could not be carried on" in caplog.text
        trouble[0] = False
        await clock.sleep(10)
        assert len(stage.told) == 3
